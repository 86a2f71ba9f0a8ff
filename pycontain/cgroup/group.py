"""One container's cgroup: a directory in each hierarchy that has a purpose for it.

    create() -> apply(resources) -> the child joins -> freeze, thaw, stats … -> kill() -> remove()

The path is the same in every hierarchy. On v1 and hybrid hosts only controllers with a purpose are
joined, for each costs a start some time; one that is needed later (`freeze`, `update`) is made then
and the processes are moved in. With `everywhere` it is every hierarchy from the beginning: whoever
chose the path expects the container there.
"""

from __future__ import annotations

import errno
import posix

from pycontain.cgroup import freezer, tree, writer
from pycontain.cgroup.files import exists, write_existing
from pycontain.cgroup.limits import CONTROLLERS
from pycontain.errors import ConflictError, KernelError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.cgroup.hierarchy import Hierarchy
    from pycontain.oci.runtime import Resources

BASE_V1 = ("devices", "memory", "pids", "cpuacct")
"""v1 controllers every container joins: devices guard, the others count (stats, OOM report)."""

UNIFIED = ""
"""The key of the v2 directory in `paths`, as in runc's state."""
OURS = "/pycontain"
"""Where relative paths begin; each directory goes with the last container in it."""

NO_PERMISSION = (errno.EPERM, errno.EACCES, errno.EROFS)
"""What mkdir answers an ordinary user, or root inside somebody's container."""


class Cgroup:
    """One container's cgroup; `dirs` maps a v1 controller, or "" for v2, to its directory."""

    __slots__ = (
        "_fd",
        "dirs",
        "everywhere",
        "hierarchy",
        "joined",
        "owned",
        "path",
        "refused",
        "why",
    )

    def __init__(self, hierarchy: Hierarchy, path: str, *, why: str = "") -> None:
        self.hierarchy = hierarchy
        self.path = path
        self.dirs: dict[str, str] = {}
        self.why = why
        self.refused: dict[str, str] = {}
        self.everywhere = False
        self.owned = False
        """Whether it is ours to kill and remove: made by `create`, attached, or claimed."""
        self.joined = False
        """Whether processes may be inside: a controller added now has to take them over."""
        self._fd = -1

    def paths(self) -> dict[str, str]:
        """Return the directories by controller ("" is v2), for state.json and `attach`."""
        return dict(self.dirs)

    def create(self) -> None:
        """Make the directories. Without permission nothing is made; `apply` then says so if asked.

        Raises ConflictError when the cgroup exists and holds processes or is frozen (it stays as it
        is), KernelError otherwise.
        """
        if self.why:
            return
        wanted = [c for c in BASE_V1 if c in self.hierarchy.v1]
        if wanted and self.everywhere:
            wanted = list(self.hierarchy.tops)
        if not wanted and not self.hierarchy.unified:
            self.why = "no cgroup hierarchy is mounted"
            return
        try:
            for controller in wanted or [UNIFIED]:
                self.directory(controller)
        except ConflictError:
            for directory in self.dirs.values():
                tree.remove(directory)
            self.dirs = {}
            self.owned = False
            raise
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        made = bool(self.dirs)
        self.remove()
        self.dirs = {}
        if made or error.errno not in NO_PERMISSION:
            raise KernelError("make cgroup", error.filename, error, call="mkdir") from None
        self.why = f"no permission to make {error.filename} ({error.strerror})"

    def directory(self, controller: str) -> str:
        """Return the directory of one controller; a new one takes over the processes."""
        if controller in self.dirs:
            return self.dirs[controller]
        top = self.hierarchy.tops[controller]
        directory = top + self.path
        if directory in self.dirs.values():
            # Controllers mounted together (cpu,cpuacct) share the directory.
            self.dirs[controller] = directory
            return directory
        if controller == UNIFIED:
            self._make_unified(directory, top)
        else:
            tree.make(directory, top)
            if controller == "cpuset":
                # Those above as well: whoever made a pod's cgroup may have left it empty.
                tree.inherit_cpuset(tree.ancestors(directory, top))
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
        own = top + self.hierarchy.own.get(UNIFIED, "").rstrip("/")
        delegated = posix.geteuid() != 0 and directory.startswith(own + "/")
        # In a delegated cgroup of our own it is ourselves who stand in the way.
        if self.refused and delegated and tree.step_aside(own):
            self.refused = tree.enable(parent, top, wanted)

    def apply(self, resources: Resources) -> None:
        """Set every limit in `resources`; a field that is absent stays as it is.

        Raises UnsupportedError or KernelError naming file, controller and cure when a limit cannot
        be set, InvalidError for values that contradict each other.
        """
        writer.apply(self, resources)

    def applied(self, resources: Resources) -> list[dict[str, str]]:
        """Return {file, asked, got} for each limit file, read from the kernel now."""
        return writer.applied(self, resources)

    def fd_for_clone(self) -> int:
        """Return a directory fd for CLONE_INTO_CGROUP, -1 without v2; it stays this object's."""
        if self._fd < 0 and UNIFIED in self.dirs:
            self._fd = posix.open(
                self.dirs[UNIFIED], posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
            )
        self.joined = True
        return self._fd

    def join_files(self) -> list[str]:
        """Return the v1 files a child of one thread writes "0" to before it unshares anything.

        It is `tasks`, not `cgroup.procs`: moving only the writing thread needs no lock on forks,
        and taking that lock waits for an RCU grace period, 5 ms on an idle machine
        (cgroup_procs_write_start in kernel/cgroup/cgroup.c). With one thread both do the same.
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
        """Stop every process; UnsupportedError without a freezer, KernelError on time-out."""
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
        """Return the directory that freezes, "" without one; `make` adds a missing one on v1."""
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
        return self.directory("freezer")

    def kill(self) -> None:
        """SIGKILL every process inside and wait until they are gone."""
        if self.owned and not self.dirs:
            self.dirs = self._found()
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
            for _ in range(self._depth_in_ours()):
                directory = directory.rpartition("/")[0]
                tree.remove_empty(directory)
        self.dirs = {}
        self.owned = False

    def _depth_in_ours(self) -> int:
        """Return how many directories above were made for this and other relative paths."""
        own = self.hierarchy.own.get(UNIFIED, "").rstrip("/")
        path = self.path.removeprefix(own) + "/"
        return path.count("/") - 2 if path.startswith(OURS + "/") else 0

    def _found(self) -> dict[str, str]:
        """Return the directories that exist, by controller (what a crash left of a container)."""
        found = {name: top + self.path for name, top in self.hierarchy.tops.items()}
        return {controller: path for controller, path in found.items() if exists(path)}

    def _everywhere(self) -> list[str]:
        """Return the directories this cgroup may have in any hierarchy."""
        tops = dict.fromkeys(self.hierarchy.tops.values())
        found = [top + self.path for top in tops]
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
