"""What a bundle leaves open or gets wrong and runc puts right: adjusted once, at the edge.

Owns the device rules every container gets besides its own, the capabilities that nobody knows or
can grant (the specification wants a warning, not an error), relative mount destinations
(deprecated, they count from the root), limits of 0 (no limit is meant) and the mode of a tmpfs that
has none (that of the directory it covers). The engine's own specs never come here: they are
complete.
"""

from __future__ import annotations

import posix

from pycontain.runtime import capabilities
from pycontain.syscalls import constants, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import DeviceRule, Process, Resources, Spec

_DENY_ALL: DeviceRule = {"allow": False, "access": "rwm"}
_KEPT_ZERO = frozenset(("burst", "idle", "swappiness"))
"""Resources whose zero is a value."""

_ZERO_IS_NONE = ("1.0.", "1.1.", "1.2.")
"""Versions of the specification in which pids.limit 0 is no limit.

From 1.3 on it is one, and it means 1: the kernel lets nobody into a cgroup that may hold nobody.
"""


def _allow(kind: str, major: int, minor: int, access: str = "rwm") -> DeviceRule:
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


# config-linux.md "Default Devices" and the terminals; making a node (m) harms nobody, opening does.
STANDARD_DEVICES = [
    _allow("c", -1, -1, "m"),
    _allow("b", -1, -1, "m"),
    _allow("c", 1, 3),
    _allow("c", 1, 5),
    _allow("c", 1, 7),
    _allow("c", 1, 8),
    _allow("c", 1, 9),
    _allow("c", 5, 0),
    _allow("c", 5, 1),
    _allow("c", 5, 2),
    _allow("c", 136, -1),
]


def adjust(spec: Spec) -> list[str]:
    """Put `spec`, whose root.path is absolute, right in place; return warnings for its author."""
    spaces = spec.get("linux", {}).get("namespaces", [])
    own_user = any(space["type"] == "user" for space in spaces)
    notes = drop_capabilities(spec["process"], own_user=own_user)
    for mount in spec.get("mounts", []):
        # Deprecated, and to be taken from "/" (runtime-spec config.md "Mounts").
        mount["destination"] = _from_root(mount["destination"])
    notes += _drop_a(spec)
    linux = spec.get("linux", {})
    if linux.get("readonlyPaths"):
        # As runc and crun; of a masked path nobody would see that another was meant.
        linux["readonlyPaths"] = [_from_root(path) for path in linux["readonlyPaths"]]
    if linux.get("resources"):
        pids = linux["resources"].get("pids")
        if pids and pids.get("limit") == 0 and not spec["ociVersion"].startswith(_ZERO_IS_NONE):
            pids["limit"] = 1
        linux["resources"] = without_zeros(linux["resources"])
    _guard_devices(spec)
    _give_modes(spec)
    return notes


def _from_root(path: str) -> str:
    return path if path.startswith("/") else "/" + path


def without_zeros(wanted: Resources) -> Resources:
    """Return `wanted` without the fields that say nothing: 0, "", and empty groups.

    Engines write every field they know (podman --pids-limit 0), and runc takes 0 for absent.
    """
    kept: dict[str, object] = {}
    for group, fields in wanted.items():
        if isinstance(fields, dict) and group != "unified":
            fields = {k: v for k, v in fields.items() if k in _KEPT_ZERO or v not in (0, "")}
        if fields:
            kept[group] = fields
    return kept  # type: ignore[return-value]


def drop_capabilities(process: Process, *, own_user: bool) -> list[str]:
    """Remove what cannot be had, with a warning, and impossible ambient ones.

    That is a capability without a number; and one that this process lacks itself, unless `process`
    is in a user namespace of its own (`own_user`), whose owner has them all.
    """
    sets: dict[str, list[str]] = process.get("capabilities", {})  # type: ignore[assignment]
    wanted = dict.fromkeys(name for names in sets.values() for name in names)
    may = set(capabilities.NAMES if own_user or not wanted else capabilities.names(_held()))
    lost = [name for name in wanted if name not in may]
    if lost:
        for which, names in sets.items():
            sets[which] = [name for name in names if name in may]
    notes = _limit_ambient(sets)
    if lost:
        notes.append(f"ignoring unknown or unavailable capabilities: {lost}")
    return notes


