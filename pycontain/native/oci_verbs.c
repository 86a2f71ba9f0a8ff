/* The command `pycontain-oci`; start, kill and delete of a plain container without an interpreter.
 *
 * Starting Python takes longer than these verbs do. `create` writes a file "plain" beside state.json
 * when nothing unusual belongs to the container (no hooks to run; pause and update remove it):
 *
 *     pid start-time
 *     cgroup directory      one a line
 *
 * Whatever is not plain, not understood or not as expected is left to Python, by execve, before
 * anything was changed or at a point from where Python's own verb goes on. No message is written here. */
#include "launch.h"
#include "restore.h"

enum { ID_LENGTH = 1024, WAIT_MS = 10000, PLAIN_BYTES = 8192, LAST_SIGNAL = 64 };
enum { KILL = 9, TERM = 15, ENOENT_ = 2, ESRCH_ = 3, EBUSY_ = 16, POLLIN_ = 1 };
enum { O_PATH_ = 010000000, O_NONBLOCK_ = 04000, AT_REMOVEDIR_ = 0x200, AT_SYMLINK_NOFOLLOW_ = 0x100 };
#if defined(__aarch64__)
enum { O_DIRECTORY_ = 040000 };
#else
enum { O_DIRECTORY_ = 0200000 };
#endif

static const char CODE[] = ENTER("pycontain.cli.oci", "entry");

struct container {
    int home;       /* its directory */
    uint64_t pid;
    uint64_t start; /* clock ticks since boot */
    char plain[PLAIN_BYTES];
    char *cgroups;  /* lines, inside `plain` */
};

struct pollfd {
    int32_t fd;
    int16_t events;
    int16_t revents;
};

static int equal(const char *a, const char *b)
{
    return starts_with(a, b) && !a[length_of(b)];
}

static char *find_char(char *s, char wanted)
{
    for (; *s; s++)
        if (*s == wanted)
            return s;
    return 0;
}

/* Read a decimal number and move *s behind it; 0 when there is none or it is too long. */
static int number_at(const char **s, uint64_t *number)
{
    const char *begin = *s;
    for (*number = 0; **s >= '0' && **s <= '9' && *s - begin < 19; (*s)++)
        *number = *number * 10 + (uint64_t)(**s - '0');
    return *s > begin && !(**s >= '0' && **s <= '9');
}

static int open_at(int at, const char *path, int flags)
{
    return (int)sys6(__NR_openat, at, (long)path, flags | O_CLOEXEC_, 0, 0, 0);
}

/* Read a small file and close it; its size, or a negative errno. */
static long read_and_close(int fd, char *into, long room)
{
    long size = sys(__NR_read, fd, into, room - 1);
    sys(__NR_close, fd, 0, 0);
    if (size >= 0)
        into[size] = 0;
    return size;
}

/* Wait until one of the descriptors is readable; 0 when that takes too long. */
static int wait_for(struct pollfd *fds, int count)
{
    int64_t limit[2] = {WAIT_MS / 1000, 0};
    return sys6(__NR_ppoll, (long)fds, count, (long)limit, 0, 8, 0) > 0;
}

static int id_is_good(const char *id)
{
    size_t n = 0;
    for (; id[n]; n++) {
        char c = id[n], lower = c | 0x20;
        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '+' &&
            c != '.' && c != '-')
            return 0;
    }
    return n && n <= ID_LENGTH && !equal(id, ".") && !equal(id, "..");
}

/* The value of a global option that has one, or NULL; moves *n behind it. */
static char *value_of(char **argv, long argc, long *n, const char *name)
{
    size_t length = length_of(name);

    if (!starts_with(argv[*n], name))
        return 0;
    if (argv[*n][length] == '=')
        return argv[(*n)++] + length + 1;
    if (argv[*n][length] || *n + 1 >= argc)
        return 0;
    *n += 2;
    return argv[*n - 1];
}

