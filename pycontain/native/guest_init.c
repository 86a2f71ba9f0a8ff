/*
 * Init process of the guest of `pycontain vm run`: static, no libc (-nostdlib), PID 1 of
 * the initramfs.
 *
 * It loads the modules packed beside it, opens the virtio-serial ports, receives the command from
 * the host, runs it and reports how it ended. It decides nothing: what to mount as root, whose
 * identity the command has and what its environment holds is all in the host's message.
 *
 * Ports (virtio-serial, port number):  1 control   2 stdout   3 stderr   4 stdin
 *
 *     host  -> guest   u32 little-endian length, then that many bytes of NUL-terminated "key=value":
 *                      root=TYPE  (absent: the initramfs; else /dev/vda of TYPE under an overlay)
 *                      tmp=DEVICE  (absent: /tmp is part of the root; else an ext4 disk)
 *                      arg= env= (repeated, in order)  cwd=  uid=  gid=  group= (repeated)
 *                      hostname=  stdin=1
 *     guest -> host    lines:  mark NAME GUEST_NANOSECONDS
 *                              usage UTIME_US STIME_US MINFLT MAJFLT NVCSW NIVCSW MAXRSS_KB
 *                              fail STEP ERRNO    exit STATUS    signal NUMBER
 *
 * The one line "pycontain: init" on the console is the mark of the first user-space instruction,
 * for no port exists that early. The guest ends by resetting the machine, which under
 * `qemu -no-reboot` ends QEMU.
 */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/reboot.h>
#include <linux/resource.h>
#include <linux/sockios.h>
#include <linux/stat.h>
#include <linux/time.h>
#include <linux/types.h>

#define DIR "/.pycontain"
#define MAX_MESSAGE (1 << 20)
#define MAX_WORDS 8192
#define PORT_WAIT_MS 20000
#define ENOENT 2
#define ENXIO 6
#define ECHILD 10
#define EACCES 13
#define EEXIST 17
#define ENOTDIR 20
#define SIGCHLD 17
#define AF_INET 2
#define SOCK_DGRAM 2

typedef unsigned long ulong;

/* ---- system calls ---------------------------------------------------------------------- */

