"""What the process becomes: limits, identity, privileges, the wait for start, the program.

These ops are carried out by the stub, a process of its own memory: what they change never touches
the parent. The order is the point:

    while all privileges are there   null device, keyring, limits, scheduling, bounding set
    identity                         groups, gid, uid (capabilities kept), umask, directory
    park                             the wait for start
    last                             close-on-exec for all, capabilities, no_new_privs, seccomp

A filter without no_new_privs needs CAP_SYS_ADMIN (seccomp(2)): it stays in the effective set until
the filter is loaded, and capset(2) is the only call after it. Source: runtime-spec config.md
"Linux Process", capabilities(7), execve(2).
"""

from __future__ import annotations

import errno

from pycontain.errors import InvalidError
from pycontain.runtime import capabilities, seccomp
from pycontain.syscalls import constants as c
from pycontain.syscalls.ops import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Process
    from pycontain.runtime.draft import Draft
    from pycontain.syscalls.ops import Data, Label

KEYCTL_JOIN_SESSION_KEYRING = 1
AT_EACCESS = 0x200
F_OK, X_OK = 0, 1
CAP_SYS_ADMIN = 21
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

KEEP_GROUPS = "run.oci.keep_original_groups"
"""crun's annotation, set by podman's --group-add keep-groups: "1" keeps the caller's groups."""


class Credentials:
    """Ids and capability masks of one process, read once from config.json."""

    __slots__ = (
        "ambient", "bounding", "effective", "gid", "groups", "inheritable", "permitted", "uid",
        "umask",
    )  # fmt: skip

    def __init__(self, process: Process) -> None:
        user = process.get("user") or {}
        self.uid, self.gid = user.get("uid", 0), user.get("gid", 0)
        self.groups = user.get("additionalGids") or []
        self.umask = user.get("umask", 0o022)
        sets = process.get("capabilities") or {}
        self.bounding = capabilities.mask(sets.get("bounding") or [])
        self.effective = capabilities.mask(sets.get("effective") or [])
        self.permitted = capabilities.mask(sets.get("permitted") or [])
        self.inheritable = capabilities.mask(sets.get("inheritable") or [])
        self.ambient = capabilities.mask(sets.get("ambient") or [])


def before_exec(draft: Draft) -> None:
    """Write: open what the stub will need from the host's /proc."""
    if wanted_labels(draft.process):
        draft.program.step("open proc for labels")
        flags = c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC
        draft.label_proc = draft.program.fd("openat", c.AT_FDCWD, "/proc", flags, target="/proc")
    score = draft.process.get("oomScoreAdj")
    if score is not None:
        # The score belongs to the memory too, and that is still shared: the stub writes it.
        path = "/proc/self/oom_score_adj"
        draft.program.step("set oom score", "process.oomScoreAdj")
        flags = c.O_WRONLY | c.O_CLOEXEC
        draft.oom_fd = draft.program.fd("openat", c.AT_FDCWD, path, flags, target=path)
        draft.keep.append(draft.oom_fd)


def limits(draft: Draft) -> None:
    """Write: keyring, personality, resource limits, scheduling."""
    program, process = draft.program, draft.process
    if draft.inputs.keyring:
        program.step("join session keyring")
        # A kernel without keys answers ENOSYS; with them, the caller's keys must not be inherited.
        program.call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None, ok=(errno.ENOSYS,))
    score = process.get("oomScoreAdj")
    if score is not None:
        program.step("set oom score", "process.oomScoreAdj")
        text = str(score)
        program.call("write", draft.oom_fd, text, len(text), target=text)
    for n, limit in enumerate(process.get("rlimits") or []):
        program.step("set resource limit", f"process.rlimits[{n}]")
        if limit["type"] not in RLIMITS:
            raise InvalidError(f"process.rlimits[{n}].type: unknown limit {limit['type']!r}")
        pair = limit["soft"].to_bytes(8, "little") + limit["hard"].to_bytes(8, "little")
        where = program.block(pair)
        program.call("prlimit64", 0, RLIMITS[limit["type"]], where, None, target=limit["type"])
    linux = draft.spec.get("linux", {})
    if not process.get("execCPUAffinity"):
        # The cgroup decides: since Linux 6.2 the caller's own mask would outlast the join.
        program.step("reset CPU affinity")
        every = program.block(_EVERY_CPU)
        program.call("sched_setaffinity", 0, len(_EVERY_CPU), every, ok=(ANY,))
    if any(key in process for key in _RARE) or any(key in linux for key in _RARE_LINUX):
        from pycontain.runtime import scheduling

        scheduling.write(draft)


