"""/dev: nodes, links and the console.

A node is made by mknodat(2); where that is not allowed (a user namespace) one made by the parent
(`mappednodes`), else the host's own, is bound in its place. Everything happens relative to a
descriptor of the container's /dev.
Source: runtime-spec config-linux.md "Default Devices", "/dev symbolic links".
"""

from __future__ import annotations

import errno
import posix

from pycontain.errors import InvalidError, quote
from pycontain.runtime import mountoptions
from pycontain.runtime.draft import INSIDE, S_IFREG, Draft, split
from pycontain.runtime.mounts import is_bind
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Device, Spec
    from pycontain.syscalls.ops import Reg

TIOCSWINSZ = 0x5414
TCSETS = 0x5402

PLAIN_TERMIOS = bytes.fromhex(
    # c_iflag, c_oflag, c_cflag, c_lflag, c_line and c_cc of a new terminal (tty_std_termios in
    # drivers/tty/tty_io.c, pts in pty.c); c_oflag is OPOST without ONLCR.
    "00050000 01000000 bf000000 3b8a0000 00 031c7f150400010011131a00120f1716000000"
)
_FORMAT = 0o170000
S_IFCHR = 0o020000
S_IFBLK = 0o060000
S_IFIFO = 0o010000
TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
_CLONE = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
_DIRECTORY = c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC

DEFAULT: tuple[tuple[str, int, int], ...] = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)


def write(draft: Draft) -> None:
    """Write the contents of /dev, unless /dev is a bind: then it is somebody else's."""
    if _dev_is_bound(draft):
        return
    program = draft.program
    program.step("make devices", "linux.devices")
    if draft.dev is None:
        point = draft.mount_point("/dev", resolve=INSIDE | c.RESOLVE_NO_SYMLINKS)
        draft.release(point)
        draft.dev = draft.open("/dev", _DIRECTORY)
    mounted = _mounted(draft)
    own = {device["path"] for device in draft.spec.get("linux", {}).get("devices") or []}
    own |= mounted
    for name, major, minor in DEFAULT:
        if "/dev/" + name not in own:
            _node(
                draft, draft.dev, name, S_IFCHR | 0o666, device_number(major, minor), "/dev/" + name
            )
    for n, device in enumerate(draft.spec.get("linux", {}).get("devices") or []):
        if device["path"] not in mounted:
            program.step("make devices", f"linux.devices[{n}]")
            _device(draft, device)
    program.step("make links in /dev")
    for name, target in LINKS:
        if "/dev/" + name in mounted:
            continue
        if not draft.dev_fresh:
            _remove(draft, draft.dev, name, "/dev/" + name)
        program.call(
            "symlinkat", target, draft.dev, name, ok=(errno.EEXIST,), target="/dev/" + name
        )


