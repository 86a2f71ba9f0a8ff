"""What the user can do about a file system that refuses: the hint of an error below our roots.

Looked up only once something failed, by the edge of the command line and by the loader, which know
the roots; who raises a KernelError names the path and the errno.
"""

from __future__ import annotations

import errno
import os

from pycontain import paths
from pycontain.errors import KernelError, PycontainError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FULL = (errno.ENOSPC, errno.EDQUOT)


def advise(error: PycontainError, given: Mapping[str, object]) -> None:
    """Give an error about a path below --root or --state its hint, unless it has one.

    `given` are the options before the verb.
    """
    if not isinstance(error, KernelError) or error.hint:
        return
    for option, find in (("root", paths.data_root), ("state", paths.run_root)):
        try:
            root = find(str(given.get(option) or ""))
        except (OSError, PycontainError):
            continue
        if error.target == root or error.target.startswith(root.rstrip("/") + "/"):
            error.hint = quote(cure(error.number, error.target, f"--{option}"))
            return


def cure(number: int, path: str, option: str = "--root") -> str:
    """Return what to do about errno `number` at `path`, "" when there is nothing to say."""
    elsewhere = f"or choose another place with {option}"
    if number in (errno.EACCES, errno.EPERM):
        return f"{_owner(path)}, this is user {os.geteuid()}: run as that user, {elsewhere}"
    if number == errno.EROFS:
        return f"mount the file system of {_mount(path)} writable, {elsewhere}"
    if number in FULL:
        return f"{_shortage(path)}: make room there (pycontain rm, rmi), {elsewhere}"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return f"{_obstacle(path)} is not a directory: move it away, {elsewhere}"
    if number == errno.ELOOP:
        return f"{_obstacle(path)} is a loop of symbolic links: remove it, {elsewhere}"
    return ""


def _parents(path: str) -> list[str]:
    """Return `path` and all above it, from the top."""
    ends = [at for at, letter in enumerate(path) if letter == "/" and at]
    return ["/", *(path[:end] for end in ends), path]


def _existing(path: str) -> str:
    """Return the deepest part of `path` that is there and may be looked at."""
    found = "/"
    for place in _parents(path):
        try:
            os.stat(place)
        except OSError:
            break
        found = place
    return found


def _owner(path: str) -> str:
    # Whatever refuses is the last that could be looked at: one looks at it through its parent.
    place = _existing(path)
    status = os.stat(place)
    return f"{place} belongs to user {status.st_uid} (mode {status.st_mode & 0o7777:o})"


def _mount(path: str) -> str:
    place = _existing(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return place


def _shortage(path: str) -> str:
    place = _mount(path)
    space = os.statvfs(place)
    what = "inodes" if space.f_files and not space.f_favail else "space"
    return f"the file system of {place} has no {what} left"


def _obstacle(path: str) -> str:
    for place in _parents(path):
        if not os.path.isdir(place):
            return place
    return path
