"""Which way to a rootfs this data root offers: found out by mounting an overlay once.

Owns the words in `snapshots/driver` (see `snapshotter`). The kernel version tells little: the
data root's file system, a user namespace, or a container around us may each forbid overlay.
"""

from __future__ import annotations

import os
import tempfile

from pycontain import trees
from pycontain.errors import KernelError
from pycontain.rootfs import overlay
from pycontain.syscalls import kernel

_NEWNS = 0x0002_0000
_PRIVATE = 0x4000 | 0x40000
"""MS_REC | MS_PRIVATE."""


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
    """Mount an overlay in a child's own mount namespace; return the errno, 0 for success."""
    options = overlay.mount_options(
        [f"{base}/lower"], f"{base}/upper", f"{base}/work", False, userxattr
    )
    pid = os.fork()
    if pid == 0:
        number = 255
        try:
            # The store's lock among them: if our parent is killed, it must not live on here.
            os.closerange(3, 4096)
            kernel.unshare(_NEWNS)
            kernel.mount(None, "/", None, _PRIVATE)
            kernel.mount("overlay", f"{base}/merged", "overlay", 0, ",".join(options))
            number = 0
        except OSError as error:
            number = min(error.errno or 255, 255)
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
