"""Making, filling and removing cgroup directories.

Works on one directory at a time and knows both versions' rules; which directories a container has
is `manager`'s business.
"""

from __future__ import annotations

import posix
import time

from pycontain.cgroup.files import children, read, read_or, write_existing
from pycontain.errors import ConflictError, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

REMOVE_SECONDS = 5.0
"""How long removal waits for killed processes to leave; a core dump may take this long."""


def make(directory: str, top: str) -> None:
    """Make `directory` and what is missing above it, below `top`.

    An existing empty cgroup is taken over (a crash left it). Raises ConflictError when it holds
    processes or is frozen, OSError of mkdir(2) otherwise.
    """
    try:
        posix.mkdir(directory, 0o755)
        return
    except FileExistsError:
        _check_free(directory)
        return
    except FileNotFoundError:
        parent = directory.rpartition("/")[0]
        if len(parent) <= len(top):
            raise
    for path in ancestors(directory, top):
        try:
            posix.mkdir(path, 0o755)
        except FileExistsError:
            continue


def _check_free(directory: str) -> None:
    inside = len(procs(directory))
    if inside:
        raise ConflictError(
            f"container's cgroup is not empty: {inside} process(es) found in {directory}"
        )
    frozen = (read_or(f"{directory}/freezer.state"), read_or(f"{directory}/cgroup.freeze"))
    if frozen[0] in ("FROZEN", "FREEZING") or frozen[1] == "1":
        raise ConflictError(f"container's cgroup unexpectedly frozen: {directory}")


def ancestors(directory: str, top: str) -> list[str]:
    """Return the cgroups from just below `top` down to `directory` itself."""
    paths = []
    path = top.rstrip("/")
    for name in directory[len(path) :].strip("/").split("/"):
        path += "/" + name
        paths.append(path)
    return paths


def inherit_cpuset(directories: Iterable[str]) -> None:
    """Fill cpuset.cpus and cpuset.mems of empty v1 cpusets, top first, from their parents.

    A v1 cpuset starts empty and refuses every task until it has both (cpusets(7)).
    """
    for directory in directories:
        parent = directory.rpartition("/")[0]
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not read(f"{directory}/{name}"):
                write_existing(f"{directory}/{name}", read(f"{parent}/{name}"))


def enable(parent: str, top: str, wanted: Iterable[str]) -> dict[str, str]:
    """Enable v2 controllers for the children of `parent` and of everything above it up to `top`.

    Returns those that could not be enabled and why; whether that matters is known when a limit
    is asked for.
    """
    refused: dict[str, str] = {}
    levels = [top] if parent == top else [top, *ancestors(parent, top)]
    for level in levels:
        enabled = read_or(f"{level}/cgroup.subtree_control").split()
        if all(name in enabled for name in wanted):
            continue
        offered = read_or(f"{level}/cgroup.controllers").split()
        missing = [name for name in wanted if name in offered and name not in enabled]
        if missing and _holds_processes(level):
            # Asked one by one the kernel would still enable the threaded controllers (pids, cpu),
            # make the cgroup a threaded domain and with that its children unusable.
            why = f"{level} holds processes itself, so it cannot pass controllers on"
            refused.update(dict.fromkeys(missing, why))
            continue
        for name in missing:
            try:
                write_existing(f"{level}/cgroup.subtree_control", f"+{name}")
            except OSError as error:
                refused[name] = (
                    f"cannot enable it in {level}/cgroup.subtree_control: {error.strerror}"
                )
    return refused


def _holds_processes(level: str) -> bool:
    """Return whether a v2 cgroup other than the root has processes of its own.

    cgroup-v2.rst, "No Internal Process Constraint"; the root, which it spares, has no cgroup.type.
    """
    return bool(read_or(f"{level}/cgroup.type") and read_or(f"{level}/cgroup.procs"))


def step_aside(own: str) -> bool:
    """Move this process, and no other, from its v2 cgroup into `supervisor` below; True if moved.

    A cgroup that holds processes cannot pass controllers on to its children.
    """
    home = f"{own}/supervisor"
    try:
        posix.mkdir(home, 0o755)
    except FileExistsError:
        pass
    except OSError:
        return False
    try:
        write_existing(f"{home}/cgroup.procs", "0")
    except OSError:
        return False
    return True


def remove_empty(directory: str) -> None:
    """Remove a cgroup that has neither processes nor children; any other stays."""
    try:
        posix.rmdir(directory)
    except OSError:
        return


def procs(directory: str, *, recursive: bool = True) -> list[int]:
    """Return the pids in a cgroup and those below it, as seen from this pid namespace."""
    try:
        found = [int(pid) for pid in read(f"{directory}/cgroup.procs").split()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno == 19:  # ENODEV: removed between open and read
            return []
        raise KernelError("read processes of", directory, error, call="read") from None
    if recursive:
        for child in children(directory):
            found += procs(child)
    return [pid for pid in found if pid > 0]


def remove(directory: str) -> None:
    """Remove a cgroup and those below it; gone already is fine. Raises KernelError (EBUSY …)."""
    deadline = 0.0
    pause = 0.0002
    while True:
        try:
            posix.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != 16:
                raise KernelError("remove cgroup", directory, error, call="rmdir") from None
            # EBUSY: children, or a killed process that has not left yet.
            below = children(directory)
            for child in below:
                remove(child)
            if below:
                continue
            now = time.monotonic()
            deadline = deadline or now + REMOVE_SECONDS
            if now > deadline:
                left = ", ".join(map(str, procs(directory)[:5])) or "none visible here"
                raise KernelError(
                    "remove cgroup", directory, error, call="rmdir", hint=f"processes in it: {left}"
                ) from None
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def adopt(source: str, target: str) -> None:
    """Move every process of v1 cgroup `source` (and below) into `target` of another controller.

    Repeats until no process is missing: a fork between reading and writing starts outside.
    """
    for _ in range(1000):
        missing = set(procs(source)) - set(procs(target))
        if not missing:
            return
        for pid in missing:
            try:
                write_existing(f"{target}/cgroup.procs", str(pid))
            except ProcessLookupError:
                continue
    raise ConflictError(f"processes of {source} fork faster than they can be moved to {target}")
