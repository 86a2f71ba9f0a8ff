/*
 * The workload of the comparison: one operation of the kernel or the processor at a time.
 *
 *     bench OP [REPETITIONS]       bench list
 *
 * Each operation runs in a loop, timed as a whole, repeated; printed are
 *     figure NAME VALUE UNIT       what was timed (differs from run to run)
 *     check VALUE                  the result of the computation (the same everywhere)
 * Times are of CLOCK_MONOTONIC; `start` prints that clock at its first instruction, for the host.
 * Files are made in $BENCH_DIR, default /tmp. Static, so that every arm runs the same bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MAX_REPETITIONS 1000

static volatile uint64_t sink;
static char *self;

static void die(const char *what)
{
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* ---- processor and memory ------------------------------------------------------------------ */

static uint64_t op_integer(unsigned n)
{
    uint64_t x = 88172645463325252ULL;
    while (n--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static uint64_t op_float(unsigned n)
{
    volatile double start = 1.0;
    double x = start;
    while (n--)
        x = x * 0.999999 + 0.000001;
    return (uint64_t)(x * 1e9);
}

static char *from, *to;
#define COPY_BYTES (4UL << 20)

static uint64_t op_copy(unsigned n)
{
    if (!from) {
        from = malloc(COPY_BYTES);
        to = malloc(COPY_BYTES);
        memset(from, 7, COPY_BYTES);
        memset(to, 1, COPY_BYTES);
    }
    for (unsigned i = 0; i < n; i++) {
        memcpy(to, from, COPY_BYTES);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    return (uint64_t)to[COPY_BYTES - 1];
}

#define CHASE_WORDS (4UL << 20) /* 32 MiB of 8-byte links */

static uint64_t op_chase(unsigned n)
{
    static uint64_t *next;
    if (!next) {
        next = malloc(CHASE_WORDS * sizeof(*next));
        /* A full-period congruential sequence visits every slot once: no shuffle is needed. */
        for (uint64_t i = 0; i < CHASE_WORDS; i++)
            next[i] = (i * 1664525UL + 1013904223UL) & (CHASE_WORDS - 1);
    }
    uint64_t at = 0;
    while (n--)
        at = next[at];
    return at;
}

/* ---- the kernel ---------------------------------------------------------------------------- */

static uint64_t op_syscall(unsigned n)
{
    while (n--)
        sink += (uint64_t)syscall(SYS_getppid) & 0;
    return n + 1;
}

static uint64_t op_clock(unsigned n)
{
    while (n--)
        sink += now_ns() & 0;
    return n + 1;
}

static uint64_t op_read(unsigned n)
{
    char byte;
    uint64_t sum = 0;
    int fd = open("/dev/zero", O_RDONLY);
    if (fd < 0)
        die("/dev/zero");
    while (n--)
        sum += (uint64_t)read(fd, &byte, 1);
    close(fd);
    return sum;
}

static uint64_t op_fault(unsigned n)
{
    char *area = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        die("mmap");
    madvise(area, n * PAGE, MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < n; i++)
        area[i * PAGE] = 1;
    munmap(area, n * PAGE);
    return n;
}

static uint64_t op_mmap(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char *area = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED)
            die("mmap");
        area[0] = 1;
        munmap(area, 16 * PAGE);
    }
    return n;
}

static uint64_t reap(pid_t pid)
{
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("fork");
    return (uint64_t)WEXITSTATUS(status);
}

static uint64_t op_fork(unsigned n)
{
    uint64_t sum = 0;
    while (n--) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(1);
        sum += reap(pid);
    }
    return sum;
}

static pid_t start_self(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execl(self, self, "exit", (char *)NULL);
        _exit(111);
    }
    return pid;
}

static uint64_t op_exec(unsigned n)
{
    uint64_t sum = 0;
    while (n--)
        sum += reap(start_self());
    return sum;
}

