"""Reading and writing cgroup files: bytes in, text out, no text layer, never O_CREAT.

Errors are left as OSError; who knows which limit was meant wraps them.
"""

from __future__ import annotations

import posix

_READ = posix.O_RDONLY | posix.O_CLOEXEC
_WRITE = posix.O_WRONLY | posix.O_CLOEXEC


def read(path: str) -> str:
    """Return the content of a kernel file, stripped."""
    fd = posix.open(path, _READ)
    try:
        parts = []
        while part := posix.read(fd, 65536):
            parts.append(part)
    finally:
        posix.close(fd)
    return b"".join(parts).decode("utf-8", "replace").strip()


def read_or(path: str, default: str = "") -> str:
    """Return the content of a file, or `default` when it does not exist or cannot be read now."""
    try:
        return read(path)
    except OSError:
        return default


def write_existing(path: str, value: str) -> None:
    """Write `value` to an existing file in one write(2)."""
    # Without O_CREAT a missing controller reads as ENOENT. With it, cgroupfs answers EACCES, and
    # a tmpfs at /sys/fs/cgroup takes the write and limits nothing.
    fd = posix.open(path, _WRITE)
    try:
        posix.write(fd, value.encode())
    finally:
        posix.close(fd)


def exists(path: str) -> bool:
    """Return whether `path` exists."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def pairs(text: str) -> dict[str, int]:
    """Parse lines of `key number`; "max" and other words are left out."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[key] = int(value)
    return found


def number(text: str) -> int:
    """Parse one number; "max" and v1's page-rounded "no limit" are -1, "" is 0."""
    word = text.split(" ", 1)[0]
    if not word.lstrip("-").isdigit():
        return -1 if word else 0
    value = int(word)
    return -1 if value >= NO_LIMIT else value


NO_LIMIT = (1 << 63) - (1 << 16)
"""memory.limit_in_bytes of an unlimited v1 cgroup: 2^63-1 rounded down to a page (up to 64 KiB)."""


def children(directory: str) -> list[str]:
    """Return the cgroups directly below `directory`; [] when it is gone."""
    try:
        # kernfs counts a directory's children in its link count, and listing costs 30 µs.
        if posix.stat(directory).st_nlink <= 2:
            return []
        entries = posix.scandir(directory)
    except FileNotFoundError:
        return []
    with entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
