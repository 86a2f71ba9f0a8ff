"""Users and groups of an image: names to ids, by the image's own /etc/passwd and /etc/group.

The host's databases and libc's lookups are never asked: nss loads code and answers for the wrong
machine. The files are hostile text: a line that does not read is skipped, ids are strict.
"""

from __future__ import annotations

from pycontain.errors import InvalidError, UsageError, quote
from pycontain.spec.host import Identity
from pycontain.spec.values import MAX_ID, digits, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Reader = Callable[[str, int], bytes | None]

LIMIT = 1 << 20
"""Bytes of /etc/passwd or /etc/group that are read."""


def resolve(
    read: Reader, chosen: tuple[str, str] | None, image_user: str, further: Sequence[str]
) -> Identity:
    """Return the identity for `--user`, or else the image's `User`, else root.

    `read(path, limit)` returns a file of the image or None; `further` are `--group-add`. Raises
    UsageError for a user the command line names and the image lacks, InvalidError when the
    image itself names it: never a fallback to root.
    """
    error: type[UsageError | InvalidError] = UsageError if chosen else InvalidError
    if chosen is None:
        chosen = ("0", "") if not image_user else _image_identity(image_user)
    user, group = chosen
    name, uid, gid, home = _user(_lines(read, "/etc/passwd"), user, error)
    groups: list[int] = []
    if group or further or name:
        rows = _groups(read)
        if group:
            gid = _group(rows, group, error)
        else:
            groups = [number for _, number, members in rows if name and name in members]
        groups += [_group(rows, item, UsageError) for item in further]
    return Identity(uid, gid, list(dict.fromkeys(groups)), home, name)


def _image_identity(text: str) -> tuple[str, str]:
    try:
        return identity(text, "image user")
    except UsageError as error:
        raise InvalidError(error.message) from None


def _lines(read: Reader, path: str) -> list[list[str]]:
    content = read(path, LIMIT) or b""
    text = content.decode("utf-8", "surrogateescape")
    return [line.split(":") for line in text.split("\n") if ":" in line and line[0] != "#"]


def _number(text: str) -> int:
    """Return an id, -1 for anything that is not one."""
    return int(text) if digits(text) and int(text) <= MAX_ID else -1


def _user(
    rows: list[list[str]], wanted: str, error: type[UsageError | InvalidError]
) -> tuple[str, int, int, str]:
    """Return (name, uid, gid, home); an id without a line has group 0 and home /, as docker."""
    # A number is always an id: a line `1000:x:0:0` must not make root of --user 1000.
    number = _number(wanted)
    for row in rows:
        if len(row) < 6 or (_number(row[2]) != number if number >= 0 else row[0] != wanted):
            continue
        uid, gid = _number(row[2]), _number(row[3])
        if uid >= 0 and gid >= 0:
            home = row[5] if row[5].startswith("/") and "\0" not in row[5] else "/"
            return row[0], uid, gid, home
    if number < 0:
        raise error(f"user {quote(wanted)}: not in the image's /etc/passwd")
    return "", number, 0, "/root" if number == 0 else "/"


def _groups(read: Reader) -> list[tuple[str, int, list[str]]]:
    rows = [row for row in _lines(read, "/etc/group") if len(row) >= 4 and _number(row[2]) >= 0]
    return [(row[0], _number(row[2]), row[3].split(",")) for row in rows]


def _group(
    rows: list[tuple[str, int, list[str]]], wanted: str, error: type[UsageError | InvalidError]
) -> int:
    number = _number(wanted)
    if number >= 0:
        return number
    for name, known, _ in rows:
        if name == wanted:
            return known
    raise error(f"group {quote(wanted)}: not in the image's /etc/group")
