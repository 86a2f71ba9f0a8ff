/* What a detached container leaves behind on the host: the parent of its init process.
 *
 *     monitor --pid P [--pidfd FD] [--stdout FD] [--stderr FD] [--console FD]
 *             [--log PATH [--max-size BYTES] [--max-files N]] -- NEXT ARGUMENT...
 *
 * Copies what the container writes into PATH, one JSON object a line ({"log","stream","time"}, as
 * docker's json-file driver), rotated to PATH.1 ... when BYTES are reached; reaps; after the end of
 * process P and of its output execs NEXT with the raw wait status (wait(2); -1 when P is not our
 * child) appended as the last argument. The caller is P's parent and execs into this program.
 * FDs are inherited; without --log what is written is dropped. Static, without libc. */
#include "raw.h"

enum { LINE_BYTES = 16384, OUT_BYTES = 6 * LINE_BYTES + 256, STREAMS = 2, CHLD = 17 };
enum { IDLE_MS = 500, DRAIN_MS = 5000 };  /* how long output is awaited after P's end */
enum { HUP = 1, INT = 2, QUIT = 3, PIPE = 13, TTIN = 21, TTOU = 22 };
enum { EINTR_ = 4, EAGAIN_ = 11 };

ENTRY_POINT

struct stream {
    int fd;
    const char *name;
    size_t used;
    char line[LINE_BYTES];
};

struct log {
    const char *path;
    int fd;
    uint64_t size, max_size, max_files;
};

static struct stream streams[STREAMS]; /* set by start: what is not initialised is not in the file */
static struct log out;
static char json[OUT_BYTES];
static char name_from[4096 + 24], name_to[4096 + 24];

static size_t put(char *to, size_t at, const char *text)
{
    while (*text)
        to[at++] = *text++;
    return at;
}

static size_t put_number(char *to, size_t at, uint64_t value, int width)
{
    char digits[24];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) || n < width);
    while (n)
        to[at++] = digits[--n];
    return at;
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (uint64_t)(*text++ - '0');
    return value;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static uint64_t now_ms(void)
{
    int64_t now[2];
    sys(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, now, 0);
    return (uint64_t)(now[0] * 1000 + now[1] / 1000000);
}

/* RFC 3339 in UTC. Days to a date: the year is counted from March, so a leap day is its last. */
static size_t put_time(char *to, size_t at)
{
    int64_t now[2];
    sys(__NR_clock_gettime, 0 /* CLOCK_REALTIME */, now, 0);
    uint64_t second = (uint64_t)now[0] % 86400, day = (uint64_t)now[0] / 86400 + 719468;
    uint64_t era = day / 146097, of_era = day % 146097;
    uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    uint64_t month = (5 * of_year + 2) / 153;
    uint64_t of_month = of_year - (153 * month + 2) / 5 + 1;
    month = month < 10 ? month + 3 : month - 9;
    at = put_number(to, at, year + era * 400 + (month <= 2), 4);
    at = put_number(to, put(to, at, "-"), month, 2);
    at = put_number(to, put(to, at, "-"), of_month, 2);
    at = put_number(to, put(to, at, "T"), second / 3600, 2);
    at = put_number(to, put(to, at, ":"), second / 60 % 60, 2);
    at = put_number(to, put(to, at, ":"), second % 60, 2);
    at = put_number(to, put(to, at, "."), (uint64_t)now[1], 9);
    return put(to, at, "Z");
}

/* Length of the UTF-8 sequence at `text` (RFC 3629), 0 when it is not one; *cut when it may be the
 * beginning of one that does not end within `left` bytes. */
static size_t utf8(const unsigned char *text, size_t left, int *cut)
{
    unsigned char first = text[0], low = 0x80, high = 0xbf;
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3
                  : first < 0xf5 ? 4 : 0;
    if (first == 0xe0)
        low = 0xa0;
    if (first == 0xed)
        high = 0x9f;
    if (first == 0xf0)
        low = 0x90;
    if (first == 0xf4)
        high = 0x8f;
    for (size_t n = 1; n < length; n++, low = 0x80, high = 0xbf) {
        if (n == left) {
            *cut = 1;
            return 0;
        }
        if (text[n] < low || text[n] > high)
            return 0;
    }
    return length;
}

static size_t put_escaped(char *to, size_t at, const char *text, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t n = 0; n < size;) {
        unsigned char c = (unsigned char)text[n];
        int cut = 0;
        size_t length = utf8((const unsigned char *)text + n, size - n, &cut);
        if (!length) {
            at = put(to, at, "\\ufffd");
            n++;
        } else if (c == '"' || c == '\\') {
            to[at++] = '\\';
            to[at++] = text[n++];
        } else if (c == '\n' || c == '\r' || c == '\t') {
            at = put(to, at, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
            n++;
        } else if (c < 0x20 || c == 0x7f) {
            at = put(to, at, "\\u00");
            to[at++] = hex[c >> 4];
            to[at++] = hex[c & 15];
            n++;
        } else {
            while (length--)
                to[at++] = text[n++];
        }
    }
    return at;
}

