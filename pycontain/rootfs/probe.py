"""Which way to a rootfs this data root offers: found out by mounting an overlay once.

Owns the words in `snapshots/driver` (see `snapshotter`). The kernel version tells little: the
data root's file system, a user namespace, or a container around us may each forbid overlay.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import ExitStack

from pycontain import trees
from pycontain.errors import KernelError
from pycontain.syscalls import kernel

_NEWNS = 0x0002_0000
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
"""FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE."""


def write_driver(snapshots_path: str) -> str:
    """Find out and write the driver of a data root unless that was done; return it."""
    path = f"{snapshots_path}/driver"
    try:
        return trees.read_file(path, 4096).decode()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError("read", path, error) from error
    driver = probe(snapshots_path)
    trees.write_atomic(path, driver.encode(), sync=False)
    return driver


def probe(directory: str) -> str:
    """Return "overlay", "overlay,userxattr" or "copy: WHY" for a place on the file system."""
    base = tempfile.mkdtemp(prefix=".tmp-probe-", dir=directory)
    try:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        userxattr = not _may_set(f"{base}/lower", "trusted.overlay.opaque")
        if userxattr and not _may_set(f"{base}/lower", "user.overlay.opaque"):
            return "copy: extended attributes are not to be had here"
        number = _mounts(base, userxattr)
        if number:
            return f"copy: overlay cannot be mounted here: {os.strerror(number)}"
        return "overlay,userxattr" if userxattr else "overlay"
    finally:
        trees.remove(base)


def _may_set(path: str, attribute: str) -> bool:
    try:
        os.setxattr(path, attribute, b"n")
        os.removexattr(path, attribute)
    except OSError:
        return False
    return True


def _mounts(base: str, userxattr: bool) -> int:
    """Make an overlay that is attached nowhere; return the errno, 0 for success."""
    try:
        _mount(base, userxattr)
    except OSError as error:
        if error.errno != errno.EPERM or not userxattr:
            return error.errno or errno.EIO
        # A new user namespace has no mount namespace of its own yet.
        try:
            kernel.unshare(_NEWNS)
            _mount(base, userxattr)
        except OSError as again:
            return again.errno or errno.EIO
    return 0


def _mount(base: str, userxattr: bool) -> None:
    with ExitStack() as stack:
        filesystem = kernel.fsopen("overlay")
        stack.callback(os.close, filesystem)
        for key, name in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")):
            fd = os.open(f"{base}/{name}", trees.DIRECTORY)
            stack.callback(os.close, fd)
            # fsconfig(2) takes strings of 255 bytes: a path may be longer.
            kernel.fsconfig(filesystem, _SET_STRING, key, f"/proc/self/fd/{fd}")
        if userxattr:
            kernel.fsconfig(filesystem, _SET_FLAG, "userxattr", None)
        kernel.fsconfig(filesystem, _CREATE, None, None)
        os.close(kernel.fsmount(filesystem))
