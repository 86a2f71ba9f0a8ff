/* Facts seen from inside a container, one `name value` line each; static, run as any uid.
 *
 * A call that must be refused is tried with arguments that do no harm where it is not. The value is
 * "ok" or the errno's name by number. Built by tests/kernel/test_probe.py. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void fact(const char *name, const char *value) { printf("%s %s\n", name, value); }

static void number(const char *name, long value) { printf("%s %ld\n", name, value); }

static void result(const char *name, long rc) {
    if (rc >= 0)
        fact(name, "ok");
    else
        number(name, errno);
}

/* Try a raw call in a child, so that a success changes nothing here and a kill is seen. */
static void attempt(const char *name, long nr, long a, long b, long c, long d, long e) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        result(name, syscall(nr, a, b, c, d, e, 0L));
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("%s signal-%d\n", name, WTERMSIG(status));
}

static void status_lines(void) {
    char line[512];
    FILE *f = fopen("/proc/self/status", "r");
    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        char key[64], value[128];
        if (sscanf(line, "%63[^:]: %127s", key, value) == 2 &&
            (!strncmp(key, "Cap", 3) || !strncmp(key, "Sig", 3) || !strcmp(key, "Seccomp") ||
             !strcmp(key, "NoNewPrivs") || !strcmp(key, "Uid") || !strcmp(key, "Gid")))
            printf("status.%s %s\n", key, value);
    }
    fclose(f);
}

static void descriptors(void) {
    char path[64], to[512];
    for (int fd = 3; fd < 4096; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, to, sizeof to - 1);
        if (n > 0) {
            to[n] = 0;
            printf("fd.%d %s\n", fd, to);
        }
    }
}

static void node(const char *name, mode_t type, unsigned major_nr, unsigned minor_nr) {
    char path[64];
    snprintf(path, sizeof path, "/tmp-probe-%s", name);
    unlink(path);
    printf("node.%s ", name);
    if (mknod(path, type | 0600, makedev(major_nr, minor_nr)) < 0) {
        printf("mknod-%d\n", errno);
        return;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    printf(fd >= 0 ? "opened\n" : "open-%d\n", errno);
    if (fd >= 0)
        close(fd);
    unlink(path);
}

/* Walk a tree and print every file that opens for writing. */
static void writable(const char *name, const char *top, int depth) {
    DIR *dir = opendir(top);
    struct dirent *entry;
    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        char path[4096];
        struct stat st;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", top, entry->d_name);
        if (lstat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth > 0) {
            writable(name, path, depth - 1);
        } else if (S_ISREG(st.st_mode)) {
            int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
            if (fd >= 0) {
                printf("writable.%s %s\n", name, path);
                close(fd);
            }
        }
    }
    closedir(dir);
}

static void masked(const char *path) {
    char buffer[16];
    struct stat st;
    printf("masked.%s ", path);
    if (stat(path, &st) < 0) {
        printf("absent\n");
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        DIR *dir = opendir(path);
        int entries = 0;
        struct dirent *entry;
        while (dir && (entry = readdir(dir)))
            entries += entry->d_name[0] != '.';
        printf(entries ? "readable\n" : "empty\n");
        if (dir)
            closedir(dir);
        return;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer);
    printf(n > 0 ? "readable\n" : "empty\n");
    if (fd >= 0)
        close(fd);
}