static void numbered(char *to, uint64_t n)
{
    size_t at = put(to, 0, out.path);
    if (n)
        at = put_number(to, put(to, at, "."), n, 1);
    to[at] = 0;
}

static void open_log(int flags)
{
    /* O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC; 0640: what a container says is not for everybody */
    out.fd = (int)sys6(__NR_openat, -100, (long)out.path, 1 | 0100 | 02000 | 02000000 | flags, 0640,
                       0, 0);
    long end = out.fd < 0 ? 0 : sys(__NR_lseek, out.fd, 0, 2);
    out.size = end < 0 ? 0 : (uint64_t)end;
}

static void rotate(void)
{
    sys(__NR_close, out.fd, 0, 0);
    for (uint64_t n = out.max_files - 1; n > 0; n--) {
        numbered(name_from, n - 1);
        numbered(name_to, n);
        sys6(__NR_renameat2, -100, (long)name_from, -100, (long)name_to, 0, 0);
    }
    open_log(01000 /* O_TRUNC, for a single file */);
}

/* A line is written whole or not at all: what a full disk cut short is taken back. */
static void write_line(size_t size)
{
    if (out.fd < 0)
        return;
    if (out.max_size && out.size && out.size + size > out.max_size)
        rotate();
    for (size_t done = 0; done < size;) {
        long n = sys(__NR_write, out.fd, json + done, size - done);
        if (n == -EINTR_)
            continue;
        if (n <= 0) {
            sys(__NR_ftruncate, out.fd, out.size, 0);
            return;
        }
        done += (size_t)n;
    }
    out.size += size;
}

static void log_text(struct stream *s, size_t from, size_t size)
{
    size_t at = put(json, 0, "{\"log\":\"");
    at = put_escaped(json, at, s->line + from, size);
    at = put(json, put(json, put(json, at, "\",\"stream\":\""), s->name), "\",\"time\":\"");
    at = put(json, put_time(json, at), "\"}\n");
    write_line(at);
}

/* Bytes at the end of the buffer that begin a character whose rest has not been read. */
static size_t unfinished(const struct stream *s)
{
    for (size_t back = 1; back < 4 && back <= s->used; back++) {
        int cut = 0;
        utf8((const unsigned char *)s->line + s->used - back, back, &cut);
        if (cut)
            return back;
    }
    return 0;
}

static void log_lines(struct stream *s, int end)
{
    size_t from = 0;
    for (size_t n = 0; n < s->used; n++)
        if (s->line[n] == '\n') {
            log_text(s, from, n + 1 - from);
            from = n + 1;
        }
    size_t rest = s->used - from;
    if (rest && (end || rest == LINE_BYTES)) {
        size_t keep = end ? 0 : unfinished(s);
        log_text(s, from, rest - keep);
        from += rest - keep;
    }
    for (size_t n = from; n < s->used; n++)
        s->line[n - from] = s->line[n];
    s->used -= from;
}

static void pump(struct stream *s)
{
    long n = sys(__NR_read, s->fd, s->line + s->used, LINE_BYTES - s->used);
    if (n == -EINTR_ || n == -EAGAIN_)
        return;
    if (n > 0)
        s->used += (size_t)n;
    log_lines(s, n <= 0); /* a pty whose other end is closed reads EIO */
    if (n <= 0) {
        sys(__NR_close, s->fd, 0, 0);
        s->fd = -1;
    }
}

/* Reap every child that ended; tell whether `pid` is among them. */
static int reap(int pid, int *status)
{
    int found = 0, one;
    for (;;) {
        long done = sys6(__NR_wait4, -1, (long)&one, 1 /* WNOHANG */, 0, 0, 0);
        if (done <= 0)
            return found;
        if (done == pid) {
            *status = one;
            found = 1;
        }
    }
}

static void set_action(int signal, uint64_t handler)
{
    uint64_t action[4] = {handler, 0, 0, 0};
    sys6(__NR_rt_sigaction, signal, (long)action, 0, 8, 0, 0);
}

static void set_actions(uint64_t handler)
{
    static const int signals[] = {HUP, INT, QUIT, PIPE, TTIN, TTOU};
    for (size_t n = 0; n < sizeof signals / sizeof *signals; n++)
        set_action(signals[n], handler);
}

struct pollfd {
    int fd;
    short events, revents;
};

