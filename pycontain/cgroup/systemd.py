"""The systemd manager: the container's cgroup is a transient scope that systemd makes.

    SLICE:PREFIX:NAME -> SLICE/PREFIX-NAME.scope    StartTransientUnit, Delegate=yes

Limits are set twice: as properties, which systemd keeps over its own reload, and in the scope's
files, which know more (systemd.resource-control(5)). Devices are guarded by our own BPF program.
A scope needs a process from its start, before there is a container: `_Holder` lends one. Pure
cgroup v2 only: on v1 systemd takes back what a delegated scope writes.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import time

from pycontain.cgroup.files import exists, read_or
from pycontain.cgroup.group import UNIFIED, Cgroup
from pycontain.cgroup.hierarchy import Hierarchy, detect, parse_own
from pycontain.cgroup.limits import limit_files
from pycontain.errors import ConflictError, InvalidError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.oci.runtime import Resources

    Property = tuple[str, ...]
    """Name, signature and words of the value, as busctl(1) takes them."""

MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
START_SECONDS = 30.0
STOP_SECONDS = 5.0
INFINITY = str((1 << 64) - 1)
ANNOTATION = "org.systemd.property."
NUMBERS = {
    "cpu.weight": "CPUWeight",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.max": "MemoryMax",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}
SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
TYPES = {
    "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x",
    "uint64": "t", "double": "d", "string": "s", "boolean": "b",
}  # fmt: skip


def open_scope(cgroups_path: str, container_id: str, annotations: Mapping[str, str]) -> Scope:
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
    hierarchy = detect()
    if not hierarchy.pure_v2:
        raise UnsupportedError(
            "the systemd cgroup manager needs cgroup v2 alone", hint="use --cgroup-manager cgroupfs"
        )
    slice_name, prefix, name = parts
    slice_name = slice_name or ("user.slice" if _is_user() else "system.slice")
    if not slice_name.endswith(".slice"):
        raise InvalidError(f"{slice_name!r} is not a slice", hint="its name ends with .slice")
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    scope = Scope(hierarchy, unit, slice_name)
    scope.extra = [annotated(k, v) for k, v in annotations.items() if k.startswith(ANNOTATION)]
    return scope


def found(hierarchy: Hierarchy, path: str) -> Cgroup:
    """Return the cgroup of an existing container by its path, which may be a unit's."""
    above, _, unit = path.rpartition("/")
    slice_name = above.rpartition("/")[2]
    if not slice_name.endswith(".slice") or not exists("/run/systemd/system"):
        return Cgroup(hierarchy, path)
    scope = Scope(hierarchy, unit, slice_name)
    scope.path = path
    return scope


class Scope(Cgroup):
    """The cgroup of a transient scope; see the module."""

    __slots__ = ("_holder", "extra", "slice", "unit")

    def __init__(self, hierarchy: Hierarchy, unit: str, slice_name: str) -> None:
        super().__init__(hierarchy, "")
        self.unit = unit
        self.slice = slice_name
        self.extra: list[Property] = []
        self._holder: _Holder | None = None

    def create(self) -> None:
        """Start the scope. Raises ConflictError when the unit exists."""
        self._holder = _Holder()
        properties = [
            ("Description", "s", f"container {self.unit.rpartition('.')[0]}"),
            ("PIDs", "au", "1", str(self._holder.pid)),
            ("Slice", "s", self.slice),
            ("Delegate", "b", "true"),
            ("DefaultDependencies", "b", "false"),
            ("CollectMode", "s", "inactive-or-failed"),
            *((f"{kind}Accounting", "b", "true") for kind in ("CPU", "IO", "Memory", "Tasks")),
            *self.extra,
        ]
        try:
            _call(
                "StartTransientUnit",
                "ssa(sv)a(sa(sv))",
                self.unit,
                "fail",
                *_words(properties),
                "0",
            )
            self.path = _scope_of(self._holder.pid, self.unit)
        except BaseException:
            self.close()
            raise
        self.dirs = {UNIFIED: self.hierarchy.unified + self.path}
        self.owned = True

    def apply(self, resources: Resources) -> None:
        """Set every limit as a property of the unit and in the files; raises as Cgroup.apply."""
        asked = properties(resources)
        if asked:
            _call("SetUnitProperties", "sba(sv)", self.unit, "true", *_words(asked))
        super().apply(resources)

    def close(self) -> None:
        """Let the holder go: the container's first process is inside."""
        super().close()
        if self._holder:
            self._holder.end()
            self._holder = None

    def kill(self) -> None:
        """SIGKILL every process inside; systemd alone knows where a scope is that a crash left."""
        if self.dirs or not self.owned:
            super().kill()
            return
        try:
            _call("KillUnit", "ssi", self.unit, "all", str(int(_signal.SIGKILL)))
        except UnsupportedError:
            # There is no such unit (any more).
            return

    def remove(self) -> None:
        """Stop the unit and wait until its cgroup is gone."""
        self.close()
        if not self.owned:
            return
        try:
            _call("StopUnit", "ss", self.unit, "fail")
        except UnsupportedError:
            # systemd saw the last process leave and has collected the unit.
            pass
        if not self.dirs:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while exists(self.dirs[UNIFIED]) and time.monotonic() < deadline:
            time.sleep(0.002)
        super().remove()


