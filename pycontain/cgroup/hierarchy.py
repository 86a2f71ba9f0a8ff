"""Which cgroup hierarchies this host has and where they are mounted.

Owns the reading of /proc/self/mountinfo and /proc/self/cgroup (proc(5), cgroups(7)). A host has v2
alone, v1 alone, or both at once (hybrid: each controller lives in exactly one of them).
"""

from __future__ import annotations

from pycontain.cgroup.files import read, read_or

V1_ORDER = (
    "devices", "memory", "pids", "cpuacct", "cpu", "cpuset", "freezer", "blkio", "hugetlb",
    "net_cls", "net_prio", "perf_event", "rdma", "misc",
)  # fmt: skip
NAMED = "name=systemd"
"""The v1 hierarchy without a controller in which systemd follows processes."""


class Hierarchy:
    """The mounted hierarchies.

    v1        controller -> mount point, in the order of V1_ORDER
    unified   mount point of cgroup v2, "" without one
    named     mount point of systemd's own v1 hierarchy, "" without one
    own       controller ("" for v2) -> this process's cgroup path
    """

    __slots__ = ("_own", "named", "unified", "v1")

    def __init__(self, v1: dict[str, str], unified: str, own: dict[str, str] | None = None) -> None:
        self.v1 = v1
        self.unified = unified
        self.named = ""
        self._own = own

    @property
    def own(self) -> dict[str, str]:
        if self._own is None:
            self._own = parse_own(read_or("/proc/self/cgroup"))
        return self._own

    @property
    def tops(self) -> dict[str, str]:
        """Return the mount point by controller, NAMED, and "" for v2: all there is."""
        every = {**self.v1, NAMED: self.named, "": self.unified}
        return {name: top for name, top in every.items() if top}

    @property
    def pure_v2(self) -> bool:
        """True when every controller is v2's."""
        return bool(self.unified) and not self.v1

    def v2_controllers(self) -> list[str]:
        """Return the controllers that the root of the v2 mount offers."""
        return read_or(f"{self.unified}/cgroup.controllers").split() if self.unified else []


def detect() -> Hierarchy:
    """Return the hierarchies of this mount namespace; raises OSError without /proc."""
    return parse_mounts(read("/proc/self/mountinfo"))


def parse_mounts(mountinfo: str) -> Hierarchy:
    """Parse /proc/self/mountinfo; of several mounts of one hierarchy the first counts."""
    found: dict[str, str] = {}
    unified = named = ""
    for line in mountinfo.split("\n"):
        head, dash, tail = line.partition(" - cgroup")
        if not dash:
            continue
        place = _unescape(head.split(" ")[4])
        version, _, options = tail.split(" ", 2)
        if version == "2":
            # A second mount below (a container's own, say) is not the host's hierarchy.
            unified = unified or place
        elif not version:
            for word in options.split(","):
                if word in V1_ORDER:
                    found.setdefault(word, place)
                elif word == NAMED:
                    named = named or place
    hierarchy = Hierarchy({name: found[name] for name in V1_ORDER if name in found}, unified)
    hierarchy.named = named
    return hierarchy


def parse_own(text: str) -> dict[str, str]:
    """Parse /proc/self/cgroup: `ID:controller,controller:/path`, v2 with no controller."""
    own = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            own[name] = path
    return own


def _unescape(path: str) -> str:
    if "\\" not in path:
        return path
    for code in ("040", "011", "012", "134"):
        path = path.replace("\\" + code, chr(int(code, 8)))
    return path
