"""The systemd manager: the container's cgroup inside a transient scope that systemd made.

    SLICE:PREFIX:NAME -> SLICE/PREFIX-NAME.scope          made by StartTransientUnit, Delegate=yes
                         ├── holder     a process of ours until the container has one
                         └── container  the container's cgroup, like any other

A scope needs a process from the start, before there is a container: `holder` lends itself. The
attributes of the scope itself stay systemd's (systemd.resource-control(5), Delegate=).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import time

from pycontain.cgroup import tree
from pycontain.cgroup.files import exists, read_or, write_existing
from pycontain.cgroup.group import UNIFIED, Cgroup
from pycontain.cgroup.hierarchy import Hierarchy, detect, parse_own
from pycontain.errors import InvalidError, KernelError, UnsupportedError

MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
    "StartTransientUnit",
)
HOLDER_SECONDS = 120.0
START_SECONDS = 10.0


def open_scope(cgroups_path: str, container_id: str) -> Scope:
    """Return the scope that SLICE:PREFIX:NAME names; "" is `:pycontain:ID` in the default slice.

    Raises InvalidError for another form and UnsupportedError where systemd does not run.
    """
    parts = (cgroups_path or f":pycontain:{container_id}").split(":")
    if len(parts) != 3 or any("/" in part for part in parts) or not parts[2]:
        raise InvalidError(
            f"cgroupsPath {cgroups_path!r} is not SLICE:PREFIX:NAME", hint="as systemd wants it"
        )
    if not exists("/run/systemd/system"):
        raise UnsupportedError(
            "the systemd cgroup manager needs systemd as init process",
            hint="use --cgroup-manager cgroupfs",
        )
    slice_name, prefix, name = parts
    root = posix.geteuid() == 0
    slice_name = slice_name or ("system.slice" if root else "user.slice")
    if not slice_name.endswith(".slice"):
        raise InvalidError(f"{slice_name!r} is not a slice", hint="its name ends with .slice")
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return Scope(detect(), unit, slice_name)


class Scope(Cgroup):
    """A cgroup inside a transient scope; see the module."""

    __slots__ = ("slice", "unit")

    def __init__(self, hierarchy: Hierarchy, unit: str, slice_name: str) -> None:
        super().__init__(hierarchy, "")
        self.unit = unit
        self.slice = slice_name

    def create(self) -> None:
        """Start the scope and make the container's cgroup in it; raises as Cgroup.create."""
        holder = posix.fork()
        if holder == 0:
            _hold()
        try:
            start_unit(self.unit, self.slice, holder)
            scope = _scope_of(holder, self.unit)
            self.path = f"{scope}/container"
            if self.hierarchy.unified:
                self._settle(self.hierarchy.unified + scope, holder)
            super().create()
        except BaseException:
            posix.kill(holder, _signal.SIGKILL)
            raise

    def _settle(self, directory: str, holder: int) -> None:
        """Move the holder out of the scope's root, so that controllers can be passed on."""
        home = f"{directory}/holder"
        try:
            posix.mkdir(home, 0o755)
            write_existing(f"{home}/cgroup.procs", str(holder))
        except OSError as error:
            raise KernelError("settle in scope", home, error, call="mkdir") from None

    def remove(self) -> None:
        """Remove the container's cgroup; systemd removes the scope once nothing runs in it."""
        owned = self.owned
        unified = self.dirs.get(UNIFIED, "")
        super().remove()
        if owned and unified:
            holder = unified.rpartition("/")[0] + "/holder"
            for pid in tree.procs(holder):
                posix.kill(pid, _signal.SIGKILL)
            tree.remove(holder)


def start_unit(unit: str, slice_name: str, pid: int) -> None:
    """Ask systemd for a transient scope around process `pid` (org.freedesktop.systemd1(5))."""
    import subprocess

    properties = [
        ("PIDs", "au", "1", str(pid)),
        ("Slice", "s", slice_name),
        ("Delegate", "b", "true"),
        ("DefaultDependencies", "b", "false"),
        ("CollectMode", "s", "inactive-or-failed"),
    ]
    command = ["busctl", *([] if posix.geteuid() == 0 else ["--user"]), "call", *MANAGER]
    command += ["ssa(sv)a(sa(sv))", unit, "fail", str(len(properties))]
    for words in properties:
        command += words
    try:
        done = subprocess.run(
            [*command, "0"], capture_output=True, timeout=START_SECONDS, check=False
        )
    except FileNotFoundError:
        raise UnsupportedError(
            "the systemd cgroup manager needs busctl (package systemd)"
        ) from None
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"systemd did not start {unit} in {START_SECONDS:.0f} s") from None
    if done.returncode:
        cause = done.stderr.decode("utf-8", "replace").strip()
        raise UnsupportedError(f"systemd did not start {unit}: {cause}")


def _scope_of(pid: int, unit: str) -> str:
    """Wait until systemd has moved `pid` into the unit's cgroup and return the cgroup's path."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        own = parse_own(read_or(f"/proc/{pid}/cgroup"))
        path = own.get("name=systemd") or own.get("", "")
        if path.endswith("/" + unit):
            return path
        time.sleep(0.002)
    raise UnsupportedError(f"systemd did not move process {pid} into {unit}")


def _hold() -> None:
    """Be the scope's process until the container has one, or the one who asked is gone."""
    parent = posix.getppid()
    deadline = time.monotonic() + HOLDER_SECONDS
    while posix.getppid() == parent and time.monotonic() < deadline:
        own = parse_own(read_or("/proc/self/cgroup")).get("", "")
        top = own.removesuffix("/holder")
        if top != own and read_or(f"/sys/fs/cgroup{top}/container/cgroup.procs"):
            break
        time.sleep(0.005)
    posix._exit(0)
