"""The cgroup of one container: make, limit, join, freeze, kill, remove.

    open(kind, path) -> Cgroup -> create() -> apply(resources) -> the child joins -> … -> remove()
    attach(paths)    -> Cgroup of a container that exists

A container's cgroup has the same path in every hierarchy of the host. On v1 and hybrid hosts only
the controllers with a purpose are joined; one that is needed later (`freeze`, `update`) is made
then and the processes are moved into it. Limits are decided by `limits` and `limits_v1`; this
module writes them and says what is missing when that fails.
"""

from __future__ import annotations

import posix

from pycontain.cgroup import freezer, tree
from pycontain.cgroup.files import exists, read_or, write_existing
from pycontain.cgroup.hierarchy import Hierarchy, detect
from pycontain.cgroup.limits import CONTROLLERS
from pycontain.errors import ConflictError, InvalidError, KernelError, UnsupportedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.cgroup.limits import Writes
    from pycontain.oci.runtime import Resources

KINDS = ("cgroupfs", "systemd", "disabled")
BASE_V1 = ("devices", "memory", "pids", "cpuacct")
"""v1 controllers every container joins: devices guard, the others count (stats, OOM report)."""

UNIFIED = ""
"""The key of the v2 directory in `paths`, as in runc's state."""


def open(kind: str = "cgroupfs", cgroups_path: str = "", *, id: str = "") -> Cgroup:
    """Return the cgroup `cgroups_path` names; nothing is made yet.

    An absolute path counts from the root of the hierarchies, a relative one too; "" is
    `/pycontain-ID`. For `systemd` the path is SLICE:PREFIX:NAME. Raises UsageError for an unknown
    kind and InvalidError for a path that leaves its place.
    """
    if kind == "disabled":
        return Cgroup(Hierarchy({}, ""), "", why="the cgroup manager is disabled")
    if kind == "systemd":
        from pycontain.cgroup import systemd

        return systemd.open_scope(cgroups_path, id)
    if kind != "cgroupfs":
        raise UsageError(f"unknown cgroup manager {kind!r}", hint=f"one of {', '.join(KINDS)}")
    if ":" in cgroups_path and "/" not in cgroups_path:
        raise InvalidError(
            f"cgroupsPath {cgroups_path!r} has systemd's form", hint="use --cgroup-manager systemd"
        )
    hierarchy = detect()
    path = checked(cgroups_path or f"pycontain-{id}")
    if hierarchy.pure_v2 and posix.geteuid() != 0:
        path = hierarchy.own.get("", "").rstrip("/") + path
    return Cgroup(hierarchy, path)


def attach(paths: Mapping[str, str]) -> Cgroup:
    """Return the cgroup of an existing container, by what `paths()` gave when it was made."""
    if not paths:
        return Cgroup(Hierarchy({}, ""), "", why="the container was made without a cgroup")
    hierarchy = detect()
    cgroup = Cgroup(hierarchy, _relative(hierarchy, paths))
    cgroup.dirs = dict(paths)
    cgroup.owned = True
    return cgroup


def checked(path: str) -> str:
    """Return a cgroup path with one leading slash; raises InvalidError for `..` and the like."""
    parts = [part for part in path.split("/") if part and part != "."]
    if not parts or ".." in parts or "\0" in path or "\n" in path:
        raise InvalidError(f"cgroup path {path!r} does not name a cgroup below the root")
    return "/" + "/".join(parts)


def _relative(hierarchy: Hierarchy, paths: Mapping[str, str]) -> str:
    for controller, directory in paths.items():
        top = hierarchy.v1.get(controller) if controller else hierarchy.unified
        if top and directory.startswith(top + "/"):
            return checked(directory[len(top) :])
        raise InvalidError(f"cgroup {directory} is not in the {controller or 'v2'} hierarchy")
    return ""


