"""Mount points behind symbolic links of the image that lead nowhere.

An image's /etc/resolv.conf may be a link into /run, where nothing is until its init ran. The plan
follows links inside the rootfs but makes nothing behind them: its child decides nothing. So when a
mount point is not there although it was made, `mend` follows the links here, makes what they lead
to, and the launch is tried once more. Every step is taken below a directory that was opened inside
the rootfs, without links.
"""

from __future__ import annotations

import errno
import posix

from pycontain.runtime import mountoptions, mounts
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.errors import KernelError
    from pycontain.oci.runtime import Spec

MAX_LINKS = 40
_TYPE, _LINK = 0o170000, 0o120000
_WITHOUT_LINKS = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_SYMLINKS
_ABOVE = c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC
_ENTRY = c.O_PATH | c.O_NOFOLLOW | c.O_CLOEXEC


def mend(spec: Spec, bundle: str, error: KernelError) -> bool:
    """Make what dangling links of mount points lead to; return whether anything was missing."""
    missed = error.number == errno.ENOENT and error.call == "openat2"
    if not missed or not error.action.startswith("mount "):
        return False
    made = False
    covered: list[str] = []
    root = posix.open(spec["root"]["path"], _ABOVE)
    try:
        for index, entry in enumerate(spec.get("mounts") or []):
            place = entry["destination"].rstrip("/") + "/"
            if not place.startswith(tuple(covered)):
                options = mountoptions.parse(entry.get("options") or [])
                directory = not mounts.is_bind(entry, options) or mounts.is_directory(
                    mounts.source_path(bundle, entry), index
                )
                made |= make(root, place, directory=directory)
            covered.append(place)
    finally:
        posix.close(root)
    return made


def make(root: int, path: str, *, directory: bool) -> bool:
    """Make `path` inside `root`, behind links too; return whether anything was made.

    Gives up, with nothing more made, where links run in circles or a file stands in the way.
    """
    here: list[str] = []
    left = path.split("/")[::-1]
    links = 0
    made = False
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            del here[-1:]
            continue
        try:
            link = _read_link(root, [*here, name])
        except FileNotFoundError:
            last = not any(part not in ("", ".") for part in left)
            _make_entry(root, here, name, directory=directory or not last)
            made = True
            link = ""
        except OSError:
            return made
        if not link:
            here.append(name)
            continue
        links += 1
        if links > MAX_LINKS:
            return made
        if link.startswith("/"):
            here = []
        left.extend(link.split("/")[::-1])
    return made


def _read_link(root: int, parts: list[str]) -> str:
    """Return where the entry leads, "" when it is no link."""
    entry = kernel.openat2(root, "/".join(parts), _ENTRY, 0, _WITHOUT_LINKS)
    try:
        if posix.fstat(entry).st_mode & _TYPE != _LINK:
            return ""
        return posix.readlink("", dir_fd=entry)
    finally:
        posix.close(entry)


def _make_entry(root: int, above: list[str], name: str, *, directory: bool) -> None:
    parent = kernel.openat2(root, "/".join(above) or ".", _ABOVE, 0, _WITHOUT_LINKS)
    try:
        if directory:
            posix.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
            posix.close(posix.open(name, flags, 0o644, dir_fd=parent))
    finally:
        posix.close(parent)
