"""linux.intelRdt: the group of the resource control file system (resctrl) a container runs in.

Owns which group that is, what is written into it and what is removed again; the processes join it
by their plans. Imported when config.json has the field. Every function takes the directory where
resctrl is mounted. Source: runtime-spec config-linux.md "IntelRdt" and the kernel's
filesystems/resctrl.rst; where both are silent, runc's libcontainer/intelrdt.

    without closID     a group named after the container, made here, removed by delete
    closID alone       must be there; "/" is the root, the default class
    closID and lines   made if missing, and left, for others may have joined; compared if there
    enableMonitoring   mon_groups/ID in the group, removed by delete
"""

from __future__ import annotations

import posix
from errno import ENOENT

from pycontain.cgroup.files import exists, read_or, write_existing
from pycontain.errors import (
    ConflictError,
    InvalidError,
    KernelError,
    NotFoundError,
    UnsupportedError,
)
from pycontain.oci import codec
from pycontain.runtime import hostmounts
from pycontain.runtime import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import IntelRdt
    from pycontain.runtime.container import Container

FIELD = "linux.intelRdt"


class Group:
    """A container's group. `monitor` is its monitoring group, "" for none.

    own     the group is the container's alone
    made    directories that `create` made, for `undo`
    """

    __slots__ = ("made", "monitor", "own", "path", "root")

    def __init__(self, root: str, path: str, monitor: str, *, own: bool) -> None:
        self.root = root
        self.path = path
        self.monitor = monitor
        self.own = own
        self.made: list[str] = []

    def tasks_files(self) -> list[str]:
        """Return the files a process joins by, in that order."""
        return [f"{path}/tasks" for path in (self.path, self.monitor) if path]

    def create(self, wanted: IntelRdt) -> None:
        """Make what is missing, write the lines of a new group, compare those of another's.

        Raises NotFoundError for a closID that has to be there, ConflictError for one that holds
        other lines, KernelError; `undo` takes back what was made until then.
        """
        lock = _lock(self.root)
        try:
            there = exists(f"{self.path}/tasks")
            if self.own or (has_lines(wanted) and not there):
                if not there:
                    self._make(self.path)
                self.write(wanted)
            elif not there:
                raise NotFoundError(
                    f"{FIELD}.closID: there is no resource control group {self.path}",
                    hint="make it, or give l3CacheSchema, memBwSchema or schemata",
                )
            else:
                self._compare(wanted)
            if self.monitor and not exists(f"{self.monitor}/tasks"):
                self._make(self.monitor)
        finally:
            posix.close(lock)

    def write(self, wanted: IntelRdt) -> None:
        """Write the lines of `wanted` into the group, those of `schemata` last."""
        path = f"{self.path}/schemata"
        # Two writes: in one of them the kernel refuses a resource that is named twice.
        for lines in (_older_lines(wanted), wanted.get("schemata") or []):
            if not lines:
                continue
            try:
                write_existing(path, "\n".join(lines) + "\n")
            except OSError as error:
                raise self._failed(f"{FIELD}: write {'; '.join(lines)!r} to", path, error) from None

    def add(self, pids: list[int]) -> None:
        """Move processes that run already into the group."""
        for pid in pids:
            for path in self.tasks_files():
                try:
                    write_existing(path, str(pid))
                except ProcessLookupError:
                    break
                except OSError as error:
                    raise self._failed(f"move process {pid} to", path, error) from None

    def undo(self) -> None:
        """Remove what `create` made, but a shared group that somebody joined meanwhile."""
        for path in reversed(self.made):
            if self.own or path == self.monitor or not read_or(f"{path}/tasks"):
                remove_directory(path)

    def remove(self) -> None:
        """Remove what belongs to the container alone; what is gone already is no error."""
        for path in (self.monitor, self.path if self.own else ""):
            if path:
                remove_directory(path)

    def _make(self, path: str) -> None:
        try:
            make_directory(path)
        except OSError as error:
            if path == self.monitor and error.errno == ENOENT:
                raise UnsupportedError(
                    f"{FIELD}.enableMonitoring: this machine has no monitoring: no "
                    + path.rpartition("/")[0]
                ) from None
            raise self._failed("make resource control group", path, error, "mkdir") from None
        self.made.append(path)

    def _compare(self, wanted: IntelRdt) -> None:
        held = parse(read_or(f"{self.path}/schemata").splitlines())
        steps = read_or(f"{self.root}/info/MB/bandwidth_gran")
        step = int(steps) if steps.isdigit() else 1
        lines = [*_older_lines(wanted), *(wanted.get("schemata") or [])]
        for (resource, domain), value in parse(lines).items():
            found = held.get((resource, domain))
            # The kernel rounds bandwidth up to its steps.
            rounded = -(-value // step) * step if isinstance(value, int) else value
            if found is None or found not in (value, rounded):
                raise ConflictError(
                    f"{FIELD}: the resource control group {self.path} has another schemata: "
                    f"{resource}:{domain}= is not as config.json has it"
                )

    def _failed(self, action: str, path: str, error: OSError, call: str = "write") -> KernelError:
        said = read_or(f"{self.root}/info/last_cmd_status")
        return KernelError(action, path, error, call=call, hint="" if said == "ok" else said)


def find_root() -> str:
    """Return where resctrl is mounted; raises UnsupportedError."""
    root = hostmounts.first_of_type("resctrl")
    if not root:
        raise UnsupportedError(
            f"config.json: {FIELD}: no resource control file system (resctrl) is mounted",
            hint="mount -t resctrl resctrl /sys/fs/resctrl",
        )
    return root


def choose(root: str, id: str, wanted: IntelRdt) -> Group:
    """Return the group `wanted` asks for, for container `id`; nothing is made yet.

    Raises ConflictError when there are processes in a group of the container's name.
    """
    name = wanted.get("closID", "")
    path = root if name == "/" else f"{root}/{name or id}"
    monitor = f"{path}/mon_groups/{id}" if wanted.get("enableMonitoring") else ""
    group = Group(root, path, monitor, own=not name)
    for place in (monitor, path if group.own else ""):
        if place and read_or(f"{place}/tasks"):
            raise ConflictError(f"{FIELD}: there are processes in the group {place}")
    return group


def remember(home: str, group: Group) -> None:
    """Write down the container's group; `recall` reads it."""
    record = {name: getattr(group, name) for name in ("root", "path", "monitor", "own")}
    states.write_file(home + states.RDT, codec.dumps(record))


def recall(home: str) -> Group | None:
    """Return the group of the container whose directory is `home`, None when it has none."""
    path = home + states.RDT
    try:
        data = states.read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidError(f"{path}: cannot be read: {error.strerror}") from None
    record = codec.load_object(data, path, lone_surrogates=True)
    texts = [str(record.get(name, "")) for name in ("root", "path", "monitor")]
    return Group(*texts, own=record.get("own") is True)


def present(home: str) -> Group | None:
    """As `recall`, without the groups that somebody removed meanwhile."""
    group = recall(home)
    if group is None or not exists(group.path):
        return None
    if not exists(group.monitor):
        group.monitor = ""
    return group


def update(container: Container, wanted: IntelRdt) -> None:
    """Write the lines of `wanted`; a container without a group gets one of its own, as runc does.

    What no line names stays as it is.
    """
    group = present(container.home)
    if group is not None:
        group.write(wanted)
        return
    group = choose(find_root(), container.id, {})
    remember(container.home, group)
    try:
        group.create(wanted)
        group.add(container.processes())
    except BaseException:
        group.undo()
        posix.unlink(container.home + states.RDT)
        raise


def has_lines(wanted: IntelRdt) -> bool:
    """Return whether anything is to be written to a schemata file."""
    return bool(wanted.get("l3CacheSchema") or wanted.get("memBwSchema") or wanted.get("schemata"))


def parse(lines: list[str]) -> dict[tuple[str, str], int | str]:
    """Return (resource, domain) -> value; of two for the same the later one.

    Bitmasks of caches are hexadecimal, bandwidths decimal: 0f and f are the same mask.
    """
    found: dict[tuple[str, str], int | str] = {}
    for line in lines:
        resource, _, rest = line.strip().partition(":")
        for part in filter(None, map(str.strip, rest.split(";"))):
            domain, _, value = map(str.strip, part.partition("="))
            found[resource, domain.lstrip("0") or "0"] = _value(resource, value)
    return found


def _value(resource: str, text: str) -> int | str:
    if not resource.startswith("L"):
        return int(text) if text.isascii() and text.isdigit() else text
    try:
        # As text: an integer is a bandwidth, and is rounded.
        return f"{int(text, 16):x}"
    except ValueError:
        return text


def _older_lines(wanted: IntelRdt) -> list[str]:
    """Return the lines of l3CacheSchema and memBwSchema, whose MB line takes the other's place."""
    lines = [line for line in (wanted.get("l3CacheSchema") or "").splitlines() if line.strip()]
    bandwidth = wanted.get("memBwSchema")
    if bandwidth:
        lines = [line for line in lines if not line.startswith("MB:")] + [bandwidth]
    return lines


def _lock(root: str) -> int:
    """Lock the file system, as resctrl.rst asks who changes it to; closing unlocks."""
    import fcntl

    try:
        fd = posix.open(root, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open resource control file system", root, error, call="open") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        posix.close(fd)
        raise KernelError("lock", root, error, call="flock") from None
    return fd


def make_directory(path: str) -> None:
    posix.mkdir(path, 0o755)


def remove_directory(path: str) -> None:
    """Remove a group; its processes fall to the group above. It is no error when it is gone."""
    try:
        posix.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError("remove resource control group", path, error, call="rmdir") from None
