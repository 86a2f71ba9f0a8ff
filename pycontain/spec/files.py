"""What the file options ask for: `--volume`, `--mount`, `--tmpfs`, `--device` to plain values.

Parsing only: whether a source exists, and what a volume's name stands for, the engine decides.
Destinations are cleaned as text here ("/a/../b" is "/b"); that they stay inside the rootfs when a
symbolic link is in the way is the runtime's business, at the moment of mounting.
"""

from __future__ import annotations

import posix

from pycontain.errors import KernelError, UsageError
from pycontain.spec.values import (
    bad,
    boolean,
    container_name,
    natural,
    octal,
    size_bytes,
    text_value,
)

PROPAGATION = frozenset(["private", "rprivate", "shared", "rshared", "slave", "rslave"])
VOLUME_WORDS = PROPAGATION | frozenset(
    [
        "ro",
        "rw",
        "z",
        "Z",
        "nocopy",
        "cached",
        "delegated",
        "consistent",
        "nosuid",
        "nodev",
        "noexec",
        "suid",
        "dev",
        "exec",
        "bind",
        "rbind",
        "U",
    ]
)
TMPFS_WORDS = frozenset(
    [
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "sync",
        "async",
        "noatime",
        "atime",
        "nodiratime",
        "diratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "mand",
        "nomand",
        "dirsync",
        "remount",
    ]
)
IGNORED_WORDS = frozenset(
    [
        "z",
        "Z",
        "cached",
        "delegated",
        "consistent",
        "nocopy",
        "U",
        "rw",
        "bind",
        "rbind",
        "suid",
        "dev",
        "exec",
    ]
)
"""Words that change nothing here: SELinux labels, docker desktop's caching, and defaults."""


class Mount:
    """One mount the user asked for.

    kind         bind, volume or tmpfs
    source       host path (bind), volume name or "" for an anonymous one (volume), "" (tmpfs)
    destination  absolute, cleaned
    options      options of mount(8) beyond the kind's defaults ("ro", "rslave", "size=1048576")
    create       a missing bind source is made as a directory (docker's rule for -v, not for
    --mount)
    copy         a new volume starts with what the image has at the destination
    origin       the option it comes from
    """

    __slots__ = ("copy", "create", "destination", "kind", "options", "origin", "source")

    def __init__(
        self,
        kind: str,
        source: str,
        destination: str,
        options: list[str],
        origin: str,
        *,
        create: bool = False,
        copy: bool = True,
    ) -> None:
        self.kind = kind
        self.source = source
        self.destination = destination
        self.options = options
        self.origin = origin
        self.create = create
        self.copy = copy


class Device:
    """A device of the host to be seen in the container; `access` is a subset of "rwm"."""

    __slots__ = ("access", "destination", "source")

    def __init__(self, source: str, destination: str, access: str) -> None:
        self.source = source
        self.destination = destination
        self.access = access


def clean_path(path: str) -> str:
    """Return the shortest name of an absolute path; `..` never climbs above `/`."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept)


def destination(path: str, what: str, text: str) -> str:
    """Return a mount's destination, cleaned; the rootfs itself is not one."""
    cleaned = clean_path(path)
    if not path.startswith("/") or cleaned == "/":
        raise bad(what, text, "an absolute destination other than /")
    return cleaned


def _host_path(source: str, what: str) -> str:
    """Return a bind's source as an absolute path; one that begins with a dot is the caller's."""
    if source.startswith("/"):
        return clean_path(source)
    try:
        here = posix.getcwd()
    except OSError as error:
        raise KernelError(f"{what} {source}: find the working directory", "", error) from None
    return clean_path(f"{here}/{source}")


def volume(text: str, what: str) -> Mount:
    """Return the mount of `[SOURCE:]DESTINATION[:OPTIONS]`; SOURCE is a path or a volume's name."""
    parts = text_value(text, what).split(":")
    if len(parts) > 3 or not all(parts):
        raise bad(what, text, "[SOURCE:]DESTINATION[:OPTIONS]")
    source = parts[0] if len(parts) > 1 else ""
    place = destination(parts[1] if len(parts) > 1 else parts[0], what, text)
    words = parts[2].split(",") if len(parts) == 3 else []
    if not VOLUME_WORDS.issuperset(words):
        raise bad(what, text, "options from " + " ".join(sorted(VOLUME_WORDS)))
    options = [word for word in words if word not in IGNORED_WORDS]
    if source.startswith(("/", ".")):
        path = _host_path(source, what)
        return Mount("bind", path, place, options, f"--volume {text}", create=True)
    if source.startswith("~"):
        raise bad(what, text, "a source path that begins with / or ., or a volume name")
    if source:
        container_name(source, what)
    copy = "nocopy" not in words
    return Mount("volume", source, place, options, f"--volume {text}", copy=copy)


