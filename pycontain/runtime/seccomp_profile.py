"""The default seccomp profile, and profiles in docker's format made into OCI's.

The lists are those of moby's default profile (github.com/moby/profiles, seccomp/default_linux.go,
2026): what a container may call, what a capability adds, which address families a socket may
have. io_uring is left out there since 2023-11, AF_VSOCK and AF_ALG for what they reach.
"""

from __future__ import annotations

import posix

from pycontain.errors import InvalidError, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pycontain.oci.runtime import Seccomp, SeccompRule

ALLOWED = (
    "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown "
    "chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
    "clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect "
    "copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old "
    "epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit "
    "exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod "
    "fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr "
    "flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate "
    "ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat "
    "getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 "
    "getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority "
    "getrandom getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage "
    "getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr "
    "getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl "
    "io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup "
    "io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown "
    "lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek "
    "lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create "
    "memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect "
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
    "mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock "
    "munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 "
    "pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll "
    "ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 "
    "pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv "
    "recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename "
    "renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending "
    "rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam "
    "sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
    "sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop "
    "semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 "
    "setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority "
    "setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 "
    "setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 "
    "setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 "
    "sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount "
    "statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create "
    "timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
    "timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times "
    "tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat "
    "utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev "
    "process_vm_readv process_vm_writev ptrace"
)
"""Allowed to everybody (the last three since Linux 4.8, where ptrace keeps to seccomp)."""

BY_ARCH = {
    "amd64": "arch_prctl modify_ldt",
    "arm64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
}

BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie "
        "lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount "
        "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog "
        "umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET."""

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, Linux32, both with the old uname version, and "only ask"."""

FAMILIES_BELOW = 12
FAMILIES = (*range(13, 19), 21, 22, 24, *range(26, 34), 35, 36, 39, *range(41, 46))
"""Address families from AF_DECnet on that sockets may have; AF_ALG is 38, AF_VSOCK 40."""

# Without x32: distributions build kernels without it, and its numbers cost a third of the filter.
ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}

GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "s390x": "s390x"}
"""uname(2)'s machine -> the architecture's name in docker's profiles."""

ENOSYS = 38


def default_profile(capabilities: Iterable[str], arch: str = "") -> Seccomp:
    """Return the default linux.seccomp for a container with these (bounding) capabilities."""
    arch = arch or posix.uname().machine
    held = set(capabilities)
    names = (ALLOWED + " " + BY_ARCH.get(GO_ARCH.get(arch, ""), "")).split()
    for capability, more in BY_CAPABILITY.items():
        if capability in held:
            names += more.split()
    rules: list[SeccompRule] = [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    rules.append(_when("socket", "SCMP_CMP_LT", FAMILIES_BELOW))
    rules.extend(_when("socket", "SCMP_CMP_EQ", family) for family in FAMILIES)
    rules.extend(_when("personality", "SCMP_CMP_EQ", value) for value in PERSONALITIES)
    if "CAP_SYS_ADMIN" not in held:
        rules.append(_when("clone", "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS))
        # The flags are behind a pointer: ENOSYS makes libc fall back to clone.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": list(ARCHITECTURES.get(arch, [])),
        "syscalls": rules,
    }


def _when(name: str, op: str, value: int) -> SeccompRule:
    condition = {"index": 0, "value": value, "valueTwo": 0, "op": op}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}  # type: ignore[list-item]


PROFILE_LIMIT = 4 << 20
"""Bytes of a profile; docker's own has 20 kB."""


def load_profile(path: str, capabilities: Iterable[str] = (), arch: str = "") -> Seccomp:
    """Read a profile, OCI's or docker's format; raises InvalidError and KernelError."""
    from pycontain import trees
    from pycontain.oci import codec
    from pycontain.runtime.validate import validate_seccomp

    what = f"seccomp profile {path}"
    try:
        text = trees.read_file(path, PROFILE_LIMIT)
    except OSError as error:
        raise KernelError("read seccomp profile", path, error, call="open") from None
    profile = codec.load_object(text, what)
    host = posix.uname()
    try:
        result = from_docker(profile, capabilities, arch or host.machine, host.release)
    except (AttributeError, KeyError, TypeError, ValueError):
        # What docker adds to the format has no schema of its own.
        raise InvalidError(f"{what}: a value has the wrong type") from None
    return validate_seccomp(result, what)


def from_docker(
    profile: Mapping[str, Any], capabilities: Iterable[str], arch: str, release: str
) -> Seccomp:
    """Return the linux.seccomp a profile means for these capabilities, machine and kernel.

    Docker's format adds to OCI's: archMap, and on each rule includes and excludes with caps, arches
    and minKernel, and `name` beside `names`. An OCI profile comes back as it was.
    """
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidError("seccomp profile: both architectures and archMap")
    result: dict[str, Any] = {
        key: profile[key]
        for key in ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath",
                    "listenerMetadata")
        if profile.get(key) is not None
    }  # fmt: skip
    native = ARCHITECTURES.get(arch, [""])[0]
    for entry in profile.get("archMap") or []:
        if entry.get("architecture") == native:
            result["architectures"] = [native, *(entry.get("subArchitectures") or [])]
    held = set(capabilities)
    result["syscalls"] = [
        _oci_rule(rule)
        for rule in profile.get("syscalls") or []
        if _included(rule, held, GO_ARCH.get(arch, arch), release)
    ]
    return result  # type: ignore[return-value]


def _oci_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
    if rule.get("name") and rule.get("names"):
        raise InvalidError("seccomp profile: a rule has both name and names")
    result = {"names": names, "action": rule.get("action", "")}
    for key in ("errnoRet", "args"):
        if rule.get(key) is not None:
            result[key] = rule[key]
    return result


def _included(rule: Mapping[str, Any], held: set[str], arch: str, release: str) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if any(cap in held for cap in excludes.get("caps") or []):
        return False
    if arch in (excludes.get("arches") or []):
        return False
    if excludes.get("minKernel") and _at_least(release, excludes["minKernel"]):
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if any(cap not in held for cap in includes.get("caps") or []):
        return False
    return not includes.get("minKernel") or _at_least(release, includes["minKernel"])


def _at_least(release: str, wanted: str) -> bool:
    return _version(release) >= _version(wanted)


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    digits = ""
    for letter in rest:
        if not letter.isdigit():
            break
        digits += letter
    if not major.isdigit():
        raise InvalidError(f"seccomp profile: kernel version {text!r}")
    return int(major), int(digits or 0)
