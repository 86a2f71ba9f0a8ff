"""A cgroup for the arms that make none themselves: the stopwatch joins it before it starts them.

Owns one cgroup per arm and its removal; the files behind it are `pycontain.cgroup`'s business.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from pycontain.bench.bundle import resources
from pycontain.bench.model import Limits

if TYPE_CHECKING:
    from pycontain.cgroup.manager import Cgroup


class LimitGroup:
    """The cgroup of one arm; made when limits are first asked for."""

    def __init__(self, name: str) -> None:
        self._path = f"/pycontain-bench-{os.getpid()}-{name}"
        self._cgroup: Cgroup | None = None
        self._applied = Limits()

    def join(self, limits: Limits) -> tuple[str, ...]:
        """Return the files to write "0" to so that `limits` hold; none when none are set."""
        if not limits.any:
            return ()
        if self._cgroup is None:
            from pycontain.cgroup import manager

            self._cgroup = manager.open("cgroupfs", self._path)
            self._cgroup.create()
        if limits != self._applied:
            self._cgroup.apply(cast("Any", resources(limits)))
            self._applied = limits
        unified = self._cgroup.paths().get("")
        files = self._cgroup.join_files() + ([f"{unified}/cgroup.procs"] if unified else [])
        return tuple(files)

    def close(self) -> None:
        """Remove the cgroup."""
        if self._cgroup is not None:
            self._cgroup.remove()
            self._cgroup = None