static int load(struct container *found, const char *root, const char *id)
{
    char path[PATH_BYTES];
    const char *at = found->plain;
    int fd;
    long size;

    if (!join(path, sizeof path, root, "/", id, ""))
        return 0;
    found->home = open_at(AT_FDCWD_, path, O_PATH_ | O_DIRECTORY_ | O_NOFOLLOW_);
    if (found->home < 0)
        return 0;
    fd = open_at(found->home, "plain", O_RDONLY_ | O_NOFOLLOW_);
    if (fd < 0)
        return 0;
    size = read_and_close(fd, found->plain, PLAIN_BYTES);
    if (size <= 0 || size == PLAIN_BYTES - 1)
        return 0;
    if (!number_at(&at, &found->pid) || *at++ != ' ' || !number_at(&at, &found->start) ||
        *at != '\n')
        return 0;
    found->cgroups = found->plain + (at + 1 - found->plain);
    return found->pid > 0;
}

/* 1 lives, 0 is gone (a zombie is), -1 is not known. */
static int lives(const struct container *found)
{
    char path[64], digits[24], text[PATH_BYTES], *digit = digits + sizeof digits - 1;
    const char *field = 0;
    uint64_t start;
    long size;
    int fd;

    *digit = 0;
    for (uint64_t pid = found->pid; pid; pid /= 10)
        *--digit = (char)('0' + pid % 10);
    join(path, sizeof path, "/proc/", digit, "/stat", "");
    fd = open_at(AT_FDCWD_, path, O_RDONLY_);
    if (fd < 0)
        return fd == -ENOENT_ ? 0 : -1;
    size = read_and_close(fd, text, sizeof text);
    if (size < 0)
        return size == -ESRCH_ ? 0 : -1;
    /* The name in field 2 may hold anything: count from its last bracket. */
    for (const char *c = text; *c; c++)
        if (*c == ')')
            field = c + 1;
    if (!field || field[0] != ' ' || !field[1])
        return -1;
    char state = field[1];
    for (int n = 3; n < 22; n++) {
        for (field++; *field && *field != ' '; field++)
            ;
        if (!*field)
            return -1;
    }
    field++;
    if (!number_at(&field, &start))
        return -1;
    return start == found->start && state != 'Z' && state != 'X';
}

/* A pidfd of the living init, or -1. */
static int open_init(const struct container *found)
{
    int pidfd = (int)sys(__NR_pidfd_open, found->pid, 0, 0);

    if (pidfd >= 0 && lives(found) != 1) {
        sys(__NR_close, pidfd, 0, 0);
        return -1;
    }
    return pidfd;
}

static int signal_init(int pidfd, long number)
{
    return !sys6(__NR_pidfd_send_signal, pidfd, number, 0, 0, 0, 0);
}

static int release(struct container *found)
{
    int pidfd, fifo;
    char byte;

    pidfd = open_init(found);
    if (pidfd < 0)
        return 0;
    fifo = open_at(found->home, "exec.fifo", O_RDONLY_ | O_NONBLOCK_ | O_NOFOLLOW_);
    if (fifo < 0)
        return 0;
    struct pollfd ready[] = {{fifo, POLLIN_, 0}, {pidfd, POLLIN_, 0}};
    if (!wait_for(ready, 2) || sys(__NR_read, fifo, &byte, 1) != 1)
        return 0;
    return !sys(__NR_unlinkat, found->home, "exec.fifo", 0);
}

static int send(struct container *found, const char *text)
{
    uint64_t number = 0;
    int pidfd;

    if (equal(text, "KILL") || equal(text, "SIGKILL"))
        number = KILL;
    else if (equal(text, "TERM") || equal(text, "SIGTERM"))
        number = TERM;
    else if (!number_at(&text, &number) || *text)
        return 0;
    if (number < 1 || number > LAST_SIGNAL)
        return 0;
    pidfd = open_init(found);
    return pidfd >= 0 && signal_init(pidfd, (long)number);
}

static int remove_cgroups(struct container *found)
{
    for (char *line = found->cgroups, *end; *line; line = end + 1) {
        int64_t pause[2] = {0, 500000};
        long result;

        end = find_char(line, '\n');
        if (!end)
            return 0;
        *end = 0;
        /* An exiting process leaves its cgroup a moment after poll() says that it exited. */
        for (int attempt = 0;; attempt++) {
            result = sys(__NR_unlinkat, AT_FDCWD_, line, AT_REMOVEDIR_);
            if (!result || result == -ENOENT_)
                break;
            if (result != -EBUSY_ || attempt == 20)
                return 0;
            sys(__NR_nanosleep, pause, 0, 0);
        }
    }
    return 1;
}

