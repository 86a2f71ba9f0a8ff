"""bubblewrap: namespaces without limits, seccomp or an image; the lower bound of a sandbox."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from pycontain.bench.backend import Outcome, environment, outcome_of
from pycontain.bench.hold import held
from pycontain.bench.launch import Setting, launch
from pycontain.bench.limits import LimitGroup
from pycontain.bench.model import Kind, Workload

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place


class Bwrap:
    """The bwrap arm; limits come from a cgroup the stopwatch joins."""

    name = "bwrap"
    kind = Kind.MEASURED
    includes = "namespaces, mounts; the overlay is mounted before"
    repeats = True

    def __init__(self) -> None:
        self._limits = LimitGroup(self.name)

    def probe(self) -> str:
        if shutil.which("bwrap") is None:
            return "bwrap is not installed"
        return "" if os.geteuid() == 0 else "needs root (its root is mounted by the harness)"

    def prepare(self, image: BenchImage, place: Place) -> None:
        self._image = image
        self._root = place.overlay(self.name, image.rootfs)

    def command_line(self, workload: Workload) -> list[str]:
        identity = ["--uid", str(workload.uid), "--gid", str(workload.gid)]
        isolation = ["--unshare-user", *identity] if workload.uid or workload.gid else []
        return [
            *("bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
            *("--unshare-cgroup-try", "--die-with-parent", "--new-session", *isolation),
            *("--bind", str(self._root), "/", "--proc", "/proc", "--dev", "/dev"),
            *("--chdir", workload.cwd, "--", *workload.argv),
        ]

    def run(self, workload: Workload) -> Outcome:
        setting = Setting(
            cpuset=workload.limits.cpuset,
            join=self._limits.join(workload.limits),
            env=environment(self._image, workload),
        )
        done = launch(self.command_line(workload), setting, workload.timeout_s)
        return outcome_of(done, whole_tree=True)

    def hold(self, workload: Workload) -> AbstractContextManager[None]:
        return held(self.command_line(workload), environment(self._image, workload))

    def close(self) -> None:
        self._limits.close()
