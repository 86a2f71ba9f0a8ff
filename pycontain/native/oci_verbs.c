/* pycontain-oci start, kill and delete of a plain container, without an interpreter.
 *
 *     oci-verbs PYTHON SOURCE ARGUMENT...
 *
 * Starting Python takes longer than these verbs do. `create` writes a file "plain" beside state.json
 * when nothing unusual belongs to the container (no hooks to run; pause and update remove it):
 *
 *     pid start-time
 *     cgroup directory      one a line
 *
 * Whatever is not plain, not understood or not as expected is left to Python, by execv, before
 * anything was changed or at a point from where Python's own verb goes on. No message is written here.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ID_LENGTH 1024
#define WAIT_MS 10000
#define PLAIN_BYTES 8192

static const char CODE[] =
    "import sys\n"
    "sys.path.insert(0, sys.argv.pop(1))\n"
    "from pycontain.cli.oci import entry\n"
    "entry()";

struct container {
    int home;                 /* its directory */
    long pid;
    unsigned long long start; /* clock ticks since boot */
    char plain[PLAIN_BYTES];
    char *cgroups;            /* lines, inside `plain` */
};

static void python(char **argv, int argc)
{
    char **args = calloc(argc + 5, sizeof *args);

    if (!args)
        _exit(1);
    args[0] = argv[1];
    args[1] = "-I";
    args[2] = "-S";
    args[3] = "-c";
    args[4] = (char *)CODE;
    for (int n = 2; n < argc; n++)
        args[n + 3] = argv[n];
    execv(argv[1], args);
    _exit(1);
}

static int id_is_good(const char *id)
{
    size_t length = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-");

    return length && length <= ID_LENGTH && !id[length] && strcmp(id, ".") && strcmp(id, "..");
}

/* The value of a global option that has one, or NULL; moves *n behind it. */
static char *value_of(char **argv, int argc, int *n, const char *name)
{
    size_t length = strlen(name);

    if (strncmp(argv[*n], name, length))
        return NULL;
    if (argv[*n][length] == '=')
        return argv[(*n)++] + length + 1;
    if (argv[*n][length] || *n + 1 >= argc)
        return NULL;
    *n += 2;
    return argv[*n - 1];
}

static int load(struct container *found, const char *root, const char *id)
{
    char path[4096];
    int fd;
    ssize_t size;

    if (snprintf(path, sizeof path, "%s/%s", root, id) >= (int)sizeof path)
        return 0;
    found->home = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (found->home < 0)
        return 0;
    fd = openat(found->home, "plain", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size = read(fd, found->plain, PLAIN_BYTES - 1);
    close(fd);
    if (size <= 0 || size == PLAIN_BYTES - 1)
        return 0;
    found->plain[size] = 0;
    found->cgroups = strchr(found->plain, '\n');
    if (!found->cgroups++)
        return 0;
    return sscanf(found->plain, "%ld %llu", &found->pid, &found->start) == 2 && found->pid > 0;
}

/* 1 lives, 0 is gone (a zombie is), -1 is not known. */
static int lives(const struct container *found)
{
    char path[64], text[4096], state, *rest;
    unsigned long long start;
    ssize_t size;
    int fd;

    snprintf(path, sizeof path, "/proc/%ld/stat", found->pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size < 0)
        return errno == ESRCH ? 0 : -1;
    text[size] = 0;
    /* The name in field 2 may hold anything: count from its last bracket. */
    rest = strrchr(text, ')');
    if (!rest)
        return -1;
    if (sscanf(rest + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &state, &start) != 2)
        return -1;
    return start == found->start && state != 'Z' && state != 'X';
}

/* A pidfd of the living init, or -1. */
static int open_init(const struct container *found)
{
    int pidfd = syscall(SYS_pidfd_open, found->pid, 0);

    if (pidfd >= 0 && lives(found) != 1) {
        close(pidfd);
        return -1;
    }
    return pidfd;
}

static int start(struct container *found)
{
    int pidfd, fifo;
    char byte;

    pidfd = open_init(found);
    if (pidfd < 0)
        return 0;
    fifo = openat(found->home, "exec.fifo", O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fifo < 0)
        return 0;
    struct pollfd ready[] = {{fifo, POLLIN, 0}, {pidfd, POLLIN, 0}};
    if (poll(ready, 2, WAIT_MS) <= 0 || read(fifo, &byte, 1) != 1)
        return 0;
    return !unlinkat(found->home, "exec.fifo", 0);
}

static int send(struct container *found, const char *text)
{
    char *end;
    int pidfd, number = 0;

    if (!strcmp(text, "KILL") || !strcmp(text, "SIGKILL"))
        number = SIGKILL;
    else if (!strcmp(text, "TERM") || !strcmp(text, "SIGTERM"))
        number = SIGTERM;
    else if (text[0] >= '1' && text[0] <= '9')
        number = strtol(text, &end, 10), number = *end ? 0 : number;
    if (number < 1 || number > SIGRTMAX)
        return 0;
    pidfd = open_init(found);
    return pidfd >= 0 && !syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}

static int remove_cgroups(struct container *found)
{
    for (char *line = found->cgroups, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end)
            return 0;
        *end = 0;
        /* An exiting process leaves its cgroup a moment after poll() says that it exited. */
        for (int attempt = 0; rmdir(line) && errno != ENOENT; attempt++) {
            if (errno != EBUSY || attempt == 20)
                return 0;
            usleep(500);
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

        if (!force && faccessat(found->home, "exec.fifo", F_OK, AT_SYMLINK_NOFOLLOW))
            return 0;
        pidfd = open_init(found);
        if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0))
            return 0;
        struct pollfd gone = {pidfd, POLLIN, 0};
        if (poll(&gone, 1, WAIT_MS) <= 0)
            return 0;
        close(pidfd);
    }
    if (!remove_cgroups(found))
        return 0;
    for (size_t n = 0; n < sizeof files / sizeof *files; n++)
        if (unlinkat(found->home, files[n], 0) && errno != ENOENT)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    static struct container found;
    const char *root = NULL, *verb, *id;
    char path[4096];
    int n = 3, force = 0, done = 0;

    if (argc < 3)
        return 1;
    while (n < argc && argv[n][0] == '-') {
        char *value = value_of(argv, argc, &n, "--root");

        if (value)
            root = value;
        else if (!value_of(argv, argc, &n, "--log-format") && !value_of(argv, argc, &n, "--log"))
            python(argv, argc);
    }
    if (!root && !geteuid())
        root = "/run/pycontain-oci";
    if (!root || root[0] != '/' || argc - n < 2)
        python(argv, argc);
    verb = argv[n++];
    if (!strcmp(verb, "delete") && (!strcmp(argv[n], "--force") || !strcmp(argv[n], "-f")))
        force = 1, n++;
    if (n >= argc || !id_is_good(argv[n]))
        python(argv, argc);
    id = argv[n++];
    if (!load(&found, root, id))
        python(argv, argc);
    if (!strcmp(verb, "start") && n == argc)
        done = start(&found);
    else if (!strcmp(verb, "kill") && n + 1 == argc)
        done = send(&found, argv[n]);
    else if (!strcmp(verb, "delete") && n == argc) {
        snprintf(path, sizeof path, "%s/%s", root, id);
        done = delete(&found, force) && !rmdir(path);
    }
    if (!done)
        python(argv, argc);
    return 0;
}