static int delete(struct container *found, int force)
{
    static const char *const files[] = {
        "exec.fifo", "config.json", "plain", "planned", "state.json"};
    int alive = lives(found);

    if (alive < 0)
        return 0;
    if (alive) {
        int pidfd;

        if (!force && sys6(__NR_faccessat2, found->home, (long)"exec.fifo", F_OK_,
                           AT_SYMLINK_NOFOLLOW_, 0, 0))
            return 0;
        pidfd = open_init(found);
        if (pidfd < 0 || !signal_init(pidfd, KILL))
            return 0;
        struct pollfd gone = {pidfd, POLLIN_, 0};
        if (!wait_for(&gone, 1))
            return 0;
        sys(__NR_close, pidfd, 0, 0);
    }
    if (!remove_cgroups(found))
        return 0;
    for (size_t n = 0; n < sizeof files / sizeof *files; n++) {
        long result = sys(__NR_unlinkat, found->home, files[n], 0);
        if (result && result != -ENOENT_)
            return 0;
    }
    return 1;
}

/* The value of an environment variable, "" when there is none. */
static const char *environ_of(char **environ, const char *name)
{
    size_t length = length_of(name);

    for (; *environ; environ++)
        if (starts_with(*environ, name) && (*environ)[length] == '=')
            return *environ + length + 1;
    return "";
}

/* Whether this process lives in another user namespace than the host's first. */
static int in_user_namespace(void)
{
    char text[256];
    const char *at = text;
    uint64_t number;
    int n;

    if (read_and_close(open_at(AT_FDCWD_, "/proc/self/uid_map", O_RDONLY_), text, sizeof text) < 0)
        return 0;
    for (n = 0; n < 3; n++) {
        while (*at == ' ')
            at++;
        if (!number_at(&at, &number) || number != (n < 2 ? 0 : 4294967295u))
            return 1;
    }
    return 0;
}

/* Where state is without --root, as _root() of cli/oci_main.py has it; NULL leaves it to Python. */
static const char *default_root(char **environ)
{
    static char path[PATH_BYTES];
    const char *base = environ_of(environ, "XDG_RUNTIME_DIR");
    int root = !sys(__NR_geteuid, 0, 0, 0);

    if (root && (!*base || equal(environ_of(environ, "USER"), "root") || !in_user_namespace()))
        return "/run/pycontain-oci";
    return *base && join(path, sizeof path, base, "/pycontain-oci", "", "") ? path : 0;
}

/* Carry out one of the three verbs; 0 leaves it to Python. */
static int carry_out(long argc, char **argv)
{
    static struct container found;
    const char *root = 0, *verb, *id;
    char path[PATH_BYTES];
    long n = 1;
    int force = 0;

    while (n < argc && argv[n][0] == '-') {
        char *value = value_of(argv, argc, &n, "--root");

        if (value)
            root = value;
        else if (!value_of(argv, argc, &n, "--log-format") && !value_of(argv, argc, &n, "--log"))
            return 0;
    }
    if (!root)
        root = default_root(argv + argc + 1);
    if (!root || root[0] != '/' || argc - n < 2)
        return 0;
    verb = argv[n++];
    if (equal(verb, "delete") && (equal(argv[n], "--force") || equal(argv[n], "-f")))
        force = 1, n++;
    if (n >= argc || !id_is_good(argv[n]))
        return 0;
    id = argv[n++];
    if (!equal(verb, "start") && !equal(verb, "kill") && !equal(verb, "delete"))
        return 0;
    if (!load(&found, root, id))
        return 0;
    if (equal(verb, "start") && n == argc)
        return release(&found);
    if (equal(verb, "kill") && n + 1 == argc)
        return send(&found, argv[n]);
    return equal(verb, "delete") && n == argc && delete(&found, force) &&
           join(path, sizeof path, root, "/", id, "") &&
           !sys(__NR_unlinkat, AT_FDCWD_, path, AT_REMOVEDIR_);
}

ENTRY_POINT

__attribute__((noreturn)) void start(long *stack)
{
    char **argv = (char **)(stack + 1);

    if (carry_out(stack[0], argv))
        sys(__NR_exit_group, 0, 0, 0);
    start_interpreter("pycontain-oci", CODE, stack[0], argv);
}