#if defined(__x86_64__)
static long call6(long n, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n and $-16,%rsp\n call start_c\n hlt\n");
#elif defined(__aarch64__)
static long call6(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n mov x29,#0\n bl start_c\n");
#else
#error "no guest init for this architecture"
#endif

#define CALL(n, a, b, c, d, e) call6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

static int sys_open(const char *path, int flags) { return (int)CALL(openat, AT_FDCWD, path, flags, 0, 0); }
static void sys_close(int fd) { CALL(close, fd, 0, 0, 0, 0); }
static void sys_mkdir(const char *path, int mode) { CALL(mkdirat, AT_FDCWD, path, mode, 0, 0); }
static long sys_mount(const char *src, const char *dir, const char *type, ulong flags, const char *data)
{
    return CALL(mount, src, dir, type, flags, data);
}

/* ---- the few functions of a libc the compiler or this file needs ------------------------- */

void *memset(void *to, int byte, ulong count)
{
    volatile char *at = to;
    while (count--)
        *at++ = (char)byte;
    return to;
}

void *memcpy(void *to, const void *from, ulong count)
{
    volatile char *at = to;
    const char *source = from;
    while (count--)
        *at++ = *source++;
    return to;
}

static ulong length(const char *text)
{
    ulong count = 0;
    while (text[count])
        count++;
    return count;
}

static const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return 0;
    return text;
}

static long number(const char *text)
{
    long value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (*text++ - '0');
    return value;
}

/* ---- one line to the host ------------------------------------------------------------------ */

static int control = -1;
static char line[256];
static ulong used;

static void put(const char *text)
{
    while (*text && used < sizeof(line) - 1)
        line[used++] = *text++;
}

static void put_number(long value)
{
    char digits[24];
    int at = 23;
    ulong rest = value < 0 ? 0UL - (ulong)value : (ulong)value;

    digits[at] = 0;
    do
        digits[--at] = (char)('0' + rest % 10);
    while (rest /= 10);
    put(value < 0 ? " -" : " ");
    put(digits + at);
}

static void send_line(void)
{
    ulong sent = 0;
    line[used++] = '\n';
    while (control >= 0 && sent < used) {
        long n = CALL(write, control, line + sent, used - sent, 0, 0);
        if (n <= 0)
            break;
        sent += (ulong)n;
    }
    if (control < 0)
        CALL(write, 2, line, used, 0, 0);
    used = 0;
}

static void send_mark(const char *name)
{
    struct __kernel_timespec now = {0, 0};
    CALL(clock_gettime, 1 /* CLOCK_MONOTONIC */, &now, 0, 0, 0);
    put("mark ");
    put(name);
    put_number((long)now.tv_sec * 1000000000L + (long)now.tv_nsec);
    send_line();
}

static void __attribute__((noreturn)) reset(void)
{
    CALL(sync, 0, 0, 0, 0, 0);
    CALL(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0, 0);
    for (;;)
        CALL(exit, 1, 0, 0, 0, 0);
}

static void __attribute__((noreturn)) fail(const char *step, long error)
{
    put("fail ");
    put(step);
    put_number(-error);
    send_line();
    reset();
}

/* ---- stages ------------------------------------------------------------------------------- */

static void sleep_ms(long milliseconds)
{
    struct __kernel_timespec pause = {0, milliseconds * 1000000L};
    CALL(nanosleep, &pause, 0, 0, 0, 0);
}

static void mount_base(void)
{
    sys_mkdir("/dev", 0755);
    sys_mkdir("/proc", 0755);
    sys_mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    sys_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
}

/* The host packs the modules as two-digit files, dependencies first. */
static void load_modules(void)
{
    char path[] = DIR "/modules/00";
    ulong digit = sizeof(path) - 3;
    for (int i = 0; i < 100; i++) {
        path[digit] = (char)('0' + i / 10);
        path[digit + 1] = (char)('0' + i % 10);
        int fd = sys_open(path, O_RDONLY | O_CLOEXEC);
        if (fd == -ENOENT)
            return;
        long error = fd < 0 ? fd : CALL(finit_module, fd, "", 0, 0, 0);
        if (error < 0 && error != -EEXIST)
            fail(path, error);
        sys_close(fd);
    }
}

/* Ports appear some time after their driver is loaded (for a moment as a node without a device:
 * ENXIO), and the device index depends on what else is plugged in; so look until it is there. */
static int open_port(char port, int flags)
{
    char path[] = "/dev/vport0p0";
    long fd = -ENOENT;
    path[12] = port;
    for (int waited = 0; waited < PORT_WAIT_MS; waited++) {
        for (char device = '0'; device <= '9'; device++) {
            path[10] = device;
            fd = sys_open(path, flags | O_CLOEXEC);
            if (fd >= 0)
                return (int)fd;
            if (fd != -ENOENT && fd != -ENXIO)
                fail("open-port", fd);
        }
        sleep_ms(1);
    }
    fail("open-port", fd);
}

static char message[MAX_MESSAGE + 1];

static void read_exactly(char *to, ulong count)
{
    while (count) {
        long n = CALL(read, control, to, count, 0, 0);
        if (n <= 0)
            fail("receive-command", n);
        to += n;
        count -= (ulong)n;
    }
}

static ulong receive_message(void)
{
    unsigned char head[4];
    read_exactly((char *)head, 4);
    ulong size = head[0] | (ulong)head[1] << 8 | (ulong)head[2] << 16 | (ulong)head[3] << 24;
    if (size > MAX_MESSAGE)
        fail("receive-command", -7);
    read_exactly(message, size);
    message[size] = 0;
    return size;
}

struct command {
    const char *root, *tmp, *cwd, *hostname, *path;
    char *argv[MAX_WORDS + 1], *envp[MAX_WORDS + 1];
    unsigned int uid, gid, groups[64];
    int argc, envc, group_count, has_stdin;
};
static struct command command;

static void take(char *field)
{
    const char *value;
    if ((value = after(field, "arg=")) && command.argc < MAX_WORDS)
        command.argv[command.argc++] = (char *)value;
    else if ((value = after(field, "env=")) && command.envc < MAX_WORDS) {
        command.envp[command.envc++] = (char *)value;
        if (after(value, "PATH="))
            command.path = value + 5;
    } else if ((value = after(field, "group=")) && command.group_count < 64)
        command.groups[command.group_count++] = (unsigned)number(value);
    else if ((value = after(field, "root=")))
        command.root = value;
    else if ((value = after(field, "tmp=")))
        command.tmp = value;
    else if ((value = after(field, "cwd=")))
        command.cwd = value;
    else if ((value = after(field, "hostname=")))
        command.hostname = value;
    else if ((value = after(field, "uid=")))
        command.uid = (unsigned)number(value);
    else if ((value = after(field, "gid=")))
        command.gid = (unsigned)number(value);
    else if (after(field, "stdin=1"))
        command.has_stdin = 1;
    else
        fail("parse-command", -22);
}

static void receive_command(void)
{
    ulong size = receive_message();
    command.cwd = "/";
    command.path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (ulong at = 0; at < size; at += length(message + at) + 1)
        take(message + at);
    if (!command.argc)
        fail("parse-command", -22);
}

static void must_mount(const char *src, const char *dir, const char *type, ulong flags, const char *data)
{
    sys_mkdir(dir, 0755);
    long error = sys_mount(src, dir, type, flags, data);
    if (error < 0)
        fail(type, error);
}

/* A block device appears asynchronously as well. */
static void mount_disk(const char *device, const char *dir, const char *type, ulong flags, const char *step)
{
    long error = -ENOENT;
    sys_mkdir(dir, 0755);
    for (int waited = 0; error == -ENOENT && waited < PORT_WAIT_MS; waited++) {
        error = sys_mount(device, dir, type, flags, "");
        if (error == -ENOENT)
            sleep_ms(1);
    }
    if (error < 0)
        fail(step, error);
}

static void mount_block_root(void)
{
    long error;
    mount_disk("/dev/vda", DIR "/lower", command.root, MS_RDONLY, "mount-root");
    must_mount("tmpfs", DIR "/rw", "tmpfs", 0, "mode=0755");
    sys_mkdir(DIR "/rw/upper", 0755);
    sys_mkdir(DIR "/rw/work", 0755);
    must_mount("overlay", DIR "/root", "overlay", 0,
               "lowerdir=" DIR "/lower,upperdir=" DIR "/rw/upper,workdir=" DIR "/rw/work");
    CALL(chdir, DIR "/root", 0, 0, 0, 0);
    sys_mkdir("dev", 0755);
    sys_mkdir("proc", 0755);
    sys_mount("/dev", "dev", 0, MS_MOVE, 0);
    sys_mount("/proc", "proc", 0, MS_MOVE, 0);
    sys_mount(".", "/", 0, MS_MOVE, 0);
    error = CALL(chroot, ".", 0, 0, 0, 0);
    if (error < 0)
        fail("switch-root", error);
    CALL(chdir, "/", 0, 0, 0, 0);
}

static void link_to(const char *target, const char *path)
{
    CALL(symlinkat, target, AT_FDCWD, path, 0, 0);
}

static void mount_system(void)
{
    must_mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    must_mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5");
    must_mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    link_to("/proc/self/fd", "/dev/fd");
    link_to("/proc/self/fd/0", "/dev/stdin");
    link_to("/proc/self/fd/1", "/dev/stdout");
    link_to("/proc/self/fd/2", "/dev/stderr");
}

static void bring_up_loopback(void)
{
    struct { /* struct ifreq; <linux/if.h> needs a libc */
        char name[16];
        short flags;
        char rest[22];
    } request = {"lo", 1 /* IFF_UP */, ""};
    long fd = CALL(socket, AF_INET, SOCK_DGRAM, 0, 0, 0);
    if (fd >= 0) {
        CALL(ioctl, fd, SIOCSIFFLAGS, &request, 0, 0);
        sys_close((int)fd);
    }
}

/* ---- the command --------------------------------------------------------------------------- */

static int candidate(char *to, ulong room, const char *dir, ulong count, const char *name)
{
    ulong tail = length(name);
    if (count + tail + 2 > room)
        return 0;
    memcpy(to, dir, count);
    to[count] = '/';
    memcpy(to + count + 1, name, tail + 1);
    return 1;
}

/* Returns the errno of the search: EACCES wins over ENOENT, as in execvp(3). */
static long exec_command(void)
{
    static char path[4200];
    const char *name = command.argv[0], *dir = command.path;
    long error = -ENOENT;

    for (const char *c = name; *c; c++)
        if (*c == '/')
            return CALL(execve, name, command.argv, command.envp, 0, 0);
    while (*dir) {
        ulong count = 0;
        while (dir[count] && dir[count] != ':')
            count++;
        if (count && candidate(path, sizeof(path), dir, count, name)) {
            long result = CALL(execve, path, command.argv, command.envp, 0, 0);
            if (result != -ENOENT && result != -ENOTDIR)
                error = result;
        }
        dir += count + (dir[count] == ':');
    }
    return error;
}

static void __attribute__((noreturn)) run_child(int in, int out, int err)
{
    long error = 0;
    CALL(setsid, 0, 0, 0, 0, 0);
    CALL(dup3, in, 0, 0, 0, 0);
    CALL(dup3, out, 1, 0, 0, 0);
    CALL(dup3, err, 2, 0, 0, 0);
    const char *step = "setgroups";
    error = CALL(setgroups, command.group_count, command.groups, 0, 0, 0);
    if (error >= 0)
        step = "setgid", error = CALL(setresgid, command.gid, command.gid, command.gid, 0, 0);
    if (error >= 0)
        step = "setuid", error = CALL(setresuid, command.uid, command.uid, command.uid, 0, 0);
    if (error >= 0)
        step = "chdir", error = CALL(chdir, command.cwd, 0, 0, 0, 0);
    if (error >= 0)
        step = "execve", error = exec_command();
    put("fail ");
    put(step);
    put_number(-error);
    send_line();
    CALL(exit_group, 126, 0, 0, 0, 0);
    __builtin_unreachable();
}

static void send_usage(const struct rusage *usage)
{
    put("usage");
    put_number(usage->ru_utime.tv_sec * 1000000L + usage->ru_utime.tv_usec);
    put_number(usage->ru_stime.tv_sec * 1000000L + usage->ru_stime.tv_usec);
    put_number(usage->ru_minflt);
    put_number(usage->ru_majflt);
    put_number(usage->ru_nvcsw);
    put_number(usage->ru_nivcsw);
    put_number(usage->ru_maxrss);
    send_line();
}

static void run_command(void)
{
    struct rusage usage;
    int status = 0;
    int out = open_port('2', O_WRONLY), err = open_port('3', O_WRONLY);
    int in = command.has_stdin ? open_port('4', O_RDONLY) : sys_open("/dev/null", O_RDONLY | O_CLOEXEC);

    send_mark("command");
    long pid = call6(__NR_clone, SIGCHLD, 0, 0, 0, 0, 0);
    if (pid == 0)
        run_child(in, out, err);
    if (pid < 0)
        fail("fork", pid);
    for (long reaped = 0; reaped != pid;) /* PID 1 also reaps what the command left behind. */
        if ((reaped = CALL(wait4, -1, &status, 0, &usage, 0)) == -ECHILD)
            break;
    send_mark("exited");
    send_usage(&usage);
    put(status & 0x7f ? "signal" : "exit");
    put_number(status & 0x7f ? status & 0x7f : (status >> 8) & 0xff);
    send_line();
}

void start_c(void)
{
    static const char hello[] = "pycontain: init\n";
    CALL(write, 2, hello, sizeof(hello) - 1, 0, 0);
    mount_base();
    load_modules();
    control = open_port('1', O_RDWR);
    send_mark("ports");
    receive_command();
    if (command.root)
        mount_block_root();
    mount_system();
    if (command.tmp)
        mount_disk(command.tmp, "/tmp", "ext4", MS_NOSUID | MS_NODEV, "mount-tmp");
    bring_up_loopback();
    if (command.hostname)
        CALL(sethostname, command.hostname, length(command.hostname), 0, 0, 0);
    run_command();
    reset();
}