_EVERY_CPU = b"\xff" * 1024
"""8192 of them, the most a kernel is built for."""

_RARE = ("scheduler", "ioPriority", "execCPUAffinity")
_RARE_LINUX = ("personality", "memoryPolicy")


def identity(draft: Draft, who: Credentials) -> None:
    """Write: drop the bounding set, take the ids, enter the working directory.

    The directory is entered with all rights; where even root may not (a network file system), with
    the user's own.
    """
    program, last = draft.program, draft.inputs.last_capability
    program.step("drop bounding capabilities", "process.capabilities.bounding")
    for bit in range(last + 1):
        if not who.bounding >> bit & 1:
            program.call("prctl", c.PR_CAPBSET_DROP, bit, 0, 0, 0, target=_name(bit))
    if (draft.process.get("cwd") or "/") == "/":
        _take_ids(draft, who)
    elif not who.uid:
        _enter_directory(draft)
        _take_ids(draft, who)
    else:
        denied, entered = program.label(), program.label()
        _enter_directory(draft, (errno.EACCES,), denied)
        _take_ids(draft, who, entered)
        program.place(denied)
        _take_ids(draft, who)
        _enter_directory(draft)
        program.place(entered)


def _name(bit: int) -> str:
    return capabilities.NAMES[bit] if bit < len(capabilities.NAMES) else str(bit)


def _take_ids(draft: Draft, who: Credentials, then: Label | None = None) -> None:
    program = draft.program
    program.step("set user", "process.user")
    if who.uid:
        program.call("prctl", c.PR_SET_KEEPCAPS, 1, 0, 0, 0)
    if draft.spec.get("annotations", {}).get(KEEP_GROUPS) != "1":
        _drop_groups(draft, who)
    program.call("setresgid", who.gid, who.gid, who.gid, target=str(who.gid))
    program.call("setresuid", who.uid, who.uid, who.uid, target=str(who.uid))
    program.call("umask", who.umask, on_success=then, target=oct(who.umask))


def _drop_groups(draft: Draft, who: Credentials) -> None:
    groups = b"".join(gid.to_bytes(4, "little") for gid in who.groups)
    # Where a user maps a single id, or a namespace given by path, the kernel refuses setgroups(2)
    # for good: nothing to drop then.
    inputs = draft.inputs
    refusing = inputs.rootless or (
        inputs.user_namespace
        and any(s["type"] == "user" and s.get("path") for s in draft.spec["linux"]["namespaces"])
    )
    refused = (errno.EPERM,) if refusing and not groups else ()
    program = draft.program
    program.call(
        "setgroups", len(who.groups), program.block(groups) if groups else None,
        ok=refused, target=",".join(map(str, who.groups)),
    )  # fmt: skip


def _enter_directory(draft: Draft, ok: tuple[int, ...] = (), denied: Label | None = None) -> None:
    # Without magic links: /proc/self/fd/N may be a directory of the host (CVE-2024-21626).
    program, cwd = draft.program, draft.process["cwd"]
    program.step("enter working directory", "process.cwd")
    register = program.register()
    how = draft.how(c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC, c.RESOLVE_NO_MAGICLINKS)
    program.call(
        "openat2", c.AT_FDCWD, cwd, how, 24, into=register, ok=ok, on_error=denied, target=cwd
    )
    program.call("fchdir", register, ok=ok, on_error=denied, target=cwd)
    program.release(register)