static uint64_t op_pipe(unsigned n)
{
    int there[2], back[2];
    char byte = 1;
    uint64_t sum = 0;

    if (pipe(there) || pipe(back))
        die("pipe");
    pid_t pid = fork();
    if (pid == 0) {
        for (unsigned i = 0; i < n; i++)
            if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
                _exit(2);
        _exit(1);
    }
    for (unsigned i = 0; i < n; i++)
        if (write(there[1], &byte, 1) == 1)
            sum += (uint64_t)read(back[0], &byte, 1);
    reap(pid);
    close(there[0]), close(there[1]), close(back[0]), close(back[1]);
    return sum;
}

static int scratch_file(void)
{
    char path[4096];
    const char *dir = getenv("BENCH_DIR");
    snprintf(path, sizeof(path), "%s/bench-XXXXXX", dir ? dir : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0)
        die(path);
    unlink(path);
    return fd;
}

static uint64_t write_blocks(unsigned n, int sync)
{
    static char block[PAGE];
    uint64_t sum = 0;
    int fd = scratch_file();
    for (unsigned i = 0; i < n; i++) {
        sum += (uint64_t)pwrite(fd, block, PAGE, (off_t)((i % 256) * PAGE));
        if (sync && fdatasync(fd))
            die("fdatasync");
    }
    close(fd);
    return sum;
}

static uint64_t op_write(unsigned n) { return write_blocks(n, 0); }
static uint64_t op_fdatasync(unsigned n) { return write_blocks(n, 1); }

static uint64_t op_sleep(unsigned n)
{
    struct timespec pause = {0, 1000000};
    for (unsigned i = 0; i < n; i++)
        nanosleep(&pause, NULL);
    return n;
}

/* ---- the network over loopback ------------------------------------------------------------ */

static int listener(struct sockaddr_in *address)
{
    socklen_t size = sizeof(*address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(address, 0, sizeof(*address));
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)address, size) || listen(fd, 64) ||
        getsockname(fd, (struct sockaddr *)address, &size))
        die("listen on loopback");
    return fd;
}

static int connect_to(const struct sockaddr_in *address)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)))
        die("connect over loopback");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static uint64_t op_tcp(unsigned n)
{
    struct sockaddr_in address;
    char byte = 1;
    uint64_t sum = 0;
    int one = 1, server = listener(&address);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = accept(server, NULL, NULL);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
            ;
        _exit(1);
    }
    int fd = connect_to(&address);
    for (unsigned i = 0; i < n; i++)
        if (write(fd, &byte, 1) == 1)
            sum += (uint64_t)read(fd, &byte, 1);
    close(fd);
    reap(pid);
    close(server);
    return sum;
}

#define STREAM_BYTES 65536UL

static uint64_t op_stream(unsigned n)
{
    static char block[STREAM_BYTES];
    struct sockaddr_in address;
    int server = listener(&address);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = accept(server, NULL, NULL);
        for (unsigned i = 0; i < n; i++)
            for (ulong sent = 0; sent < STREAM_BYTES;) {
                ssize_t count = write(fd, block + sent, STREAM_BYTES - sent);
                if (count <= 0)
                    _exit(2);
                sent += (ulong)count;
            }
        _exit(1);
    }
    int fd = connect_to(&address);
    uint64_t sum = 0;
    for (ssize_t count; (count = read(fd, block, STREAM_BYTES)) > 0;)
        sum += (uint64_t)count;
    close(fd);
    reap(pid);
    close(server);
    return sum;
}

/* A request server under load: CLIENTS connections at once, one process answers them by poll, a
 * request costs a little work and a 512-byte answer. */
#define CLIENTS 8
#define REQUEST 64
#define ANSWER 512

static void answer_requests(int server)
{
    struct pollfd watched[CLIENTS];
    char request[REQUEST], answer[ANSWER];
    int open_clients = CLIENTS;

    for (int i = 0; i < CLIENTS; i++)
        watched[i] = (struct pollfd){.fd = accept(server, NULL, NULL), .events = POLLIN};
    while (open_clients && poll(watched, CLIENTS, -1) > 0)
        for (int i = 0; i < CLIENTS; i++) {
            if (!watched[i].revents)
                continue;
            if (recv(watched[i].fd, request, REQUEST, MSG_WAITALL) != REQUEST) {
                close(watched[i].fd);
                watched[i].fd = -1;
                watched[i].revents = 0;
                open_clients--;
                continue;
            }
            memset(answer, (int)(op_integer(500) & 0x7f), ANSWER);
            if (send(watched[i].fd, answer, ANSWER, MSG_NOSIGNAL) != ANSWER)
                open_clients--;
        }
    _exit(1);
}