def mount(text: str, what: str) -> Mount:
    """Return the mount of `type=bind|volume|tmpfs,source=…,destination=…[,readonly,…]`."""
    fields: dict[str, str] = {}
    for item in text_value(text, what).split(","):
        key, equals, value = item.partition("=")
        key = MOUNT_KEYS.get(key, key)
        if key in fields or key not in MOUNT_VALUES:
            raise UsageError(f"{what} {text}: unknown or repeated key {item}")
        if key in MOUNT_FLAGS:
            value = "true" if not equals or boolean(value, what) else ""
        elif not value:
            raise UsageError(f"{what} {text}: {key} needs a value")
        fields[key] = value
    kind = fields.get("type", "volume")
    if kind not in MOUNT_KINDS:
        raise bad(what, text, "type=bind, volume or tmpfs")
    _check_keys(kind, fields, text, what)
    place = destination(fields.get("destination", ""), what, text)
    copy = "volume-nocopy" not in fields
    return Mount(
        kind,
        _source(kind, fields, text, what),
        place,
        _options(fields, what),
        f"--mount {text}",
        copy=copy,
    )


MOUNT_KEYS = {
    "src": "source",
    "dst": "destination",
    "target": "destination",
    "ro": "readonly",
    "rw": "readwrite",
}
MOUNT_KINDS = {
    "bind": frozenset(["source", "bind-propagation", "bind-nonrecursive", "consistency"]),
    "volume": frozenset(["source", "volume-nocopy"]),
    "tmpfs": frozenset(["tmpfs-size", "tmpfs-mode"]),
}
MOUNT_FLAGS = frozenset(["readonly", "readwrite", "bind-nonrecursive", "volume-nocopy"])
MOUNT_VALUES = MOUNT_FLAGS.union({"type", "destination"}, *MOUNT_KINDS.values())


def _check_keys(kind: str, fields: dict[str, str], text: str, what: str) -> None:
    known = MOUNT_KINDS[kind] | {"type", "destination", "readonly", "readwrite"}
    for key in fields:
        if key not in known:
            raise UsageError(f"{what} {text}: {key} is not for type={kind}")


def _source(kind: str, fields: dict[str, str], text: str, what: str) -> str:
    source = fields.get("source", "")
    if kind == "bind":
        if not source.startswith(("/", ".")):
            raise bad(what, text, "a source path that begins with / or .")
        return _host_path(source, what)
    return container_name(source, what) if source else ""


def _options(fields: dict[str, str], what: str) -> list[str]:
    options = ["ro"] if fields.get("readonly") else []
    if "bind-propagation" in fields:
        if fields["bind-propagation"] not in PROPAGATION:
            raise bad(what, fields["bind-propagation"], " ".join(sorted(PROPAGATION)))
        options.append(fields["bind-propagation"])
    if fields.get("bind-nonrecursive"):
        options.append("bind")
    if "tmpfs-size" in fields:
        options.append(f"size={size_bytes(fields['tmpfs-size'], what)}")
    if "tmpfs-mode" in fields:
        options.append(f"mode={octal(fields['tmpfs-mode'], what):o}")
    return options


def tmpfs(text: str, what: str) -> Mount:
    """Return the mount of `DESTINATION[:OPTIONS]`, options as mount(8) has them for tmpfs."""
    place, _, words = text_value(text, what).partition(":")
    options = [word for word in words.split(",") if word]
    for word in options:
        key, equals, _ = word.partition("=")
        if word not in TMPFS_WORDS and not (
            equals and key in ("size", "mode", "uid", "gid", "nr_inodes")
        ):
            raise UsageError(f"{what} {text}: unknown option {word}")
    return Mount("tmpfs", "", destination(place, what, text), options, f"--tmpfs {text}")


def device(text: str, what: str) -> Device:
    """Return the device of `SOURCE[:DESTINATION][:ACCESS]`."""
    parts = text_value(text, what).split(":")
    access = parts.pop() if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    if len(parts) > 2 or not all(part.startswith("/") for part in parts):
        raise bad(what, text, "SOURCE[:DESTINATION][:rwm]")
    if not access or not set(access) <= set("rwm"):
        raise bad(what, text, "an access of r, w and m")
    return Device(clean_path(parts[0]), clean_path(parts[-1]), access)


def device_rule(text: str, what: str) -> tuple[str, int | None, int | None, str]:
    """Return (type, major, minor, access) of `TYPE MAJOR:MINOR ACCESS`; None is any number."""
    words = text.split(" ")
    if len(words) != 3 or words[0] not in ("a", "b", "c") or not set(words[2]) <= set("rwm"):
        raise bad(what, text, 'a rule such as "c 10:200 rwm"')
    major, colon, minor = words[1].partition(":")
    numbers = [None if part == "*" else natural(part, what) for part in (major, minor)]
    if not colon or not words[2]:
        raise bad(what, text, 'a rule such as "c 10:200 rwm"')
    return words[0], numbers[0], numbers[1], words[2]
