"""Numbers of the kernel's interface: system calls of this machine and the flags we use.

Values come from the kernel's UAPI headers; the names are theirs. No policy lives here. System call
numbers that are rare (seccomp profiles name any) stay in `tables`.
"""

from __future__ import annotations

from posix import uname as _uname

MACHINE = "aarch64" if _uname().machine in ("aarch64", "arm64") else "x86_64"

if MACHINE == "aarch64":
    NR = {
        "accept4": 242,
        "acct": 89,
        "add_key": 217,
        "bind": 200,
        "bpf": 280,
        "brk": 214,
        "cachestat": 451,
        "capget": 90,
        "capset": 91,
        "chdir": 49,
        "chroot": 51,
        "clock_gettime": 113,
        "clock_nanosleep": 115,
        "clone": 220,
        "clone3": 435,
        "close": 57,
        "close_range": 436,
        "connect": 203,
        "copy_file_range": 285,
        "delete_module": 106,
        "dup": 23,
        "dup3": 24,
        "epoll_create1": 20,
        "eventfd2": 19,
        "execve": 221,
        "execveat": 281,
        "exit": 93,
        "exit_group": 94,
        "faccessat": 48,
        "faccessat2": 439,
        "fadvise64": 223,
        "fallocate": 47,
        "fchdir": 50,
        "fchmod": 52,
        "fchmodat": 53,
        "fchmodat2": 452,
        "fchown": 55,
        "fchownat": 54,
        "fcntl": 25,
        "fgetxattr": 10,
        "flock": 32,
        "fremovexattr": 16,
        "fsconfig": 431,
        "fsetxattr": 7,
        "fsmount": 432,
        "fsopen": 430,
        "fspick": 433,
        "fstat": 80,
        "fstatfs": 44,
        "fsync": 82,
        "ftruncate": 46,
        "futex": 98,
        "get_mempolicy": 236,
        "getcpu": 168,
        "getcwd": 17,
        "getdents64": 61,
        "getegid": 177,
        "geteuid": 175,
        "getgid": 176,
        "getgroups": 158,
        "getpgid": 155,
        "getpid": 172,
        "getppid": 173,
        "getpriority": 141,
        "getrandom": 278,
        "getresgid": 150,
        "getresuid": 148,
        "getsid": 156,
        "getsockopt": 209,
        "gettid": 178,
        "getuid": 174,
        "getxattr": 8,
        "init_module": 105,
        "inotify_add_watch": 27,
        "inotify_init1": 26,
        "io_uring_setup": 425,
        "ioctl": 29,
        "ioprio_get": 31,
        "ioprio_set": 30,
        "kexec_load": 104,
        "keyctl": 219,
        "kill": 129,
        "landlock_add_rule": 445,
        "landlock_create_ruleset": 444,
        "landlock_restrict_self": 446,
        "lgetxattr": 9,
        "linkat": 37,
        "listen": 201,
        "listmount": 458,
        "lremovexattr": 15,
        "lseek": 62,
        "lsetxattr": 6,
        "madvise": 233,
        "mbind": 235,
        "membarrier": 283,
        "memfd_create": 279,
        "memfd_secret": 447,
        "mincore": 232,
        "mkdirat": 34,
        "mknodat": 33,
        "mlock2": 284,
        "mmap": 222,
        "mount": 40,
        "mount_setattr": 442,
        "move_mount": 429,
        "mprotect": 226,
        "mseal": 462,
        "munmap": 215,
        "name_to_handle_at": 264,
        "nanosleep": 101,
        "newfstatat": 79,
        "open_by_handle_at": 265,
        "open_tree": 428,
        "openat": 56,
        "openat2": 437,
        "perf_event_open": 241,
        "personality": 92,
        "pidfd_getfd": 438,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "pipe2": 59,
        "pivot_root": 41,
        "ppoll": 73,
        "prctl": 167,
        "pread64": 67,
        "prlimit64": 261,
        "process_vm_readv": 270,
        "pselect6": 72,
        "ptrace": 117,
        "pwrite64": 68,
        "quotactl": 60,
        "read": 63,
        "readlinkat": 78,
        "readv": 65,
        "reboot": 142,
        "recvfrom": 207,
        "recvmsg": 212,
        "removexattr": 14,
        "renameat2": 276,
        "request_key": 218,
        "restart_syscall": 128,
        "rt_sigaction": 134,
        "rt_sigprocmask": 135,
        "rt_sigsuspend": 133,
        "rt_sigtimedwait": 137,
        "sched_getaffinity": 123,
        "sched_setaffinity": 122,
        "sched_setattr": 274,
        "sched_setscheduler": 119,
        "seccomp": 277,
        "sendfile": 71,
        "sendmsg": 211,
        "sendto": 206,
        "set_mempolicy": 237,
        "set_mempolicy_home_node": 450,
        "set_robust_list": 99,
        "set_tid_address": 96,
        "setdomainname": 162,
        "setfsgid": 152,
        "setfsuid": 151,
        "setgid": 144,
        "setgroups": 159,
        "sethostname": 161,
        "setns": 268,
        "setpgid": 154,
        "setpriority": 140,
        "setregid": 143,
        "setresgid": 149,
        "setresuid": 147,
        "setreuid": 145,
        "setrlimit": 164,
        "setsid": 157,
        "setsockopt": 208,
        "setuid": 146,
        "setxattr": 5,
        "shutdown": 210,
        "signalfd4": 74,
        "socket": 198,
        "socketpair": 199,
        "splice": 76,
        "statfs": 43,
        "statmount": 457,
        "statx": 291,
        "swapon": 224,
        "symlinkat": 36,
        "sync": 81,
        "syncfs": 267,
        "tee": 77,
        "tgkill": 131,
        "timerfd_create": 85,
        "timerfd_settime": 86,
        "umask": 166,
        "umount2": 39,
        "uname": 160,
        "unlinkat": 35,
        "unshare": 97,
        "userfaultfd": 282,
        "utimensat": 88,
        "wait4": 260,
        "waitid": 95,
        "write": 64,
        "writev": 66,
    }