static uint64_t op_server(unsigned n)
{
    struct sockaddr_in address;
    int server = listener(&address), clients[CLIENTS];
    char request[REQUEST] = "GET /", answer[ANSWER];
    uint64_t sum = 0;
    pid_t pid = fork();
    if (pid == 0)
        answer_requests(server);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_to(&address);
    for (unsigned sent = 0; sent < n; sent += CLIENTS) {
        for (int i = 0; i < CLIENTS; i++)
            sum += send(clients[i], request, REQUEST, MSG_NOSIGNAL) == REQUEST;
        for (int i = 0; i < CLIENTS; i++)
            sum += recv(clients[i], answer, ANSWER, MSG_WAITALL) == ANSWER;
    }
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    reap(pid);
    close(server);
    return sum;
}

/* ---- the table ------------------------------------------------------------------------------ */

struct op {
    const char *name;
    uint64_t (*run)(unsigned n);
    unsigned n;
    int repetitions;
    const char *text;
};

static const struct op ops[] = {
    {"integer", op_integer, 2000000, 9, "xorshift step"},
    {"float", op_float, 1000000, 9, "multiply-add"},
    {"copy", op_copy, 40, 9, "memcpy of 4 MiB"},
    {"chase", op_chase, 500000, 9, "dependent load over 32 MiB"},
    {"syscall", op_syscall, 50000, 9, "getppid"},
    {"clock", op_clock, 50000, 9, "clock_gettime"},
    {"read", op_read, 50000, 9, "read of 1 byte of /dev/zero"},
    {"fault", op_fault, 2000, 9, "first touch of an anonymous page"},
    {"mmap", op_mmap, 2000, 9, "mmap, touch, munmap of 64 KiB"},
    {"fork", op_fork, 50, 9, "fork, exit, wait"},
    {"exec", op_exec, 20, 9, "vfork, execve, exit, wait"},
    {"pipe", op_pipe, 1000, 9, "round trip over two pipes"},
    {"write", op_write, 2000, 9, "write of 4 KiB"},
    {"fdatasync", op_fdatasync, 8, 5, "write of 4 KiB and fdatasync"},
    {"sleep", op_sleep, 20, 3, "nanosleep of 1 ms"},
    {"tcp", op_tcp, 1000, 5, "round trip of 1 byte over loopback"},
    {"stream", op_stream, 200, 5, "64 KiB over loopback"},
    {"server", op_server, 2000, 5, "request to a server with 8 clients"},
};
#define OPS (sizeof(ops) / sizeof(ops[0]))

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int run(const struct op *op, int repetitions)
{
    static double each[MAX_REPETITIONS];
    uint64_t check = op->run(op->n / 10 + 1); /* warm up */
    for (int i = 0; i < repetitions; i++) {
        uint64_t start = now_ns();
        check = op->run(op->n);
        each[i] = (double)(now_ns() - start) / op->n;
    }
    qsort(each, (size_t)repetitions, sizeof(each[0]), ascending);
    printf("figure %s_min %.2f ns\n", op->name, each[0]);
    printf("figure %s %.2f ns\n", op->name, each[repetitions / 2]);
    printf("check %llu\n", (unsigned long long)check);
    return 0;
}

/* The time of day too: a sandbox with a kernel of its own need not share CLOCK_MONOTONIC. */
static int started(uint64_t first)
{
    struct timespec day;
    clock_gettime(CLOCK_REALTIME, &day);
    printf("figure first_instruction %llu ns\n", (unsigned long long)first);
    printf("figure first_realtime %lld%09ld ns\ncheck 1\n", (long long)day.tv_sec, day.tv_nsec);
    return 0;
}