static void sockets(void) {
    int fd = socket(38, SOCK_SEQPACKET, 0);
    result("socket.alg", fd);
    fd = socket(40, SOCK_STREAM, 0);
    result("socket.vsock", fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    result("socket.inet", fd);
    fd = socket(AF_INET, SOCK_RAW, 1);
    result("socket.raw", fd);
}

static void calls(void) {
    attempt("call.unshare-user", SYS_unshare, CLONE_NEWUSER, 0, 0, 0, 0);
    attempt("call.clone-user", SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    attempt("call.clone3", SYS_clone3, 0, 0, 0, 0, 0);
    attempt("call.unshare-ns", SYS_unshare, CLONE_NEWNS, 0, 0, 0, 0);
    attempt("call.mount", SYS_mount, (long)"none", (long)"/", (long)"tmpfs", MS_RDONLY, 0);
    attempt("call.umount2", SYS_umount2, (long)"/proc", 2, 0, 0, 0);
    attempt("call.pivot_root", SYS_pivot_root, (long)"/", (long)"/", 0, 0, 0);
    attempt("call.open_tree", SYS_open_tree, AT_FDCWD, (long)"/", 1, 0, 0);
    attempt("call.fsopen", SYS_fsopen, (long)"tmpfs", 0, 0, 0, 0);
    attempt("call.move_mount", SYS_move_mount, -1, (long)"", -1, (long)"", 0);
    attempt("call.mount_setattr", SYS_mount_setattr, AT_FDCWD, (long)"/", 0, 0, 0);
    attempt("call.init_module", SYS_init_module, 0, 0, (long)"", 0, 0);
    attempt("call.finit_module", SYS_finit_module, -1, (long)"", 0, 0, 0);
    attempt("call.delete_module", SYS_delete_module, (long)"none", 0, 0, 0, 0);
    attempt("call.kexec_load", SYS_kexec_load, 0, 0, 0, 0, 0);
    attempt("call.reboot", SYS_reboot, 0, 0, 0, 0, 0);
    attempt("call.swapon", SYS_swapon, (long)"/none", 0, 0, 0, 0);
    attempt("call.swapoff", SYS_swapoff, (long)"/none", 0, 0, 0, 0);
    attempt("call.add_key", SYS_add_key, (long)"user", (long)"k", (long)"v", 1, -2);
    attempt("call.keyctl", SYS_keyctl, 0, -3, 0, 0, 0);
    attempt("call.request_key", SYS_request_key, (long)"user", (long)"k", 0, 0, 0);
    attempt("call.bpf", SYS_bpf, 0, 0, 0, 0, 0);
    attempt("call.perf_event_open", SYS_perf_event_open, 0, 0, -1, -1, 0);
    attempt("call.userfaultfd", SYS_userfaultfd, 0, 0, 0, 0, 0);
    attempt("call.open_by_handle_at", SYS_open_by_handle_at, -1, 0, 0, 0, 0);
    attempt("call.io_uring_setup", SYS_io_uring_setup, 1, 0, 0, 0, 0);
    attempt("call.settimeofday", SYS_settimeofday, 0, 0, 0, 0, 0);
    attempt("call.sethostname", SYS_sethostname, (long)"probe", 5, 0, 0, 0);
    attempt("call.syslog", SYS_syslog, 10, 0, 0, 0, 0);
    attempt("call.acct", SYS_acct, 0, 0, 0, 0, 0);
    attempt("call.quotactl", SYS_quotactl, 0, 0, 0, 0, 0);
    attempt("call.mbind", SYS_mbind, 0, 0, 0, 0, 0);
    attempt("call.kcmp", SYS_kcmp, 1, 1, 0, 0, 0);
    attempt("call.fanotify_init", SYS_fanotify_init, 0, 0, 0, 0, 0);
    attempt("call.personality-addr", SYS_personality, 0x0040000, 0, 0, 0, 0);
    attempt("call.personality-query", SYS_personality, 0xffffffff, 0, 0, 0, 0);
#ifdef __x86_64__
    attempt("call.iopl", SYS_iopl, 3, 0, 0, 0, 0);
    attempt("call.ioperm", SYS_ioperm, 0x80, 1, 1, 0, 0);
    attempt("call.x32-getpid", 0x40000000 + SYS_getpid, 0, 0, 0, 0, 0);
    attempt("call.x32-mount", 0x40000000 + SYS_mount, (long)"none", (long)"/", (long)"tmpfs", 0, 0);
#endif
    attempt("call.future", 900, 0, 0, 0, 0, 0);
    /* what must not be blocked */
    struct open_how how = {.flags = O_RDONLY};
    char statx_buffer[256];
    attempt("good.statx", SYS_statx, AT_FDCWD, (long)"/", 0, 0x7ff, (long)statx_buffer);
    attempt("good.openat2", SYS_openat2, AT_FDCWD, (long)"/", (long)&how, sizeof how, 0);
    attempt("good.faccessat2", SYS_faccessat2, AT_FDCWD, (long)"/", 0, 0, 0);
    attempt("good.close_range", SYS_close_range, 4000, 4001, 0, 0, 0);
    attempt("good.memfd_create", SYS_memfd_create, (long)"m", 0, 0, 0, 0);
    attempt("good.pidfd_open", SYS_pidfd_open, getpid(), 0, 0, 0, 0);
    attempt("good.landlock", SYS_landlock_create_ruleset, 0, 0, 1, 0, 0);
    attempt("good.futex_waitv", 449, 0, 0, 0, 0, 0);
    attempt("good.epoll_pwait2", SYS_epoll_pwait2, -1, 0, 0, 0, 0);
    attempt("good.fchmodat2", 452, AT_FDCWD, (long)"/nonexistent", 0644, 0, 0);
    attempt("good.chown", SYS_chown, (long)"/", 0, 0, 0, 0);
    attempt("good.chroot", SYS_chroot, (long)"/", 0, 0, 0, 0);
    attempt("good.setgroups", SYS_setgroups, 0, 0, 0, 0, 0);
}

#ifdef __x86_64__
/* int 0x80 reaches the i386 table: the filter must hold there as well. 21 is mount, 20 getpid. */
static void i386(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        long rc;
        __asm__ volatile("int $0x80" : "=a"(rc) : "a"(21), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
        number("i386.mount", rc);
        __asm__ volatile("int $0x80" : "=a"(rc) : "a"(310), "b"(CLONE_NEWUSER) : "memory");
        number("i386.unshare-user", rc);
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("i386.signal %d\n", WTERMSIG(status));
}
#endif

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "wait"))
        for (;;)
            pause();
    struct sigaction action;
    char host[256] = "", line[1024];

    status_lines();
    descriptors();
    for (int signum = 1; signum < 65; signum++)
        if (sigaction(signum, 0, &action) == 0 && action.sa_handler == SIG_IGN)
            printf("ignored %d\n", signum);
    gethostname(host, sizeof host - 1);
    fact("hostname", host);
    extern char **environ;
    for (char **e = environ; *e; e++)
        printf("env %s\n", *e);
    calls();
    sockets();
#ifdef __x86_64__
    i386();
#endif
    const char *masks[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug",
                           "/proc/latency_stats", "/proc/scsi", "/proc/acpi", "/proc/asound",
                           "/proc/interrupts", "/proc/timer_stats", "/sys/firmware",
                           "/sys/devices/virtual/powercap"};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
        masked(masks[i]);
    writable("proc-sys", "/proc/sys", 6);
    writable("proc-irq", "/proc/irq", 3);
    writable("proc-bus", "/proc/bus", 3);
    writable("sys", "/sys", 4);
    int trigger = open("/proc/sysrq-trigger", O_WRONLY);
    result("open.sysrq-trigger", trigger);
    node("disk", S_IFBLK, 254, 0);
    node("sda", S_IFBLK, 8, 0);
    node("loop", S_IFBLK, 7, 0);
    node("mem", S_IFCHR, 1, 1);
    node("kmsg", S_IFCHR, 1, 11);
    node("fuse", S_IFCHR, 10, 229);
    node("kvm", S_IFCHR, 10, 232);
    node("tun", S_IFCHR, 10, 200);
    node("null", S_IFCHR, 1, 3);
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    while (mounts && fgets(line, sizeof line, mounts))
        printf("mount %s", line);
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc)))
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            printf("pid %s\n", entry->d_name);
    DIR *dev = opendir("/dev");
    while (dev && (entry = readdir(dev)))
        if (entry->d_name[0] != '.')
            printf("dev %s\n", entry->d_name);
    printf("end ok\n");
    return 0;
}
