"""Who a command runs as: a USER[:GROUP] looked up in the image's /etc/passwd and /etc/group."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_BYTES = 1 << 20
ID_MAX = 2**32 - 2


@dataclass(frozen=True, kw_only=True)
class User:
    """A resolved user."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def user_of(rootfs: Path, wanted: str) -> User:
    """Return the user `wanted` ("" is root): a name or number, then a group's.

    Raises NotFoundError for a name the image does not have.
    """
    name, _, group = wanted.partition(":")
    entries = _table(rootfs, "etc/passwd")
    entry = next((words for words in entries if name and words[0] == name), None)
    if entry is None:
        uid = _number(name or "0", f"no user {name} in the image")
        entry = next(
            (words for words in entries if words[2:3] == [str(uid)]), ["", "", str(uid), "0"]
        )
    uid, gid = _number(entry[2], "a bad /etc/passwd"), _number(entry[3], "a bad /etc/passwd")
    groups = _table(rootfs, "etc/group")
    if group:
        found = next((words for words in groups if words[0] == group), None)
        gid = _number(found[2] if found else group, f"no group {group} in the image")
    extra = tuple(
        _number(words[2], "a bad /etc/group")
        for words in groups
        if not group and entry[0] and entry[0] in words[3].split(",")
    )
    return User(uid=uid, gid=gid, groups=extra, home=(entry[5:6] or [""])[0] or "/")


def _number(text: str, otherwise: str) -> int:
    if text.isdecimal() and text.isascii() and len(text) <= 10 and int(text) <= ID_MAX:
        return int(text)
    raise (NotFoundError if otherwise.startswith("no ") else UsageError)(otherwise)


def _table(rootfs: Path, name: str) -> list[list[str]]:
    """Return the lines of a table of the image; a link in the way is not followed."""
    directory, _, file = name.rpartition("/")
    try:
        parent = os.open(rootfs / directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return []
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    except OSError:
        return []
    finally:
        os.close(parent)
    with open(fd, "rb") as stream:
        text = stream.read(LIMIT_BYTES).decode("utf-8", "replace")
    return [words for line in text.splitlines() if len(words := line.split(":")) >= 4]