def _held() -> int:
    """Return the capabilities that this process may hand on, its permitted set."""
    sets = bytearray(24)
    kernel.syscall("capget", capabilities.header(), sets)
    return int.from_bytes(sets[4:8], "little") | int.from_bytes(sets[16:20], "little") << 32


def _limit_ambient(sets: dict[str, list[str]]) -> list[str]:
    # The kernel raises an ambient capability only when it is permitted and inheritable too
    # (capabilities(7)). Buildah up to 1.28 writes its one list into every set but inheritable, and
    # shows its user what the runtime says: no warning of that.
    wanted = sets.get("ambient")
    if not wanted:
        return []
    permitted = sets.get("permitted", [])
    may = set(sets.get("inheritable", [])) & set(permitted)
    sets["ambient"] = [name for name in wanted if name in may]
    if not sets.get("inheritable") and wanted == permitted:
        return []
    return [
        f"can't raise ambient capability {name}: it is not both permitted and inheritable"
        for name in wanted
        if name not in may
    ]


def _give_modes(spec: Spec) -> None:
    covered: list[str] = []
    for mount in spec.get("mounts", []):
        place = mount["destination"].rstrip("/") + "/"
        if mount.get("type") == "tmpfs" and not place.startswith(tuple(covered)):
            options = mount.get("options", [])
            if not any(option.startswith("mode=") for option in options):
                mode = _mode_inside(spec["root"]["path"], place)
                mount["options"] = [*options, f"mode={mode:o}"] if mode >= 0 else options
        covered.append(place)


def _mode_inside(root: str, place: str) -> int:
    """Return the mode of a directory inside the root file system, -1 when it is not there."""
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    top = posix.open(root, flags)
    try:
        inside = constants.RESOLVE_IN_ROOT | constants.RESOLVE_NO_MAGICLINKS
        fd = kernel.openat2(top, place.strip("/") or ".", flags, 0, inside)
    except OSError:
        return -1
    finally:
        posix.close(top)
    try:
        return posix.fstat(fd).st_mode & 0o7777
    finally:
        posix.close(fd)


def _drop_a(spec: Spec) -> list[str]:
    """Remove the letter a from the access of device rules, as runc does, with a warning."""
    notes = []
    for index, rule in enumerate(spec.get("linux", {}).get("resources", {}).get("devices", [])):
        if "a" in rule.get("access", ""):
            rule["access"] = rule["access"].replace("a", "")
            notes.append(f"linux.resources.devices[{index}].access: 'a' is no access, ignored")
    return notes


def _guard_devices(spec: Spec) -> None:
    linux = spec.setdefault("linux", {})
    rules = linux.get("resources", {}).get("devices", [])
    if rules and _allows_all(rules[-1]):
        return
    if not rules and (posix.geteuid() != 0 or not _in_first_user_namespace()):
        return
    if not rules or not _is_for_all(rules[0]):
        # A cgroup of v1 begins with all its parent has; a list that only allows means the rest too.
        rules = [_DENY_ALL, *rules]
    linux.setdefault("resources", {})["devices"] = [*rules, *STANDARD_DEVICES]


def _allows_all(rule: DeviceRule) -> bool:
    return rule.get("allow", False) and _is_for_all(rule)


def _is_for_all(rule: DeviceRule) -> bool:
    every = rule.get("major", -1) < 0 and rule.get("minor", -1) < 0
    return rule.get("type", "a") in ("a", "") and every


def _in_first_user_namespace() -> bool:
    from pycontain.runtime.state import read_file

    return read_file("/proc/self/uid_map").split() == [b"0", b"0", b"4294967295"]