def check_places(spec: Spec) -> None:
    """Raise InvalidError where the rootfs has something else at the path of a device.

    Source: runtime-spec config-linux.md "Devices". What a mount covers is not looked at.
    """
    covered = tuple("/".join(split(m["destination"])) + "/" for m in spec.get("mounts") or [])
    top = posix.open(spec["root"]["path"], posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        for n, device in enumerate(spec["linux"].get("devices") or []):
            path = "/".join(split(device["path"]))
            if not (path + "/").startswith(covered):
                _check_place(top, path, device, f"linux.devices[{n}].path")
    finally:
        posix.close(top)


def _check_place(top: int, path: str, device: Device, where: str) -> None:
    flags = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = kernel.openat2(top, path, flags, 0, c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS)
    except OSError:
        return
    try:
        there = posix.fstat(fd)
    finally:
        posix.close(fd)
    kind = TYPES[device["type"]]
    if there.st_mode & _FORMAT != kind:
        raise InvalidError(f"{where}: {device['path']} has incorrect ftype, it is in the rootfs")
    major, minor = posix.major(there.st_rdev), posix.minor(there.st_rdev)
    wanted = f"{device.get('major', 0)}:{device.get('minor', 0)}"
    if kind != S_IFIFO and f"{major}:{minor}" != wanted:
        raise InvalidError(
            f"{where}: {device['path']} has incorrect major:minor: "
            f"{major}:{minor} doesn't match expected {wanted}"
        )


def _dev_is_bound(draft: Draft) -> bool:
    # Of several mounts at one place the last is on top.
    for entry in reversed(draft.spec.get("mounts") or []):
        if split(entry["destination"]) == ["dev"]:
            return is_bind(entry, mountoptions.parse(entry.get("options") or []))
    return False


def _mounted(draft: Draft) -> set[str]:
    """Return the paths below /dev with a mount of their own: a device given by bind stays as it is.

    Podman without root gives the host's devices to a privileged container so.
    """
    places = (entry["destination"] for entry in draft.spec.get("mounts") or [])
    return {"/" + "/".join(split(place)) for place in places if place.startswith("/dev/")}


def device_number(major: int, minor: int) -> int:
    """Return dev_t as the kernel's system calls take it (new_encode_dev)."""
    return minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


def _remove(draft: Draft, directory: Reg, name: str, path: str) -> None:
    draft.program.call("unlinkat", directory, name, 0, ok=(errno.ENOENT,), target=path)


def _device(draft: Draft, device: Device) -> None:
    path = device["path"]
    parts = split(path)
    if not parts:
        raise InvalidError(f"linux.devices: {quote(path)} names no file")
    mode = TYPES[device["type"]] | device.get("fileMode", 0o666) & 0o7777
    number = device_number(device.get("major", 0), device.get("minor", 0))
    if len(parts) == 2 and parts[0] == "dev" and draft.dev is not None:
        parent = draft.dev
    else:
        parent = draft.mount_point("/".join(parts[:-1]))
    _node(draft, parent, parts[-1], mode, number, path)
    uid, gid = device.get("uid", 0), device.get("gid", 0)
    if (uid or gid) and not draft.inputs.user_namespace:
        draft.program.call(
            "fchownat", parent, parts[-1], uid, gid, c.AT_SYMLINK_NOFOLLOW, target=path
        )
    if parent is not draft.dev:
        draft.release(parent)


def _node(draft: Draft, parent: Reg, name: str, mode: int, number: int, path: str) -> None:
    program = draft.program
    if not draft.dev_fresh or parent is not draft.dev:
        _remove(draft, parent, name, path)
    if draft.inputs.user_namespace:
        _bind_node(draft, parent, name, path)
        return
    if not draft.inputs.rootless:
        program.call("mknodat", parent, name, mode, number, target=path)
        return
    # Root of an outer user namespace finds out only here that it may not make nodes.
    made = program.label()
    program.call(
        "mknodat", parent, name, mode, number, ok=(errno.EPERM,), on_success=made, target=path
    )
    _bind_node(draft, parent, name, path)
    program.place(made)


def _bind_node(draft: Draft, parent: Reg, name: str, path: str) -> None:
    program = draft.program
    program.call("mknodat", parent, name, S_IFREG | 0o644, 0, ok=(errno.EEXIST,), target=path)
    made = draft.inputs.nodes.get(path)
    if made is not None:
        program.call("move_mount", made, "", parent, name, c.MOVE_MOUNT_F_EMPTY_PATH, target=path)
        return
    tree = program.fd("open_tree", c.AT_FDCWD, path, _CLONE, target=path)
    program.call("move_mount", tree, "", parent, name, c.MOVE_MOUNT_F_EMPTY_PATH, target=path)
    draft.release(tree)


def console(draft: Draft, *, mount: bool = True) -> None:
    """Write: open a terminal in the container's devpts, hand its master out, be its session.

    Without a terminal the child leads a session of its own all the same: no TIOCSTI reaches the
    caller's terminal (CVE-2017-5226).
    """
    program, inputs = draft.program, draft.inputs
    program.step("start session", "process.terminal")
    program.call("setsid", ok=(errno.EPERM,))
    if not draft.process.get("terminal"):
        _standard_fds(draft)
        return
    program.step("open terminal", "process.terminal")
    how = c.O_RDWR | c.O_NOCTTY | c.O_CLOEXEC
    if draft.dev is None:
        # Of an exec, or where /dev is a bind: the container's all the same, never the host's.
        master = draft.open("/dev/pts/ptmx", how)
    else:
        master = draft.open("pts/ptmx", how, _NO_LINKS, at=draft.dev)
    program.call("ioctl", master, c.TIOCSPTLCK, program.block(bytes(4)), target="/dev/pts/ptmx")
    slave = program.fd("ioctl", master, c.TIOCGPTPEER, how, target="terminal")
    size = draft.process.get("consoleSize") or {}
    if size:
        words = (size.get("height", 0), size.get("width", 0), 0, 0)
        window = program.block(b"".join(word.to_bytes(2, "little") for word in words))
        program.call("ioctl", master, TIOCSWINSZ, window, target="terminal")
    if inputs.plain_newlines:
        program.call("ioctl", master, TCSETS, program.block(PLAIN_TERMIOS), target="terminal")
    uid = (draft.process.get("user") or {}).get("uid", 0)
    if uid:
        program.call("fchown", slave, uid, -1, target="terminal")
    if mount and draft.dev is not None:
        _bind_console(draft, slave)
    program.call("ioctl", slave, c.TIOCSCTTY, 0, target="terminal")
    draft.send_fds(inputs.console, "/dev/ptmx", master, target="console socket")
    for number in (0, 1, 2):
        program.call("dup3", slave, number, 0, target=f"descriptor {number}")
    program.close(master)
    program.close(slave)


_NO_LINKS = c.RESOLVE_NO_MAGICLINKS | c.RESOLVE_NO_SYMLINKS


def _bind_console(draft: Draft, slave: Reg) -> None:
    assert draft.dev is not None
    program = draft.program
    program.call(
        "mknodat",
        draft.dev,
        "console",
        S_IFREG | 0o600,
        0,
        ok=(errno.EEXIST,),
        target="/dev/console",
    )
    tree = program.fd("open_tree", slave, "", _CLONE | c.AT_EMPTY_PATH, target="terminal")
    program.call(
        "move_mount",
        tree,
        "",
        draft.dev,
        "console",
        c.MOVE_MOUNT_F_EMPTY_PATH,
        target="/dev/console",
    )
    draft.release(tree)


def _standard_fds(draft: Draft) -> None:
    """Write: the three standard descriptors; `gather` keeps the given ones apart."""
    program = draft.program
    for number, fd in enumerate(draft.inputs.stdio):
        if fd != number:
            program.call("dup3", fd, number, 0, target=f"descriptor {number}")
    for number in draft.inputs.stdio_owned:
        uid = (draft.process.get("user") or {}).get("uid", 0)
        refused = (errno.EPERM, errno.EINVAL, errno.EROFS)
        program.call("fchown", number, uid, -1, ok=refused, target=f"descriptor {number}")
