"""linux.devices of a container in a user namespace, made by the parent.

Nobody may make a device node in a user namespace. A helper process makes them in the host's first
one, on a tmpfs in a mount namespace of its own, with owner and mode as asked; detached copies of
each are handed to the parent by SCM_RIGHTS, and with the helper goes all but those.
Source: mknod(2), open_tree(2), runtime-spec config-linux.md "Devices".
"""

from __future__ import annotations

import _socket
import errno
import posix

from pycontain.errors import KernelError, UnsupportedError
from pycontain.runtime.mappedroot import host_id
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Device, Linux


def trees(linux: Linux, types: dict[str, int]) -> dict[str, int]:
    """Return path -> detached mount of a node, for each device; `types` maps them to S_IF*.

    Where this process may not make nodes there are none, and none for an owner whom the container
    has no id for: the host's are to be bound instead.
    """
    devices, owners = [], []
    for device in linux.get("devices") or []:
        try:
            uid = host_id(linux.get("uidMappings") or [], device.get("uid", 0))
            gid = host_id(linux.get("gidMappings") or [], device.get("gid", 0))
        except UnsupportedError:
            continue
        devices.append(device)
        owners.append((uid, gid))
    if not devices:
        return {}
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    found: dict[str, int] = {}
    try:
        child = posix.fork()
        if child == 0:
            _helper(far, devices, owners, types)
        far.close()
        try:
            for device in devices:
                fd = _received(near, device["path"])
                if fd >= 0:
                    found[device["path"]] = fd
        finally:
            posix.waitpid(child, 0)
    except BaseException:
        for fd in found.values():
            posix.close(fd)
        raise
    finally:
        near.close()
        far.close()
    return found


def _received(near: _socket.socket, path: str) -> int:
    answer, ancillary, _, _ = near.recvmsg(64, 64, _socket.MSG_CMSG_CLOEXEC)
    for _, _, data in ancillary:
        return int.from_bytes(data[:4], "little")
    number = int(answer or errno.EIO)
    if number == errno.EPERM:
        return -1
    raise KernelError("make device", path, number)


def _helper(
    far: _socket.socket,
    devices: list[Device],
    owners: list[tuple[int, int]],
    types: dict[str, int],
) -> None:
    """Send a tree, or an errno, for each device, and go. Nothing returns from here."""
    try:
        kernel.unshare(c.CLONE_NEWNS)
        kernel.mount(None, "/", None, c.MS_REC | c.MS_PRIVATE)
        # Any directory will do to hide it on: this one is always there.
        kernel.mount("tmpfs", "/proc", "tmpfs")
        posix.chdir("/proc")
        posix.umask(0)
        for index, (device, (uid, gid)) in enumerate(zip(devices, owners, strict=True)):
            try:
                tree = _make(str(index), device, types[device["type"]], uid, gid)
            except OSError as error:
                far.send(str(error.errno).encode())
                continue
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, tree.to_bytes(4, "little"))]
            far.sendmsg([b"0"], rights)
            posix.close(tree)
    except OSError as error:
        for _ in devices:
            far.send(str(error.errno).encode())
    finally:
        posix._exit(0)


def _make(name: str, device: Device, kind: int, uid: int, gid: int) -> int:
    mode = device.get("fileMode", 0o666) & 0o7777
    number = posix.makedev(device.get("major", 0), device.get("minor", 0))
    posix.mknod(name, kind | mode, number)
    posix.chown(name, uid, gid)
    posix.chmod(name, mode)
    return kernel.open_tree(c.AT_FDCWD, name, c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC)