static void end(int number)
{
    _exit(number != SIGTERM);
}

/* Hold touched memory until SIGTERM, which the first process of a PID namespace has to handle. */
static void __attribute__((noreturn)) hold(unsigned long size)
{
    char *area = malloc(size);
    if (!area || signal(SIGTERM, end) == SIG_ERR)
        die("hold memory");
    memset(area, 1, size);
    __asm__ volatile("" : : "r"(area) : "memory"); /* or the compiler drops what nobody reads */
    puts("check 1");
    fflush(stdout);
    for (;;)
        pause();
}

/* ---- trials: what `pycontain bench claims` lets go wrong ------------------------------------- */

static int crash(unsigned long unused)
{
    static volatile int *volatile nowhere;
    (void)unused;
    return *nowhere;
}

static int hog(unsigned long mebibytes)
{
    for (unsigned long i = 0; i < mebibytes; i++) {
        char *area = malloc(1UL << 20);
        if (!area)
            return 1;
        memset(area, (int)i, 1UL << 20);
        __asm__ volatile("" : : "r"(area) : "memory");
    }
    return puts("check 1") < 0;
}

/* Start processes until it is refused; the number is what the limit leaves besides this one. */
static int bomb(unsigned long most)
{
    static pid_t pids[4096];
    unsigned long started = 0;
    for (; started < most && started < sizeof(pids) / sizeof(pids[0]); started++) {
        pids[started] = fork();
        if (pids[started] == 0)
            for (;;)
                pause();
        if (pids[started] < 0)
            break;
    }
    printf("check %lu\n", started);
    for (unsigned long i = 0; i < started; i++)
        kill(pids[i], SIGKILL);
    return 0;
}

static int spin(unsigned long milliseconds)
{
    struct timespec used;
    uint64_t start = now_ns();
    while (now_ns() - start < milliseconds * 1000000ULL)
        sink += op_integer(1000);
    double wall = (double)(now_ns() - start);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    printf("share %.3f 1\n", ((double)used.tv_sec * 1e9 + (double)used.tv_nsec) / wall);
    return 0;
}

static int leave(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0)
        die(path);
    return close(fd);
}

static int panic(void)
{
    int fd = open("/proc/sysrq-trigger", O_WRONLY);
    if (fd < 0 || write(fd, "c", 1) != 1)
        die("/proc/sysrq-trigger");
    return 1;
}

struct trial {
    const char *name;
    int (*run)(unsigned long number);
};

static const struct trial trials[] = {{"crash", crash}, {"hog", hog}, {"bomb", bomb}, {"spin", spin}};

static int try_out(int argc, char **argv)
{
    unsigned long number = strtoul(argc > 2 ? argv[2] : "1", NULL, 10);
    for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++)
        if (!strcmp(argv[1], trials[i].name))
            return trials[i].run(number);
    if (!strcmp(argv[1], "leave") && argc > 2)
        return leave(argv[2]);
    if (!strcmp(argv[1], "panic"))
        return panic();
    fprintf(stderr, "bench: no operation %s; try: bench list\n", argv[1]);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t first = now_ns();
    const char *name = argc > 1 ? argv[1] : "list";

    self = argv[0]; /* every arm gives an absolute path */
    if (!strcmp(name, "exit"))
        _exit(1);
    if (!strcmp(name, "start"))
        return started(first);
    if (!strcmp(name, "touch"))
        hold(strtoul(argc > 2 ? argv[2] : "1", NULL, 10) << 20);
    for (size_t i = 0; i < OPS; i++) {
        if (!strcmp(name, "list"))
            printf("%-10s %s\n", ops[i].name, ops[i].text);
        if (strcmp(name, ops[i].name))
            continue;
        int repetitions = argc > 2 ? atoi(argv[2]) : ops[i].repetitions;
        if (repetitions < 1 || repetitions > MAX_REPETITIONS)
            repetitions = ops[i].repetitions;
        return run(&ops[i], repetitions);
    }
    if (!strcmp(name, "list"))
        return 0;
    return try_out(argc, argv);
}