else:
    NR = {
        "accept4": 288,
        "access": 21,
        "acct": 163,
        "add_key": 248,
        "bind": 49,
        "bpf": 321,
        "brk": 12,
        "cachestat": 451,
        "capget": 125,
        "capset": 126,
        "chdir": 80,
        "chroot": 161,
        "clock_gettime": 228,
        "clock_nanosleep": 230,
        "clone": 56,
        "clone3": 435,
        "close": 3,
        "close_range": 436,
        "connect": 42,
        "copy_file_range": 326,
        "delete_module": 176,
        "dup": 32,
        "dup3": 292,
        "epoll_create1": 291,
        "eventfd2": 290,
        "execve": 59,
        "execveat": 322,
        "exit": 60,
        "exit_group": 231,
        "faccessat": 269,
        "faccessat2": 439,
        "fadvise64": 221,
        "fallocate": 285,
        "fchdir": 81,
        "fchmod": 91,
        "fchmodat": 268,
        "fchmodat2": 452,
        "fchown": 93,
        "fchownat": 260,
        "fcntl": 72,
        "fgetxattr": 193,
        "flock": 73,
        "fremovexattr": 199,
        "fsconfig": 431,
        "fsetxattr": 190,
        "fsmount": 432,
        "fsopen": 430,
        "fspick": 433,
        "fstat": 5,
        "fstatfs": 138,
        "fsync": 74,
        "ftruncate": 77,
        "futex": 202,
        "get_mempolicy": 239,
        "getcpu": 309,
        "getcwd": 79,
        "getdents64": 217,
        "getegid": 108,
        "geteuid": 107,
        "getgid": 104,
        "getgroups": 115,
        "getpgid": 121,
        "getpid": 39,
        "getppid": 110,
        "getpriority": 140,
        "getrandom": 318,
        "getresgid": 120,
        "getresuid": 118,
        "getsid": 124,
        "getsockopt": 55,
        "gettid": 186,
        "getuid": 102,
        "getxattr": 191,
        "init_module": 175,
        "inotify_add_watch": 254,
        "inotify_init1": 294,
        "io_uring_setup": 425,
        "ioctl": 16,
        "ioprio_get": 252,
        "ioprio_set": 251,
        "kexec_load": 246,
        "keyctl": 250,
        "kill": 62,
        "landlock_add_rule": 445,
        "landlock_create_ruleset": 444,
        "landlock_restrict_self": 446,
        "lgetxattr": 192,
        "linkat": 265,
        "listen": 50,
        "listmount": 458,
        "lremovexattr": 198,
        "lseek": 8,
        "lsetxattr": 189,
        "madvise": 28,
        "mbind": 237,
        "membarrier": 324,
        "memfd_create": 319,
        "memfd_secret": 447,
        "mincore": 27,
        "mkdirat": 258,
        "mknodat": 259,
        "mlock2": 325,
        "mmap": 9,
        "mount": 165,
        "mount_setattr": 442,
        "move_mount": 429,
        "mprotect": 10,
        "mseal": 462,
        "munmap": 11,
        "name_to_handle_at": 303,
        "nanosleep": 35,
        "newfstatat": 262,
        "open": 2,
        "open_by_handle_at": 304,
        "open_tree": 428,
        "openat": 257,
        "openat2": 437,
        "pause": 34,
        "perf_event_open": 298,
        "personality": 135,
        "pidfd_getfd": 438,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "pipe2": 293,
        "pivot_root": 155,
        "poll": 7,
        "ppoll": 271,
        "prctl": 157,
        "pread64": 17,
        "prlimit64": 302,
        "process_vm_readv": 310,
        "pselect6": 270,
        "ptrace": 101,
        "pwrite64": 18,
        "quotactl": 179,
        "read": 0,
        "readlinkat": 267,
        "readv": 19,
        "reboot": 169,
        "recvfrom": 45,
        "recvmsg": 47,
        "removexattr": 197,
        "renameat2": 316,
        "request_key": 249,
        "restart_syscall": 219,
        "rt_sigaction": 13,
        "rt_sigprocmask": 14,
        "rt_sigsuspend": 130,
        "rt_sigtimedwait": 128,
        "sched_getaffinity": 204,
        "sched_setaffinity": 203,
        "sched_setattr": 314,
        "sched_setscheduler": 144,
        "seccomp": 317,
        "select": 23,
        "sendfile": 40,
        "sendmsg": 46,
        "sendto": 44,
        "set_mempolicy": 238,
        "set_mempolicy_home_node": 450,
        "set_robust_list": 273,
        "set_tid_address": 218,
        "setdomainname": 171,
        "setfsgid": 123,
        "setfsuid": 122,
        "setgid": 106,
        "setgroups": 116,
        "sethostname": 170,
        "setns": 308,
        "setpgid": 109,
        "setpriority": 141,
        "setregid": 114,
        "setresgid": 119,
        "setresuid": 117,
        "setreuid": 113,
        "setrlimit": 160,
        "setsid": 112,
        "setsockopt": 54,
        "setuid": 105,
        "setxattr": 188,
        "shutdown": 48,
        "signalfd4": 289,
        "socket": 41,
        "socketpair": 53,
        "splice": 275,
        "statfs": 137,
        "statmount": 457,
        "statx": 332,
        "swapon": 167,
        "symlinkat": 266,
        "sync": 162,
        "syncfs": 306,
        "tee": 276,
        "tgkill": 234,
        "timerfd_create": 283,
        "timerfd_settime": 286,
        "umask": 95,
        "umount2": 166,
        "uname": 63,
        "unlinkat": 263,
        "unshare": 272,
        "userfaultfd": 323,
        "utimensat": 280,
        "wait4": 61,
        "waitid": 247,
        "write": 1,
        "writev": 20,
    }


