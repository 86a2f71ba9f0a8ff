"""`exec --cgroup`: a process that joins a cgroup below the container's own.

An entry is PATH, for every hierarchy, or CONTROLLER[,CONTROLLER]:PATH for one of v1. The cgroup
must be there; it never lies outside the container's. Without an entry the process joins the
container's cgroup, or that of its init where the kernel lets nobody into the former.
"""

from __future__ import annotations

import posix

from pycontain.errors import InvalidError, KernelError, UsageError
from pycontain.runtime.state import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def below(paths: dict[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Return `paths` (controller -> directory) with the entries `wanted` applied.

    Raises UsageError for an unknown controller, InvalidError for a path that leaves the container's
    cgroup, KernelError for a directory that is not there.
    """
    found = dict(paths)
    for entry in wanted:
        controllers, colon, path = entry.rpartition(":")
        names = controllers.split(",") if colon else list(paths)
        for name in names:
            if name not in paths:
                raise UsageError(f"--cgroup: unknown controller {name}")
            found[name] = _joined(paths[name], path)
    return found


def _joined(directory: str, path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise InvalidError(f"--cgroup: bad sub cgroup path: {path} is not a sub cgroup path")
    whole = "/".join([directory, *parts])
    try:
        posix.stat(whole)
    except OSError as error:
        file = f"{whole}/cgroup.procs"
        raise KernelError("--cgroup: adding pid of the process to", file, error) from None
    return whole


def of_process(top: str, pid: int) -> str:
    """Return the directory, under the v2 mount `top`, of the cgroup that `pid` is in."""
    try:
        lines = read_file(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise KernelError("read cgroup of process", pid, error) from None
    for line in lines:
        number, _, rest = line.partition(":")
        if number == "0":
            return top.rstrip("/") + rest.partition(":")[2]
    raise InvalidError(f"process {pid} is in no v2 cgroup")
