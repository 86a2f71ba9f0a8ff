/*
 * The stopwatch of `pycontain bench`: start one command, wait for it, report its times.
 *
 * Every arm is started through it, so that what lies between the two readings of the clock is the
 * arm and not a Python interpreter: the clock is read before vfork and after wait4, both here.
 *
 *     launch [-2] [-U] [-p FILE]... [-c CPU,CPU] [-r ROOT] [-d DIR] [-u UID:GID] [-e EVENT]... [-o FD]
 *            -- ARGV...
 *     launch -g PARENT -- ARGV...       exec ARGV in place; it is killed when PARENT dies
 *
 *     -p FILE   join a cgroup: write 0 to its cgroup.procs     -c  CPUs of the command
 *     -r -d -u  chroot, chdir and identity of the command      -o  where the report goes
 *     -U        a user and mount namespace, which chroot needs without root; with -r before it,
 *               the host's plain devices and /proc appear below that root
 *     -2        a private mount namespace that shows cgroup v2 alone, for what refuses hybrid hosts
 *     -e TYPE:CONFIG[:FILTER]   count a perf event in the command and all it starts
 *
 * The report is one line: start end status utime stime minflt majflt nvcsw nivcsw maxrss inblock
 * oublock, then one count for each -e; CLOCK_MONOTONIC nanoseconds, the wait status as wait4 gives
 * it, microseconds, kB. An event that cannot be opened counts -1.
 * It fails with status 125 and a line on stderr; a command that cannot be executed exits 127.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 64

struct options {
    const char *root, *dir;
    int report_fd, has_identity, event_count;
    int events[MAX_EVENTS];
    pid_t guard;
    uid_t uid;
    gid_t gid;
};

static void die(const char *what)
{
    fprintf(stderr, "bench-launch: %s: %s\n", what, strerror(errno));
    exit(125);
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void join_cgroup(const char *file)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        die(file);
    close(fd);
}

static void pin(char *list)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (char *word = strtok(list, ","); word; word = strtok(NULL, ","))
        CPU_SET((size_t)atoi(word), &set);
    if (sched_setaffinity(0, sizeof(set), &set))
        die("sched_setaffinity");
}

static void show_unified_cgroups(void)
{
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        die("show cgroup v2 alone");
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        die(path);
    close(fd);
}

static void bind_below(const char *root, const char *path)
{
    char target[4096];
    snprintf(target, sizeof(target), "%s%s", root, path);
    if (mount(path, target, NULL, MS_BIND | MS_REC, NULL))
        die(target);
}

static void enter_user_namespace(const char *root)
{
    static const char *const shown[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                        "/dev/urandom", "/proc"};
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
        die("unshare");
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof(map), "0 %u 1", uid);
    write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof(map), "0 %u 1", gid);
    write_file("/proc/self/gid_map", map);
    for (size_t i = 0; root && i < sizeof(shown) / sizeof(shown[0]); i++)
        bind_below(root, shown[i]);
}

/* The event is opened on this process, disabled and inherited: it starts in the child at its execve,
 * and what the child's whole tree counted is added here as each of them ends. */
static int open_event(const char *text)
{
    struct perf_event_attr attr = {.size = sizeof(attr), .disabled = 1, .inherit = 1, .enable_on_exec = 1};
    char *rest;

    attr.type = (unsigned)strtoul(text, &rest, 10);
    attr.config = strtoull(*rest == ':' ? rest + 1 : rest, &rest, 10);
    int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd >= 0 && *rest == ':' && ioctl(fd, PERF_EVENT_IOC_SET_FILTER, rest + 1)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static long long read_event(int fd)
{
    long long count = -1;
    return fd >= 0 && read(fd, &count, sizeof(count)) == sizeof(count) ? count : -1;
}

/* The parent may have died before the signal was asked for. */
static void exec_guarded(pid_t parent, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        exit(125);
    execvp(argv[0], argv);
    die(argv[0]);
}

static const char *become(const struct options *options)
{
    if (options->root && chroot(options->root))
        return "chroot";
    if (options->dir && chdir(options->dir))
        return "chdir";
    if (options->has_identity && setgroups(0, NULL))
        return "setgroups";
    if (options->has_identity && setresgid(options->gid, options->gid, options->gid))
        return "setresgid";
    if (options->has_identity && setresuid(options->uid, options->uid, options->uid))
        return "setresuid";
    return NULL;
}

static void run(const struct options *options, char **argv)
{
    struct rusage usage;
    int status;
    long long start = now_ns();
    pid_t pid = vfork();

    if (pid < 0)
        die("vfork");
    if (pid == 0) {
        const char *failed = become(options);
        if (!failed)
            execvp(argv[0], argv);
        dprintf(2, "bench-launch: %s: %s\n", failed ? failed : argv[0], strerror(errno));
        _exit(failed ? 125 : 127);
    }
    while (wait4(pid, &status, 0, &usage) < 0)
        if (errno != EINTR)
            die("wait4");
    long long end = now_ns();
    if (options->report_fd < 0)
        return;
    dprintf(options->report_fd, "%lld %lld %d %lld %lld %ld %ld %ld %ld %ld %ld %ld", start, end, status,
            usage.ru_utime.tv_sec * 1000000LL + usage.ru_utime.tv_usec,
            usage.ru_stime.tv_sec * 1000000LL + usage.ru_stime.tv_usec, usage.ru_minflt, usage.ru_majflt,
            usage.ru_nvcsw, usage.ru_nivcsw, usage.ru_maxrss, usage.ru_inblock, usage.ru_oublock);
    for (int i = 0; i < options->event_count; i++)
        dprintf(options->report_fd, " %lld", read_event(options->events[i]));
    dprintf(options->report_fd, "\n");
}

int main(int argc, char **argv)
{
    struct options options = {.report_fd = -1};
    char *colon;
    int option;

    while ((option = getopt(argc, argv, "+2Up:c:r:d:u:o:g:e:")) >= 0) {
        switch (option) {
        case '2': show_unified_cgroups(); break;
        case 'U': enter_user_namespace(options.root); break;
        case 'p': join_cgroup(optarg); break;
        case 'c': pin(optarg); break;
        case 'r': options.root = optarg; break;
        case 'd': options.dir = optarg; break;
        case 'g': options.guard = (pid_t)atoi(optarg); break;
        case 'o': options.report_fd = atoi(optarg); break;
        case 'e':
            if (options.event_count < MAX_EVENTS)
                options.events[options.event_count++] = open_event(optarg);
            break;
        case 'u':
            options.has_identity = 1;
            options.uid = (uid_t)strtoul(optarg, &colon, 10);
            options.gid = *colon == ':' ? (gid_t)strtoul(colon + 1, NULL, 10) : options.uid;
            break;
        default: return 125;
        }
    }
    if (optind >= argc) {
        errno = EINVAL;
        die("usage");
    }
    if (options.guard)
        exec_guarded(options.guard, argv + optind);
    if (options.report_fd >= 0)
        fcntl(options.report_fd, F_SETFD, FD_CLOEXEC);
    run(&options, argv + optind);
    return 0;
}