def number(name: str) -> int:
    """Return the number of system call `name` on this machine; KeyError when there is none."""
    found = NR.get(name)
    if found is not None:
        return found
    from pycontain.syscalls.tables import TABLES

    return TABLES[MACHINE][name]


AF_UNIX = 1
SOCK_STREAM = 1
SOCK_CLOEXEC = 0o2000000
MSG_PEEK = 2

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_REMOVEDIR = 0x200
AT_SYMLINK_FOLLOW = 0x400
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

O_RDONLY = 0
O_WRONLY = 1
O_RDWR = 2
O_CREAT = 0o100
O_EXCL = 0o200
O_NOCTTY = 0o400
O_TRUNC = 0o1000
O_APPEND = 0o2000
O_NONBLOCK = 0o4000
O_DIRECTORY = 0o40000 if MACHINE == "aarch64" else 0o200000
O_NOFOLLOW = 0o100000 if MACHINE == "aarch64" else 0o400000
O_CLOEXEC = 0o2000000
O_PATH = 0o10000000
O_TMPFILE = 0o20000000 | O_DIRECTORY

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

F_DUPFD = 0
F_GETFD = 1
F_SETFD = 2
F_GETFL = 3
F_SETFL = 4
F_DUPFD_CLOEXEC = 1030
F_ADD_SEALS = 1033
FD_CLOEXEC = 1
F_SEAL_SEAL = 1
F_SEAL_SHRINK = 2
F_SEAL_GROW = 4
F_SEAL_WRITE = 8

MFD_CLOEXEC = 1
MFD_ALLOW_SEALING = 2
MFD_NOEXEC_SEAL = 8
MFD_EXEC = 16
CLOSE_RANGE_UNSHARE = 2
CLOSE_RANGE_CLOEXEC = 4
UINT_MAX = 0xFFFFFFFF

CLONE_NEWTIME = 0x80
CLONE_VM = 0x100
CLONE_FS = 0x200
CLONE_FILES = 0x400
CLONE_SIGHAND = 0x800
CLONE_PIDFD = 0x1000
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_CHILD_CLEARTID = 0x200000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_CLEAR_SIGHAND = 0x100000000
CLONE_INTO_CGROUP = 0x200000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25
MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = O_CLOEXEC
MOVE_MOUNT_F_SYMLINKS = 0x1
MOVE_MOUNT_F_AUTOMOUNTS = 0x2
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_AUTOMOUNTS = 0x20
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOVE_MOUNT_SET_GROUP = 0x100
MOVE_MOUNT_BENEATH = 0x200
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_BINARY = 2
FSCONFIG_SET_PATH = 3
FSCONFIG_SET_PATH_EMPTY = 4
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_SET_THP_DISABLE = 41
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_LOWER = 3
PR_CAP_AMBIENT_CLEAR_ALL = 4

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32

P_PID = 1
P_PIDFD = 3
WEXITED = 4
WNOHANG = 1
WNOWAIT = 0x01000000
PIDFD_NONBLOCK = O_NONBLOCK
IN_CLOEXEC = O_CLOEXEC
IN_NONBLOCK = O_NONBLOCK
IN_MODIFY = 2
CAP_VERSION_3 = 0x20080522
"""`_LINUX_CAPABILITY_VERSION_3`, first word of capset's header."""

IOPRIO_WHO_PROCESS = 1
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4
TIOCSCTTY = 0x540E
TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
TIOCGPTN = 0x80045430
CLOCK_MONOTONIC = 1
