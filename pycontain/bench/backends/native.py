"""The base of every ratio: the command itself in a copy of the image, with no isolation at all.

chroot is the only difference to a plain start; without it the arm would not run the same bytes.
A second instance under another name is the A/A arm, whose distance from the first is noise.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pycontain.bench.backend import Outcome, environment, outcome_of
from pycontain.bench.hold import held
from pycontain.bench.launch import Launch, Setting, launch, launch_argv
from pycontain.bench.limits import LimitGroup
from pycontain.bench.model import Kind, Workload
from pycontain.errors import UnsupportedError
from pycontain.vm.qemu.toolchain import launcher

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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
        if os.geteuid() == 0:
            return ""
        argv = [str(launcher()), "-U", "--", "true"]
        done = subprocess.run(argv, check=False, capture_output=True, timeout=20)
        return "" if done.returncode == 0 else "needs root or user namespaces (chroot)"

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

    def count_syscalls(self, workload: Workload) -> int | None:
        """Run the workload under strace and return its system calls, None where that fails."""
        if shutil.which("strace") is None:
            return None
        setting = self._setting(workload, ())
        with tempfile.NamedTemporaryFile() as table:
            argv = ["strace", "-f", "-c", "-o", table.name, *launch_argv(setting, workload.argv)]
            launch(argv, Setting(env=setting.env), workload.timeout_s)
            return strace_total(Path(table.name).read_text())

    def _setting(self, workload: Workload, events: tuple[str, ...]) -> Setting:
        if os.geteuid() != 0 and (workload.uid or workload.gid):
            raise UnsupportedError("native without root runs as one user only")
        return Setting(
            user_namespace=os.geteuid() != 0,
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


def strace_total(table: str) -> int | None:
    """Return the calls in the last line of strace's summary: share, seconds, µs/call, calls."""
    found = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+)\s.*total$", table, re.MULTILINE)
    return int(found[1]) if found else None
