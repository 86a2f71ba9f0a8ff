"""What a plan needs from this host: descriptors that the child inherits, and a few facts.

Descriptors are opened here, used by the child under the same numbers and closed again with
`Gathered`. Nothing is changed on the host.
"""

from __future__ import annotations

import posix

from pycontain.errors import InvalidError, KernelError, NotFoundError, UnsupportedError
from pycontain.runtime import capabilities, namespaces, seccomp
from pycontain.runtime.draft import Inputs
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Process, Spec
    from pycontain.runtime.container import Container
    from pycontain.runtime.launch import LaunchOptions

NS_GET_NSTYPE = 0xB703
EXEC_ENTERS_TIME = [6, 6]
"""The first long-term kernel whose execve enters the time namespace unshared before it."""
STUB = __file__.rpartition("/")[0].rpartition("/")[0] + "/native/bin/stub"
_OPEN = posix.O_RDONLY | posix.O_CLOEXEC
_TYPE, _CHARACTER = 0o170000, 0o020000
_NULL = (1, 3)
_OTHERS_EXECUTE = 0o001


class Gathered:
    """The descriptors held for one launch, closed at its end; and the pair the two talk over."""

    __slots__ = ("_fds", "far", "near")

    def __enter__(self) -> Gathered:
        self._fds: list[int] = []
        self.near, self.far = kernel.socketpair(c.AF_UNIX, c.SOCK_STREAM | c.SOCK_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        self.close_far()
        for fd in (self.near, *self._fds):
            posix.close(fd)

    def close_far(self) -> None:
        """Leave the child's end of the pair to the child."""
        if self.far >= 0:
            posix.close(self.far)
            self.far = -1

    def keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def open(self, what: str, path: str, flags: int = _OPEN) -> int:
        try:
            return self.keep(posix.open(path, flags | posix.O_CLOEXEC))
        except FileNotFoundError:
            raise NotFoundError(f"{what} {path} does not exist") from None
        except OSError as error:
            raise KernelError(f"open {what}", path, error, call="open") from None


def for_init(spec: Spec, options: LaunchOptions, held: Gathered) -> Inputs:
    """Return the inputs of a container's plan."""
    linux = spec.get("linux", {})
    process = spec.get("process") or {}
    root = spec.get("root", {}).get("path", "")
    inputs = Inputs(root if root.startswith("/") else f"{options.bundle}/{root}", options.bundle)
    _common(inputs, spec, process, options, held)
    inputs.rootfs_mounts = options.rootfs_mounts
    inputs.hooks = options.hooks is not None
    inputs.network = options.network is not None or bool(linux.get("netDevices"))
    inputs.no_pivot = options.no_pivot
    if options.no_pivot:
        from pycontain.runtime import hostmounts

        inputs.kernel_mounts = hostmounts.kernel_mounts(inputs.rootfs)
    if options.park:
        directory, _, inputs.park_name = options.park.rpartition("/")
        flags = posix.O_PATH | posix.O_DIRECTORY
        inputs.park_dir = held.open("directory", directory or "/", flags)
    for kind, path in namespaces.asked(linux).items():
        if path:
            inputs.namespaces[kind] = _namespace(kind, path, held)
        inputs.user_namespace |= kind == "user"
    if any(m.get("type") == "cgroup" for m in spec.get("mounts") or []):
        _cgroup_facts(inputs, options)
    if linux.get("rootfsPropagation", "") in ("shared", "rshared"):
        from pycontain.runtime import hostmounts

        inputs.private_parent = hostmounts.mount_point(inputs.rootfs)
    if options.rootfs_mounts == []:
        _default_home(process, inputs.rootfs)
    _trees(spec, inputs, held)
    return inputs


def _common(
    inputs: Inputs, spec: Spec, process: Process, options: LaunchOptions, held: Gathered
) -> None:
    inputs.sync = held.far
    inputs.stub = STUB
    inputs.rootless = posix.geteuid() != 0 or kernel.in_user_namespace()
    inputs.console = options.console
    inputs.plain_newlines = options.plain_newlines
    inputs.keyring = not options.no_new_keyring
    inputs.preserve_fds = options.preserve_fds
    inputs.stdio = _apart(options.stdio, held)
    if not process.get("terminal"):
        _owners_of_stdio(inputs, (process.get("user") or {}).get("uid", 0))
    inputs.last_capability = last_capability()
    inputs.exec_enters_time = _release() >= EXEC_ENTERS_TIME
    profile = spec.get("linux", {}).get("seccomp")
    if profile:
        inputs.seccomp = seccomp.program(profile)
    if process.get("terminal") and options.console < 0:
        raise InvalidError("process.terminal is set and there is no console socket")
    _check_labels(process)
    if options.cgroup is not None:
        files = options.cgroup.join_files()
        inputs.cgroup_fds = [held.open("cgroup", file, posix.O_WRONLY) for file in files]
    if options.rdt is not None:
        files = options.rdt.tasks_files()
        inputs.rdt_fds = [held.open("resource control", file, posix.O_WRONLY) for file in files]


def _release() -> list[int]:
    """Return the kernel's version and patch level."""
    return [int("".join(filter(str.isdigit, n)) or 0) for n in posix.uname().release.split(".")[:2]]


def last_capability() -> int:
    """Return the highest capability of this kernel; one call where it has those we know."""
    highest = len(capabilities.NAMES) - 1
    try:
        kernel.prctl(c.PR_CAPBSET_READ, highest + 1)
    except OSError:
        return capabilities.last_cap() if not _knows(highest) else highest
    return capabilities.last_cap()


def _knows(bit: int) -> bool:
    try:
        kernel.prctl(c.PR_CAPBSET_READ, bit)
    except OSError:
        return False
    return True


def _apart(stdio: tuple[int, int, int], held: Gathered) -> tuple[int, int, int]:
    """Return descriptors that the child can dup to 0, 1, 2 one after the other without a clash."""
    if stdio == (0, 1, 2):
        return stdio
    moved = [
        held.keep(kernel.syscall("fcntl", fd, c.F_DUPFD_CLOEXEC, 10)) if fd < 3 and fd != n else fd
        for n, fd in enumerate(stdio)
    ]
    return moved[0], moved[1], moved[2]


def _owners_of_stdio(inputs: Inputs, uid: int) -> None:
    """Tell which of 0, 1, 2 become the container's user's, and which are a null device.

    That device is the host's: who holds it could change its owner and mode.
    """
    owned, null = [], []
    for number, fd in enumerate(inputs.stdio):
        try:
            status = posix.fstat(fd)
        except OSError:
            continue
        device = (posix.major(status.st_rdev), posix.minor(status.st_rdev))
        if status.st_mode & _TYPE == _CHARACTER and device == _NULL:
            null.append(number)
        elif uid and status.st_uid != uid:
            owned.append(number)
    inputs.stdio_owned = tuple(owned)
    inputs.stdio_null = tuple(null)


def _namespace(kind: str, path: str, held: Gathered) -> int:
    fd = held.open(f"{kind} namespace", path, posix.O_RDONLY)
    try:
        found = kernel.syscall("ioctl", fd, NS_GET_NSTYPE)
    except OSError:
        raise InvalidError(f"linux.namespaces: {path} is not a namespace") from None
    if found != namespaces.FLAGS[kind]:
        names = [name for name, flag in namespaces.FLAGS.items() if flag == found]
        raise InvalidError(f"linux.namespaces: {path} is a {names[0]} namespace, not {kind}")
    return fd


def _cgroup_facts(inputs: Inputs, options: LaunchOptions) -> None:
    cgroup = options.cgroup
    if cgroup is None or cgroup.why:
        from pycontain.cgroup import hierarchy

        inputs.unified = hierarchy.detect().pure_v2
    else:
        inputs.unified = cgroup.hierarchy.pure_v2
    if cgroup is not None:
        inputs.cgroup_paths = cgroup.paths()


def _check_labels(process: Process) -> None:
    if process.get("apparmorProfile"):
        try:
            fd = posix.open("/sys/module/apparmor/parameters/enabled", _OPEN)
        except OSError:
            raise UnsupportedError("process.apparmorProfile: this host has no AppArmor") from None
        posix.close(fd)
    if process.get("selinuxLabel"):
        try:
            posix.stat("/sys/fs/selinux/enforce")
        except OSError:
            raise UnsupportedError("process.selinuxLabel: this host has no SELinux") from None


def _default_home(process: Process, rootfs: str) -> None:
    """Set HOME from the container's /etc/passwd where it is missing or empty, as runc does."""
    homes = [entry for entry in process.get("env") or [] if entry.startswith("HOME=")]
    if process and homes[-1:] in ([], ["HOME="]):
        from pycontain.runtime import home

        uid = (process.get("user") or {}).get("uid", 0)
        process["env"] = [*(process.get("env") or []), "HOME=" + home.lookup(rootfs, uid)]


def _trees(spec: Spec, inputs: Inputs, held: Gathered) -> None:
    mounts = spec.get("mounts") or []
    mapped = any(
        m.get("uidMappings") or "idmap" in (o := m.get("options") or ()) or "ridmap" in o
        for m in mounts
    )
    if mapped or (inputs.user_namespace and not inputs.rootless):
        from pycontain.runtime import idmap

        inputs.trees = {index: held.keep(fd) for index, fd in idmap.trees(spec, inputs).items()}
        if inputs.user_namespace and not inputs.rootless:
            inputs.root_tree = held.keep(_root_tree(spec, inputs))
            inputs.stub_fd = held.keep(_reachable_stub())
    if not inputs.rootfs_mounts and spec.get("linux", {}).get("devices"):
        from pycontain.runtime import devices

        devices.check_places(spec)
    if inputs.user_namespace and not inputs.rootless and spec["linux"].get("devices"):
        from pycontain.runtime import devices, mappednodes

        made = mappednodes.trees(spec["linux"], devices.TYPES)
        inputs.nodes = {path: held.keep(fd) for path, fd in made.items()}


def _reachable_stub() -> int:
    """Open the stub for a child that may not be able to go where it is installed."""
    try:
        if not posix.stat(STUB).st_mode & _OTHERS_EXECUTE:
            return _sealed_copy(STUB)
        tree = kernel.open_tree(c.AT_FDCWD, STUB, c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC)
    except OSError as error:
        raise KernelError("open stub", STUB, error) from None
    try:
        kernel.mount_setattr(tree, "", c.AT_EMPTY_PATH, c.MOUNT_ATTR_RDONLY)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def _root_tree(spec: Spec, inputs: Inputs) -> int:
    """Open the rootfs for a child whose root may not be able to go there."""
    if not inputs.rootfs_mounts:
        from pycontain.runtime import idmap

        return idmap.root_tree(inputs.rootfs)
    from pycontain.runtime import mappedroot

    linux, user = spec["linux"], (spec.get("process") or {}).get("user") or {}
    uids, gids = linux.get("uidMappings") or [], linux.get("gidMappings") or []
    if inputs.console < 0:
        uid = mappedroot.host_id(uids, user.get("uid", 0))
        gid = mappedroot.host_id(gids, user.get("gid", 0))
        mappedroot.give_pipes(inputs.stdio, uid, gid)
    return mappedroot.tree(inputs.rootfs_mounts, inputs.rootfs, uids, gids)


def for_exec(
    spec: Spec, process: Process, container: Container, options: LaunchOptions, held: Gathered
) -> Inputs:
    """Return the inputs of the plan that joins `container`."""
    inputs = Inputs("/", "/")
    pid = container.pid
    try:
        inputs.join_pidfd = held.keep(posix.pidfd_open(pid))
    except ProcessLookupError:
        raise NotFoundError(f"container {container.id} does not run any more") from None
    if options.cgroup is None:
        options.cgroup = container.cgroup
    _common(inputs, spec, process, options, held)
    flags = _different(pid)
    inputs.user_namespace = bool(flags & c.CLONE_NEWUSER)
    inputs.join_first = flags & c.CLONE_NEWPID
    if inputs.user_namespace and posix.geteuid() != 0:
        # An ordinary user has rights on the pid namespace in the user namespace alone.
        inputs.join_first = flags & (c.CLONE_NEWPID | c.CLONE_NEWUSER)
        inputs.stub_fd = held.keep(_sealed_copy(STUB))
    elif inputs.user_namespace:
        inputs.stub_fd = held.keep(_reachable_stub())
    inputs.join_flags = flags & ~inputs.join_first
    if not flags & c.CLONE_NEWNS:
        where = f"/proc/{pid}/root"
        inputs.join_root = held.open("root of", where, posix.O_PATH | posix.O_DIRECTORY)
    if container.state.start_time != _start_time(pid):
        raise NotFoundError(f"container {container.id} does not run any more")
    _default_home(process, f"/proc/{pid}/root")
    return inputs


def _sealed_copy(path: str) -> int:
    """Return a copy of a program in memory that nobody can write to, for who may not mount."""
    source = posix.open(path, _OPEN)
    try:
        copy = kernel.memfd_create("pycontain", c.MFD_CLOEXEC | c.MFD_ALLOW_SEALING)
        while posix.sendfile(copy, source, None, 1 << 20):
            continue
    finally:
        posix.close(source)
    seals = c.F_SEAL_SEAL | c.F_SEAL_SHRINK | c.F_SEAL_GROW | c.F_SEAL_WRITE
    kernel.syscall("fcntl", copy, c.F_ADD_SEALS, seals)
    return copy


def _start_time(pid: int) -> int:
    from pycontain.runtime.state import process_start

    return process_start(pid)


def _different(pid: int) -> int:
    """Return CLONE_NEW* of the namespaces in which `pid` differs from this process."""
    flags = 0
    for kind, flag in namespaces.FLAGS.items():
        file = namespaces.FILES[kind]
        try:
            there = posix.stat(f"/proc/{pid}/ns/{file}")
            here = posix.stat(f"/proc/self/ns/{file}")
        except FileNotFoundError:
            continue  # a kernel without this kind
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            flags |= flag
    return flags