class Cgroup:
    """One container's cgroup; `dirs` maps a v1 controller, or "" for v2, to its directory."""

    __slots__ = ("_fd", "dirs", "hierarchy", "joined", "owned", "path", "refused", "why")

    def __init__(self, hierarchy: Hierarchy, path: str, *, why: str = "") -> None:
        self.hierarchy = hierarchy
        self.path = path
        self.dirs: dict[str, str] = {}
        self.why = why
        self.refused: dict[str, str] = {}
        self.owned = False
        """Whether it is ours to kill and remove: made by `create` or given to `attach`."""
        self.joined = False
        """Whether processes may be inside: a controller added now has to take them over."""
        self._fd = -1

    def paths(self) -> dict[str, str]:
        """Return the directories by controller ("" is v2), for state.json and `attach`."""
        return dict(self.dirs)

    def create(self) -> None:
        """Make the directories. Without permission nothing is made; `apply` then says so if asked.

        Raises ConflictError when the cgroup exists and holds processes, KernelError otherwise.
        """
        if self.why:
            return
        wanted = [c for c in BASE_V1 if c in self.hierarchy.v1]
        if not wanted and not self.hierarchy.unified:
            self.why = "no cgroup hierarchy is mounted"
            return
        try:
            for controller in wanted or [UNIFIED]:
                self._make(controller)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        made = bool(self.dirs)
        self.remove()
        self.dirs = {}
        # EPERM, EACCES, EROFS: an ordinary user, or a container around us.
        if made or error.errno not in (1, 13, 30):
            raise KernelError("make cgroup", error.filename, error, call="mkdir") from None
        self.why = f"no permission to make {error.filename} ({error.strerror})"

    def _make(self, controller: str) -> str:
        """Make the directory of one controller; move the container's processes into it."""
        if controller in self.dirs:
            return self.dirs[controller]
        top = self.hierarchy.v1[controller] if controller else self.hierarchy.unified
        directory = top + self.path
        if directory in self.dirs.values():
            # Controllers mounted together (cpu,cpuacct) share the directory.
            self.dirs[controller] = directory
            return directory
        if controller == UNIFIED:
            self._make_unified(directory, top)
        else:
            made = tree.make(directory, top)
            if controller == "cpuset":
                tree.inherit_cpuset(made)
        base = next(iter(self.dirs.values()), "")
        self.dirs[controller] = directory
        self.owned = True
        if base and self.joined:
            tree.adopt(base, directory)
        return directory

    def _make_unified(self, directory: str, top: str) -> None:
        offered = self.hierarchy.v2_controllers()
        wanted = [name for name in CONTROLLERS if name in offered]
        parent = directory.rpartition("/")[0]
        tree.make(directory, top)
        self.refused = tree.enable(parent, top, wanted)

    def apply(self, resources: Resources) -> None:
        """Set every limit in `resources`; a field that is absent stays as it is.

        Raises UnsupportedError or KernelError naming file, controller and cure when a limit cannot
        be set, InvalidError for values that contradict each other.
        """
        if self.why:
            self._refuse(resources)
            return
        self._check_memory(resources)
        late: list[tuple[str, str, str]] = []
        for directory, file, value in self._writes(resources):
            try:
                write_existing(f"{directory}/{file}", value)
            except OSError as error:
                # Some files check each other (limit and memsw, quota and burst): EINVAL now may
                # be right once the other one is written.
                if error.errno != 22:
                    raise self._explain(directory, file, value, error) from None
                late.append((directory, file, value))
        for directory, file, value in late:
            try:
                write_existing(f"{directory}/{file}", value)
            except OSError as error:
                raise self._explain(directory, file, value, error) from None
        if resources.get("devices") and "devices" not in self.hierarchy.v1:
            self._guard_devices(resources)

    def _refuse(self, resources: Resources) -> None:
        asked = [name for name, wanted in resources.items() if wanted and name != "devices"]
        if asked:
            raise UnsupportedError(
                f"linux.resources.{asked[0]} needs a cgroup: {self.why}",
                hint="delegate one (systemd-run --user --scope -p Delegate=yes), run as root, "
                "or ask for no limit",
            )

    def _check_memory(self, resources: Resources) -> None:
        memory = resources.get("memory") or {}
        wanted = memory.get("limit", -1)
        if not memory.get("checkBeforeUpdate") or wanted < 0:
            return
        used = self._memory_used()
        if used > wanted:
            raise ConflictError(f"memory limit {wanted} is below the {used} bytes in use")

    def _memory_used(self) -> int:
        if "memory" in self.dirs:
            return int(read_or(f"{self.dirs['memory']}/memory.usage_in_bytes", "0"))
        return int(read_or(f"{self.dirs.get(UNIFIED, '')}/memory.current", "0"))

    def _writes(self, resources: Resources) -> list[tuple[str, str, str]]:
        """Return (directory, file, value) for each limit, in the hierarchy that has its controller."""
        if self.hierarchy.pure_v2:
            return [(self._make(UNIFIED), *w) for w in self._v2_files(resources)]
        from pycontain.cgroup import limits_v1

        here: list[tuple[str, str, str]] = []
        there = False
        for file, value in limits_v1.limit_files(resources, self._has_v1):
            controller = file.partition(".")[0]
            if controller in self.hierarchy.v1:
                here.append((self._make(controller), file, value))
            elif controller != "devices":
                there = True
        if there or resources.get("unified"):
            here += self._hybrid_writes(resources)
        return here

    def _hybrid_writes(self, resources: Resources) -> list[tuple[str, str, str]]:
        """Return what v1 has no controller for, as v2 files."""
        if not self.hierarchy.unified:
            raise UnsupportedError(_missing_v1(resources, self.hierarchy))
        v1 = self.hierarchy.v1
        rest = [w for w in self._v2_files(_without(resources, v1))]
        return [(self._make(UNIFIED), *write) for write in rest]

    def _v2_files(self, resources: Resources) -> Writes:
        from pycontain.cgroup import limits

        directory = self._make(UNIFIED)
        quota = "max"
        if (resources.get("cpu") or {}).get("period"):
            quota = read_or(f"{directory}/cpu.max", "max").split(" ")[0]
        return limits.limit_files(resources, lambda name: exists(f"{directory}/{name}"), quota)

    def _has_v1(self, name: str) -> bool:
        controller = name.partition(".")[0]
        return controller in self.hierarchy.v1 and exists(f"{self._make(controller)}/{name}")

    def _explain(self, directory: str, file: str, value: str, error: OSError) -> Exception:
        controller = file.partition(".")[0]
        hint = ""
        if error.errno == 2 and directory == self.dirs.get(UNIFIED):
            hint = self._cure_v2(directory, file, controller)
        elif error.errno == 2:
            hint = f"this kernel's v1 controller {controller} has no such limit"
        elif error.errno == 16 and controller == "memory":
            hint = f"the container uses more: {self._memory_used()} bytes"
        elif error.errno == 22:
            hint = f"the kernel does not take {value!r} here"
        elif error.errno == 1 and controller == "devices":
            hint = "the parent cgroup denies this device"
        action = f"set limit {value!r} (cgroup controller {controller}) in"
        return KernelError(action, f"{directory}/{file}", error, call="write", hint=hint)

    def _cure_v2(self, directory: str, file: str, controller: str) -> str:
        parent = directory.rpartition("/")[0]
        if controller in self.refused:
            return f"controller {controller} is not enabled: {self.refused[controller]}"
        if controller in read_or(f"{parent}/cgroup.subtree_control").split():
            return f"controller {controller} is enabled, this kernel has no {file}"
        offered = self.hierarchy.v2_controllers()
        if controller not in offered:
            return f"the kernel offers no v2 controller {controller} here ({' '.join(offered)})"
        return f"controller {controller} is not enabled in {parent}/cgroup.subtree_control"

    def _guard_devices(self, resources: Resources) -> None:
        from pycontain.runtime import device_bpf

        device_bpf.guard(self._make(UNIFIED), resources["devices"])

    def applied(self, resources: Resources) -> list[dict[str, str]]:
        """Return for each limit file what was asked for and what the kernel holds now."""
        if self.why:
            return []
        report = []
        for directory, file, value in self._writes(resources):
            if not file.startswith("devices."):
                got = read_or(f"{directory}/{file}", "unreadable")
                report.append({"file": f"{directory}/{file}", "asked": value, "got": got})
        return report

    def fd_for_clone(self) -> int:
        """Return a directory fd for CLONE_INTO_CGROUP, -1 without v2; it stays this object's."""
        if self._fd < 0 and UNIFIED in self.dirs:
            self._fd = posix.open(
                self.dirs[UNIFIED], posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
            )
        self.joined = True
        return self._fd

    def join_files(self) -> list[str]:
        """Return the v1 files the single-threaded child writes "0" to, before it unshares anything.

        It is `tasks`, not `cgroup.procs`: moving only the writing thread needs no lock on forks, and
        taking that lock waits for an RCU grace period, 5 ms on an idle machine (kernel/cgroup/cgroup.c,
        cgroup_procs_write_start). For a process of one thread both do the same.
        """
        self.joined = True
        v1 = {directory for controller, directory in self.dirs.items() if controller}
        return [f"{directory}/tasks" for directory in sorted(v1)]

    def add(self, pid: int) -> None:
        """Move one process, all threads of it, into the cgroup."""
        self.joined = True
        for directory in dict.fromkeys(self.dirs.values()):
            try:
                write_existing(f"{directory}/cgroup.procs", str(pid))
            except OSError as error:
                raise KernelError(
                    f"move process {pid} to", directory, error, call="write"
                ) from None

    def close(self) -> None:
        """Close the descriptor `fd_for_clone` opened."""
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1

    def procs(self, *, recursive: bool = True) -> list[int]:
        """Return the pids inside, as this process sees them; [] when the cgroup is gone."""
        return tree.procs(self._base(), recursive=recursive) if self.dirs else []

    def _base(self) -> str:
        return next(iter(self.dirs.values()))

    def frozen(self) -> bool:
        """Return whether the processes are frozen."""
        directory = self._freezer(make=False)
        return bool(directory) and freezer.frozen(directory, v2=self._freezer_is_v2())

    def freeze(self) -> None:
        """Stop every process; raises UnsupportedError without a freezer, KernelError on time-out."""
        directory = self._freezer(make=True)
        if not directory:
            raise UnsupportedError(
                f"cannot pause: {self.why or 'no cgroup freezer on this host'}",
            )
        freezer.freeze(directory, v2=self._freezer_is_v2())

    def thaw(self) -> None:
        """Let every process run again; nothing to do when they were not frozen."""
        directory = self._freezer(make=False)
        if directory:
            freezer.thaw(directory, v2=self._freezer_is_v2())

    def _freezer_is_v2(self) -> bool:
        return "freezer" not in self.hierarchy.v1

    def _freezer(self, *, make: bool) -> str:
        """Return the directory that freezes, "" without one; `make` adds v1's when it is missing."""
        if not self.dirs:
            return ""
        if self._freezer_is_v2():
            return self.dirs.get(UNIFIED, "")
        directory = self.hierarchy.v1["freezer"] + self.path
        if exists(directory):
            return directory
        if not make:
            return ""
        self.joined = True
        return self._make("freezer")

    def kill(self) -> None:
        """SIGKILL every process inside and wait until they are gone."""
        if not self.owned or not self.dirs:
            return
        if UNIFIED in self.dirs and len(self.dirs) == 1:
            freezer.kill_v2(self.dirs[UNIFIED])
        else:
            if self.frozen():
                # SIGKILL waits for the thaw on v1.
                for pid in self.procs():
                    freezer.kill_one(pid)
                self.thaw()
            freezer.kill_v1(self._base(), lambda: self._freezer(make=True))

    def remove(self) -> None:
        """Remove the directories, those that were added later too; raises KernelError if busy."""
        self.close()
        if not self.owned:
            return
        for directory in self._everywhere():
            tree.remove(directory)
        self.dirs = {}
        self.owned = False

    def _everywhere(self) -> list[str]:
        """Return the directories this cgroup may have in any hierarchy."""
        tops = dict.fromkeys([*self.hierarchy.v1.values(), self.hierarchy.unified])
        found = [top + self.path for top in tops if top]
        known = set(self.dirs.values())
        return [directory for directory in found if directory in known or exists(directory)]

    def stats(self) -> dict[str, object]:
        """Return usage in the shape of `runc events --stats` (the "data" object)."""
        from pycontain.cgroup import stats

        return stats.collect(self.dirs)

    def oom(self) -> tuple[bool, int, int]:
        """Return (whether the OOM killer struck, memory limit, peak) in bytes; -1 is no limit."""
        from pycontain.cgroup import stats

        return stats.oom(self.dirs)


def _without(resources: Resources, v1: Mapping[str, str]) -> Resources:
    """Return `resources` without what the mounted v1 controllers took."""
    sections = {"memory": "memory", "pids": "pids", "blockIO": "blkio", "hugepageLimits": "hugetlb",
                "rdma": "rdma", "network": "net_cls"}  # fmt: skip
    rest: Resources = {}
    for section, controller in sections.items():
        if section in resources and controller not in v1:
            rest[section] = resources[section]  # type: ignore[literal-required]
    if "unified" in resources:
        rest["unified"] = resources["unified"]
    cpu = resources.get("cpu") or {}
    left = {
        key: value
        for key, value in cpu.items()
        if ("cpuset" if key in ("cpus", "mems") else "cpu") not in v1
    }
    if left:
        rest["cpu"] = left  # type: ignore[typeddict-item]
    return rest


def _missing_v1(resources: Resources, hierarchy: Hierarchy) -> str:
    rest = ", ".join(_without(resources, hierarchy.v1))
    mounted = " ".join(hierarchy.v1)
    return f"linux.resources.{rest}: no cgroup controller for it is mounted (mounted: {mounted})"
