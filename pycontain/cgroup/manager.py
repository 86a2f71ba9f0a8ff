"""Which cgroup a container gets: the managers, and the way back from state.json.

    open(kind, path, id=…) -> Cgroup, nothing made yet
    attach(paths)          -> Cgroup of a container that exists

What a cgroup can do is `group`'s.
"""

from __future__ import annotations

import posix

from pycontain.cgroup.group import OURS, Cgroup
from pycontain.cgroup.hierarchy import Hierarchy, detect
from pycontain.errors import InvalidError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "Cgroup", "attach", "checked", "open"]

KINDS = ("cgroupfs", "systemd", "disabled")


def open(  # noqa: A001
    kind: str = "cgroupfs",
    cgroups_path: str = "",
    *,
    id: str = "",
    annotations: Mapping[str, str] | None = None,
) -> Cgroup:
    """Return the cgroup `cgroups_path` names; nothing is made yet.

    An absolute path counts from the root of the hierarchies, a relative one from `/pycontain`, so
    that its name meets none of the host's; "" is `/pycontain-ID`. For `systemd` the path is
    SLICE:PREFIX:NAME. Raises UsageError for an unknown kind and InvalidError for a path that leaves
    its place.
    """
    if kind == "disabled":
        return Cgroup(Hierarchy({}, ""), "", why="the cgroup manager is disabled")
    if kind == "systemd":
        from pycontain.cgroup import systemd

        return systemd.open_scope(cgroups_path, id, annotations or {})
    if kind != "cgroupfs":
        raise UsageError(f"unknown cgroup manager {kind!r}", hint=f"one of {', '.join(KINDS)}")
    if ":" in cgroups_path and "/" not in cgroups_path:
        raise InvalidError(
            f"cgroupsPath {cgroups_path!r} has systemd's form", hint="use --cgroup-manager systemd"
        )
    hierarchy = detect()
    path = checked(cgroups_path or f"/pycontain-{id}")
    if cgroups_path and not cgroups_path.startswith("/"):
        path = OURS + path
    if hierarchy.pure_v2 and posix.geteuid() != 0:
        path = hierarchy.own.get("", "").rstrip("/") + path
    return Cgroup(hierarchy, path)


def attach(paths: Mapping[str, str]) -> Cgroup:
    """Return the cgroup of an existing container, by what `paths()` gave when it was made."""
    if not paths:
        return Cgroup(Hierarchy({}, ""), "", why="the container was made without a cgroup")
    hierarchy = detect()
    path = _relative(hierarchy, paths)
    if path.endswith(".scope") and hierarchy.pure_v2:
        from pycontain.cgroup import systemd

        cgroup = systemd.found(hierarchy, path)
    else:
        cgroup = Cgroup(hierarchy, path)
    cgroup.dirs = dict(paths)
    cgroup.owned = cgroup.joined = True
    return cgroup


def checked(path: str) -> str:
    """Return a cgroup path with one leading slash; raises InvalidError for `..` and the like."""
    parts = [part for part in path.split("/") if part and part != "."]
    if not parts or ".." in parts or "\0" in path or "\n" in path:
        raise InvalidError(f"cgroup path {path!r} does not name a cgroup below the root")
    return "/" + "/".join(parts)


def _relative(hierarchy: Hierarchy, paths: Mapping[str, str]) -> str:
    tops = hierarchy.tops
    for controller, directory in paths.items():
        top = tops.get(controller)
        if top and directory.startswith(top + "/"):
            return checked(directory[len(top) :])
        raise InvalidError(f"cgroup {directory} is not in the {controller or 'v2'} hierarchy")
    return ""