/* Copy until the end of process `pid` and of its output; return its wait status. */
static int watch(int pid, int pidfd, int signals)
{
    int status = -1;
    int ended = reap(pid, &status); /* the end may lie before the signal was blocked */
    uint64_t deadline = now_ms() + DRAIN_MS;
    for (;;) {
        struct pollfd fds[STREAMS + 2] = {
            {streams[0].fd, 1, 0}, {streams[1].fd, 1, 0}, {signals, 1, 0}, {ended ? -1 : pidfd, 1, 0}};
        int64_t wait[2] = {IDLE_MS / 1000, IDLE_MS % 1000 * 1000000};
        if (ended && streams[0].fd < 0 && streams[1].fd < 0)
            return status;
        long ready = sys6(__NR_ppoll, (long)fds, STREAMS + 2, ended ? (long)wait : 0, 0, 8, 0);
        /* A process outside the pid namespace may hold the pipes for ever. */
        if (ended && (ready == 0 || now_ms() > deadline))
            return status;
        if (ready < 0)
            continue;
        for (int n = 0; n < STREAMS; n++)
            if (fds[n].revents)
                pump(&streams[n]);
        if (fds[STREAMS].revents) {
            char info[128];
            sys(__NR_read, signals, info, sizeof info);
        }
        if (!ended && (fds[STREAMS].revents || fds[STREAMS + 1].revents)) {
            ended = reap(pid, &status) || fds[STREAMS + 1].revents;
            deadline = now_ms() + DRAIN_MS;
        } else if (fds[STREAMS].revents) {
            reap(pid, &status);
        }
    }
}

/* Exec NEXT; its argv is ours from `next` on, with the status in the place after the last. */
static void hand_over(char **next, char **env, int status, long left)
{
    static char text[16];
    static char *argv[4096];
    size_t at = 0;
    if (left < 1 || left > 4094)
        sys(__NR_exit_group, 125, 0, 0);
    for (long n = 0; n < left; n++)
        argv[n] = next[n];
    if (status < 0)
        at = put(text, 0, "-");
    put_number(text, at, (uint64_t)(status < 0 ? -(int64_t)status : status), 1);
    argv[left] = text;
    sys(__NR_execve, argv[0], argv, env);
    sys(__NR_exit_group, 125, 0, 0);
}

__attribute__((used, noreturn)) void start(long *stack)
{
    long argc = stack[0], n = 1;
    char **argv = (char **)(stack + 1), **env = (char **)(stack + 2 + argc);
    int pid = 0, pidfd = -1;
    streams[0].fd = streams[1].fd = out.fd = -1;
    streams[0].name = "stdout";
    streams[1].name = "stderr";
    out.max_files = 1;
    for (; n + 1 < argc && !same(argv[n], "--"); n += 2) {
        const char *value = argv[n + 1];
        if (same(argv[n], "--pid"))
            pid = (int)number(value);
        else if (same(argv[n], "--pidfd"))
            pidfd = (int)number(value);
        else if (same(argv[n], "--stdout") || same(argv[n], "--console"))
            streams[0].fd = (int)number(value);
        else if (same(argv[n], "--stderr"))
            streams[1].fd = (int)number(value);
        else if (same(argv[n], "--max-size"))
            out.max_size = number(value);
        else if (same(argv[n], "--max-files"))
            out.max_files = number(value) ? number(value) : 1;
        else if (same(argv[n], "--log"))
            out.path = value;
        else
            sys(__NR_exit_group, 125, 0, 0);
    }
    size_t length = 0;
    while (out.path && out.path[length])
        length++;
    if (!pid || length > 4095)
        sys(__NR_exit_group, 125, 0, 0);
    uint64_t child = 1ull << (CHLD - 1), before;
    sys6(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&child, (long)&before, 8, 0, 0);
    set_action(CHLD, 0); /* an ignored SIGCHLD would discard the status */
    set_actions(1);
    int signals = (int)sys6(__NR_signalfd4, -1, (long)&child, 8, 02000000 /* SFD_CLOEXEC */, 0, 0);
    for (int s = 0; s < STREAMS; s++)
        if (streams[s].fd >= 0)
            sys(__NR_fcntl, streams[s].fd, 2 /* F_SETFD */, 1);
    if (pidfd >= 0)
        sys(__NR_fcntl, pidfd, 2, 1);
    if (out.path)
        open_log(0);
    int status = watch(pid, pidfd, signals);
    for (int s = 0; s < STREAMS; s++)
        log_lines(&streams[s], 1);
    set_actions(0);
    sys6(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&before, 0, 8, 0, 0);
    hand_over(argv + n + 1, env, status, argc - n - 1);
    __builtin_unreachable();
}