class _Holder:
    """A process that waits until `end`, or until the one who made it is gone."""

    def __init__(self) -> None:
        far, self._near = posix.pipe2(posix.O_CLOEXEC)
        self.pid = posix.fork()
        if self.pid == 0:
            posix.close(self._near)
            posix.read(far, 1)
            posix._exit(0)
        posix.close(far)

    def end(self) -> None:
        posix.close(self._near)
        posix.kill(self.pid, _signal.SIGKILL)
        posix.waitpid(self.pid, 0)


def properties(resources: Resources) -> list[Property]:
    """Return the properties of a unit that say what `resources` says, as far as there are some."""
    found: list[Property] = []
    for file, value in limit_files(resources):
        if file in NUMBERS:
            found.append((NUMBERS[file], "t", INFINITY if value == "max" else value))
        elif file in SETS:
            mask = _mask(value)
            found.append((SETS[file], "ay", str(len(mask)), *map(str, mask)))
        elif file == "cpu.max":
            quota, _, period = value.partition(" ")
            period = period or "100000"
            found.append(("CPUQuotaPerSecUSec", "t", _per_second(quota, int(period))))
            found.append(("CPUQuotaPeriodUSec", "t", period))
    return found


def _per_second(quota: str, period: int) -> str:
    """Return CPUQuotaPerSecUSec; systemd keeps whole percents, here rounded up."""
    if quota == "max":
        return INFINITY
    return str(-(-int(quota) * 1_000_000 // period // 10_000) * 10_000)


def _mask(cpus: str) -> bytes:
    """Return a list of CPUs or nodes, as cpuset(7) writes it, as systemd's array of bits."""
    mask = 0
    for part in cpus.split(","):
        first, _, last = part.strip().partition("-")
        if first:
            for number in range(int(first), int(last or first) + 1):
                mask |= 1 << number
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def annotated(key: str, value: str) -> Property:
    """Return the property an annotation sets, its value in GVariant's text form.

    Known are booleans, strings, numbers with or without a type, and arrays of strings.
    """
    name, text = key.removeprefix(ANNOTATION), value.strip()
    kind, _, rest = text.partition(" ")
    if text in ("true", "false"):
        return name, "b", text
    if kind in TYPES and rest:
        return name, TYPES[kind], rest.strip().strip("'\"")
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        return name, "s", text[1:-1]
    if text[:1] == "[" and text[-1:] == "]":
        words = [word.strip().strip("'\"") for word in text[1:-1].split(",") if word.strip()]
        return name, "as", str(len(words)), *words
    if text.removeprefix("-").isdecimal():
        return name, "i", text
    raise InvalidError(f"annotations[{key!r}]: {value!r} is not a value in GVariant's text form")


def _words(properties: list[Property]) -> list[str]:
    return [str(len(properties)), *(word for each in properties for word in each)]


def _is_user() -> bool:
    """Return whether the user's own systemd is to be asked, not the system's."""
    return posix.geteuid() != 0 or _outer_uid() != 0


def _outer_uid() -> int:
    """Return the uid this process has outside of its user namespace."""
    for line in read_or("/proc/self/uid_map").splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= posix.geteuid() < inside + count:
            return outside + posix.geteuid() - inside
    return posix.geteuid()


def _environment() -> dict[str, str]:
    """Return what busctl needs to find the bus: engines call some verbs with no environment."""
    env = {k.decode(): v.decode("utf-8", "surrogateescape") for k, v in posix.environ.items()}
    if _is_user() and "DBUS_SESSION_BUS_ADDRESS" not in env:
        env.setdefault("XDG_RUNTIME_DIR", f"/run/user/{_outer_uid()}")
    return env


def _call(method: str, signature: str, unit: str, *words: str) -> None:
    """Call a method of systemd's manager (org.freedesktop.systemd1(5))."""
    import subprocess

    command = ["busctl", *(["--user"] if _is_user() else []), "call", *MANAGER]
    command += [method, signature, unit, *words]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=START_SECONDS, check=False, env=_environment()
        )
    except FileNotFoundError:
        raise UnsupportedError(
            "the systemd cgroup manager needs busctl (package systemd)"
        ) from None
    except subprocess.TimeoutExpired:
        raise UnsupportedError(
            f"systemd did not answer {method} in {START_SECONDS:.0f} s"
        ) from None
    if done.returncode:
        cause = done.stderr.decode("utf-8", "replace").strip().removeprefix("Call failed: ")
        if "already loaded" in cause or "already exists" in cause:
            raise ConflictError(f"systemd has a unit {unit} already")
        raise UnsupportedError(f"systemd refuses {method} {unit}: {cause}")


def _scope_of(pid: int, unit: str) -> str:
    """Wait until systemd has moved `pid` into the unit's cgroup and return the cgroup's path."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        path = parse_own(read_or(f"/proc/{pid}/cgroup")).get("", "")
        if path.endswith("/" + unit):
            return path
        time.sleep(0.002)
    raise UnsupportedError(f"systemd did not move process {pid} into {unit}")