def restrict(draft: Draft, who: Credentials) -> None:
    """Write: what must be the last before the program runs."""
    program, inputs, process = draft.program, draft.inputs, draft.process
    no_new_privs = bool(process.get("noNewPrivileges"))
    late = bool(inputs.seccomp) and not no_new_privs
    mark_descriptors(draft)
    labels(draft)
    if not late:
        _set_capabilities(draft, who)
    if no_new_privs:
        program.step("forbid new privileges", "process.noNewPrivileges")
        program.call("prctl", c.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if inputs.seccomp:
        if late:
            _hold_sys_admin(draft, who)
        _load_filter(draft)
    if late:
        _set_capabilities(draft, who)


def mark_descriptors(draft: Draft) -> None:
    """Write: the next exec closes every descriptor that is not passed on."""
    draft.program.step("close descriptors")
    first = 3 + draft.inputs.preserve_fds
    draft.program.call(
        "close_range", first, c.UINT_MAX, c.CLOSE_RANGE_CLOEXEC, target=f"{first} and up"
    )


def _capset(draft: Draft, effective: int, permitted: int, inheritable: int) -> None:
    program = draft.program
    header = program.block(capabilities.header())
    data = program.block(capabilities.data(effective, permitted, inheritable))
    program.call("capset", header, data)


def _hold_sys_admin(draft: Draft, who: Credentials) -> None:
    draft.program.step("keep CAP_SYS_ADMIN for seccomp", "linux.seccomp")
    bit = 1 << CAP_SYS_ADMIN
    _capset(draft, who.effective | bit, who.permitted | bit, who.inheritable)


def check_capabilities(who: Credentials) -> None:
    """Raise for what capset(2) would refuse anybody: `create` has to say so, not `start`."""
    for which, wanted, limit, name in (
        ("effective", who.effective, who.permitted, "permitted"),
        ("inheritable", who.inheritable, who.bounding, "bounding"),
    ):
        beyond = capabilities.names(wanted & ~limit)
        if beyond:
            raise InvalidError(
                f"process.capabilities.{which}: {', '.join(beyond)} outside the {name} set",
                hint="capset: Operation not permitted (EPERM)",
            )


def _set_capabilities(draft: Draft, who: Credentials) -> None:
    program = draft.program
    program.step("set capabilities", "process.capabilities")
    _capset(draft, who.effective, who.permitted, who.inheritable)
    if who.ambient:
        program.step("raise ambient capabilities", "process.capabilities.ambient")
    for bit in range(64):
        if who.ambient >> bit & 1:
            program.call("prctl", c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, bit, 0, 0)


def listens(draft: Draft) -> bool:
    """Return whether the filter hands calls to an agent."""
    profile = draft.spec.get("linux", {}).get("seccomp")
    return bool(draft.inputs.seccomp and profile and seccomp.notifies(profile))


def _load_filter(draft: Draft) -> None:
    program = draft.program
    program.step("load seccomp filter", "linux.seccomp")
    profile = draft.spec.get("linux", {}).get("seccomp") or {}
    flags = seccomp.flags(profile)
    code = program.block(draft.inputs.seccomp)
    fprog = program.block((code.size // 8).to_bytes(8, "little") + bytes(8))
    program.pointer(program.field(fprog, 8, 8), code)
    if not flags & c.SECCOMP_FILTER_FLAG_NEW_LISTENER:
        program.call("seccomp", c.SECCOMP_SET_MODE_FILTER, flags, fprog)
        return
    # TSYNC and a listener exclude each other (seccomp(2)); the stub has one thread anyway.
    flags &= ~c.SECCOMP_FILTER_FLAG_TSYNC
    listener = program.fd("seccomp", c.SECCOMP_SET_MODE_FILTER, flags, fprog)
    draft.send_fds(draft.inputs.sync, "S", listener, target="seccomp listener")
    program.close(listener)


def labels(draft: Draft) -> None:
    """Write: the LSM labels the program gets, into a proc that is known to be one.

    `draft.proc_dir` is proc's root as the plan opened it: no bind over a file of it can take the
    label (CVE-2019-16884, CVE-2025-52881).
    """
    process = draft.process
    for key, names in _LABELS:
        label = str(process.get(key) or "")
        if not label:
            continue
        program = draft.program
        program.step("set label", "process." + key)
        text = f"exec {label}" if key == "apparmorProfile" else label
        raw = text.encode()
        fd = program.register()
        opened = program.label()
        flags = draft.how(c.O_WRONLY | c.O_CLOEXEC, c.RESOLVE_NO_XDEV | c.RESOLVE_NO_MAGICLINKS)
        for n, name in enumerate(names):
            last = n == len(names) - 1
            program.call(
                "openat2", draft.label_proc, name, flags, 24, into=fd,
                ok=() if last else (errno.ENOENT,),
                on_success=None if last else opened, target="/proc/" + name,
            )  # fmt: skip
        program.place(opened)
        program.call("write", fd, raw, len(raw), target=label)
        program.close(fd)


_LABELS = (
    ("apparmorProfile", ("thread-self/attr/apparmor/exec", "thread-self/attr/exec")),
    ("selinuxLabel", ("thread-self/attr/exec",)),
)


def null_stdio(draft: Draft) -> None:
    """Write: a null device of the container's own where a standard descriptor is the host's."""
    program = draft.program
    if not draft.inputs.stdio_null:
        return
    program.step("open null device")
    absent, null = program.label(), program.register()
    flags = c.O_RDWR | c.O_CLOEXEC | c.O_NOFOLLOW
    program.call(
        "openat", c.AT_FDCWD, "/dev/null", flags,
        into=null, ok=(ANY,), on_error=absent, target="/dev/null",
    )  # fmt: skip
    for number in draft.inputs.stdio_null:
        program.call("dup3", null, number, 0, target=f"descriptor {number}")
    program.close(null)
    program.place(absent)


def wanted_labels(process: Process) -> bool:
    return any(process.get(key) for key, _ in _LABELS)


def park(draft: Draft) -> None:
    """Write: wait in the exec fifo until `start` opens its other end."""
    program, inputs = draft.program, draft.inputs
    if not inputs.park_name:
        return
    program.step("wait for start")
    draft.tell("P", answer=False, target="parent")
    flags = c.O_WRONLY | c.O_CLOEXEC
    fifo = program.fd("openat", inputs.park_dir, inputs.park_name, flags, target=inputs.park_name)
    program.call("write", fifo, "0", 1, target=inputs.park_name)
    # The exec closes it, which tells `start` when the program runs.
    program.release(fifo)


def candidates(process: Process) -> list[str]:
    """Return the paths to try for args[0], in order (execvp(3); a relative entry is no entry)."""
    name = process["args"][0]
    if "/" in name:
        return [name]
    path = DEFAULT_PATH
    for entry in process.get("env") or []:
        if entry.startswith("PATH="):
            path = entry[5:]
    # An empty name finds no file; below a directory it would be the directory itself.
    found = [f"{place.rstrip('/')}/{name}" for place in path.split(":") if place.startswith("/")]
    return found if name and found else ["/" + name] if name else [""]


def environment(process: Process) -> list[str]:
    """Return process.env with the last entry of each name, in the place of the first."""
    # getenv(3) takes the first of two, setenv(3) and with it runc and crun the last.
    return list({entry.partition("=")[0]: entry for entry in process.get("env") or []}.values())


def check_program(draft: Draft) -> None:
    """Write: look for the program before parking, so that `create` reports a missing one."""
    program = draft.program
    program.step("find program", "process.args[0]")
    paths = candidates(draft.process)
    found = program.label()
    for path in paths:
        following = program.label()
        program.call(
            "faccessat2", c.AT_FDCWD, path, X_OK, AT_EACCESS,
            ok=(ANY,), on_error=following, target=path,
        )  # fmt: skip
        # A directory may be "executable" too.
        program.call(
            "faccessat2", c.AT_FDCWD, path + "/.", F_OK, 0,
            ok=(ANY,), on_error=found, target=path,
        )  # fmt: skip
        program.place(following)
    _call_for_help(draft)
    program.call("faccessat2", c.AT_FDCWD, paths[0], X_OK, AT_EACCESS, target=paths[0])
    program.call("openat", c.AT_FDCWD, paths[0], c.O_WRONLY | c.O_CLOEXEC, target=paths[0])
    program.place(found)


def execute(draft: Draft) -> None:
    """Write: execve(2) over the candidates, then the report that none of them could be run."""
    program, process = draft.program, draft.process
    program.step("execute", "process.args")
    args = process["args"]
    argv = program.pointers(args)
    envp = program.pointers(environment(process))
    paths = candidates(process)
    for path in paths:
        program.call("execve", path, argv, envp, ok=(ANY,), target=path)
    _call_for_help(draft)
    program.call("execve", paths[0], argv, envp, target=paths[0])


def _call_for_help(draft: Draft) -> None:
    """Show the parent the container's root, and stay until it found out what is wrong there."""
    program, sync = draft.program, draft.inputs.sync
    if sync < 0:
        return
    root = program.register()
    flags = c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC
    program.call("openat", c.AT_FDCWD, "/", flags, into=root, ok=(ANY,), target="/")
    draft.send_fds(sync, "F", root, ok=(ANY,), target="parent")
    answer: Data = program.block(bytes(8))
    program.call("read", sync, answer, 1, ok=(ANY,), target="parent")
    program.release(root)
