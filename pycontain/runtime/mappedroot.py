"""The rootfs of a container in a user namespace, made by the parent: on disk 0, inside 0.

Layers lie on disk with the image's own ids and are shared by containers of different id ranges. So
they are seen through id-mapped mounts, and the overlay is made of those in the host's first user
namespace, where alone it may carry trusted xattrs. A helper process does it in a mount namespace
of its own, as older kernels take attached layers only:

    id-mapped mounts of the directories the layers lie in, over themselves
    the overlay at the container's rootfs   (by fsuid of the container's root: overlay makes its
                                             work files as the one who mounted it)
    a detached copy of the overlay          handed to the parent by SCM_RIGHTS

With the helper goes all but that copy. Source: Documentation/filesystems/overlayfs.rst "Permission
model", idmappings.rst; mount_setattr(2). Layers may be id-mapped since Linux 5.19.
"""

from __future__ import annotations

import _socket
import errno
import posix

from pycontain.errors import KernelError, UnsupportedError
from pycontain.runtime import idmap, mountoptions
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.oci.runtime import IdMapping

SECBIT_NO_SETUID_FIXUP = 4
_HINT = (
    "container roots of another id range take Linux 5.19 and a data root on a file system with "
    "id-mapped mounts (ext4, xfs, btrfs; tmpfs since 6.3)"
)
_ROOM = 64
_TYPE, _FIFO = 0o170000, 0o010000


def tree(
    mounts: list[dict[str, Any]], rootfs: str, uids: list[IdMapping], gids: list[IdMapping]
) -> int:
    """Return a detached mount of what `mounts` (see `Snapshotter.prepare`) make, ids mapped.

    `mapped` of an overlay lists the directories its layers lie in.
    Raises UnsupportedError where the kernel or the file system cannot, KernelError.
    """
    (entry,) = mounts
    if entry["type"] == "bind":
        return idmap.mapped_tree(entry["source"], uids, gids)
    owner = host_id(uids, 0), host_id(gids, 0)
    namespace = idmap.user_namespace(uids, gids)
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        child = posix.fork()
        if child == 0:
            _helper(far, entry, rootfs, namespace, owner)
        far.close()
        try:
            return _received(near, rootfs)
        finally:
            posix.waitpid(child, 0)
    finally:
        near.close()
        far.close()
        posix.close(namespace)


def give_pipes(fds: tuple[int, ...], uid: int, gid: int) -> None:
    """Let a user of the container open the pipes it is started with, as /dev/stdout."""
    for fd in set(fds):
        if posix.fstat(fd).st_mode & _TYPE == _FIFO:
            posix.fchown(fd, uid, gid)


def host_id(mappings: list[IdMapping], inside: int) -> int:
    """Return the host's id of one inside; raises UnsupportedError when it has none."""
    for row in mappings:
        if row["containerID"] <= inside < row["containerID"] + row["size"]:
            return row["hostID"] + inside - row["containerID"]
    raise UnsupportedError(f"id {inside} of the container is not mapped")


def _received(near: _socket.socket, rootfs: str) -> int:
    answer, ancillary, _, _ = near.recvmsg(4096, _ROOM, _socket.MSG_CMSG_CLOEXEC)
    for _, _, data in ancillary:
        return int.from_bytes(data[:4], "little")
    number, _, step = answer.decode().partition(" ")
    if number in (str(errno.EINVAL), str(errno.EOPNOTSUPP), str(errno.EOVERFLOW)):
        raise UnsupportedError(
            f"{step} for --userns: {posix.strerror(int(number))} (Linux {posix.uname().release})",
            hint=_HINT,
        )
    raise KernelError(step or "make rootfs for a user namespace", rootfs, int(number or errno.EIO))


def _helper(
    far: _socket.socket, entry: dict[str, Any], rootfs: str, namespace: int, owner: tuple[int, int]
) -> None:
    """Make the mount, send it, and go. Nothing returns into the caller's code from here."""
    step = "make a mount namespace"
    try:
        kernel.unshare(c.CLONE_NEWNS)
        kernel.mount(None, "/", None, c.MS_REC | c.MS_PRIVATE)
        options = mountoptions.parse(entry["options"])
        for directory in entry["mapped"]:
            step = f"map the ids of {directory}"
            _map_over(directory, namespace)
        step = "mount overlay on id-mapped layers"
        _become(*owner)
        posix.chdir(entry.get("cwd", "/"))
        kernel.mount(entry["source"], rootfs, entry["type"], options.flags, options.data)
        made = kernel.open_tree(c.AT_FDCWD, rootfs, c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, made.to_bytes(4, "little"))]
        far.sendmsg([b"0"], rights)
    except OSError as error:
        far.send(f"{error.errno} {step}".encode())
    finally:
        posix._exit(0)


def _map_over(directory: str, namespace: int) -> None:
    """Cover a directory by an id-mapped mount of itself."""
    flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
    clone = kernel.open_tree(c.AT_FDCWD, directory, flags)
    kernel.mount_setattr(clone, "", c.AT_EMPTY_PATH, c.MOUNT_ATTR_IDMAP, userns_fd=namespace)
    kernel.move_mount(clone, "", c.AT_FDCWD, directory, c.MOVE_MOUNT_F_EMPTY_PATH)
    posix.close(clone)


def _become(uid: int, gid: int) -> None:
    """Make files as the container's root from here on, with every capability kept."""
    kernel.prctl(c.PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    kernel.syscall("setfsgid", gid)
    kernel.syscall("setfsuid", uid)
