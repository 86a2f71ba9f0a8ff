"""pycontain itself: the installed command, as a user starts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pycontain.bench.backend import Outcome, environment, outcome_of
from pycontain.bench.backends.engines import limit_options, volume, volume_options
from pycontain.bench.hold import held
from pycontain.bench.launch import Setting, launch
from pycontain.bench.model import Kind, Workload
from pycontain.errors import UnsupportedError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place


class Pycontain:
    """The pycontain arm: one process, no daemon."""

    name = "pycontain"
    kind = Kind.MEASURED
    includes = "interpreter, image lookup, layer, container, removal"
    repeats = True

    def __init__(self, data_root: str) -> None:
        self._data_root = data_root

    def probe(self) -> str:
        return "" if _program() else "the pycontain command is not installed"

    def prepare(self, image: BenchImage, place: Place) -> None:
        self._image = image
        self._volume = volume(place, self.name)
        self._roots = ["--root", self._data_root]
        self._name = image.name
        if not image.stored:
            self._import(image, place)

    def _import(self, image: BenchImage, place: Place) -> None:
        from pycontain.engine.unpack import import_rootfs

        data_root = str(place.directory("pycontain-data"))
        self._roots = ["--root", data_root]
        archive = place.path / "rootfs.tar"
        tar = ["tar", "-C", str(image.rootfs), "--numeric-owner", "-cf", str(archive), "."]
        subprocess.run(tar, check=True)
        import_rootfs(data_root, str(archive), image.name)
        archive.unlink()

    @property
    def base(self) -> list[str]:
        """The command line up to the verb."""
        return [*_program(), *self._roots]

    @property
    def image_name(self) -> str:
        """The name the image has in the store used."""
        return self._name

    def command_line(self, workload: Workload) -> list[str]:
        env = [
            word
            for key, value in environment(self._image, workload).items()
            for word in ("--env", f"{key}={value}")
        ]
        return [
            *(*self.base, "run", "--rm", *limit_options(workload.limits)),
            *volume_options(self._volume, workload),
            *("--user", f"{workload.uid}:{workload.gid}", "--workdir", workload.cwd),
            *("--entrypoint", workload.argv[0], *env, self._name, *workload.argv[1:]),
        ]

    def run(self, workload: Workload) -> Outcome:
        setting = Setting(
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        )
        done = launch(self.command_line(workload), setting, workload.timeout_s)
        if done.status == 125:
            raise UnsupportedError(done.stderr.decode("utf-8", "replace").strip()[-200:])
        return outcome_of(done, whole_tree=True)

    def hold(self, workload: Workload) -> AbstractContextManager[None]:
        return held(self.command_line(workload), os.environ)

    def close(self) -> None:
        """Nothing is left behind: --rm removes the container, the place its store."""


def _program() -> list[str]:
    beside = Path(sys.executable).with_name("pycontain")
    found = str(beside) if beside.exists() else shutil.which("pycontain")
    return [found] if found else []
