"""The base of every ratio: the command itself in a copy of the image, with no isolation at all.

chroot is the only difference to a plain start; without it the arm would not run the same bytes.
A second instance under another name is the A/A arm, whose distance from the first is noise.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.bench.backend import Outcome, environment, outcome_of
from pycontain.bench.hold import held
from pycontain.bench.launch import Launch, Setting, launch, launch_argv
from pycontain.bench.limits import LimitGroup
from pycontain.bench.model import Kind, Workload

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place


class Native:
    """The native arm."""

    kind = Kind.MEASURED
    includes = "chroot, exec, exit"
    repeats = True

    def __init__(self, name: str = "native") -> None:
        self.name = name
        self._root: Path | None = None
        self._limits = LimitGroup(name)

    def probe(self) -> str:
        return "" if os.geteuid() == 0 else "needs root (chroot into the image)"

    def prepare(self, image: BenchImage, place: Place) -> None:
        self._image = image
        self._root = place.copy(self.name, image.rootfs)

    def command_line(self, workload: Workload) -> list[str]:
        return launch_argv(self._setting(workload, ()), workload.argv, "REPORT")

    def run(self, workload: Workload) -> Outcome:
        return outcome_of(self.launch(workload), whole_tree=True)

    def launch(self, workload: Workload, events: tuple[str, ...] = ()) -> Launch:
        """Run the workload once, counting `events`; the simulator's arms start from this."""
        return launch(workload.argv, self._setting(workload, events), workload.timeout_s)

    def hold(self, workload: Workload) -> AbstractContextManager[None]:
        setting = self._setting(workload, ())
        return held(launch_argv(setting, workload.argv), setting.env)

    def _setting(self, workload: Workload, events: tuple[str, ...]) -> Setting:
        return Setting(
            root=str(self._root),
            cwd=workload.cwd,
            uid=workload.uid,
            gid=workload.gid,
            cpuset=workload.limits.cpuset,
            join=self._limits.join(workload.limits),
            events=events,
            env=environment(self._image, workload),
        )

    def close(self) -> None:
        self._limits.close()
