"""The OCI runtimes: runc, crun, gVisor's runsc. One bundle, written once; `run` is timed.

The configuration is the one pycontain's own defaults give (same namespaces, capabilities,
system-call filter and masked paths), so that the runtimes differ and not what they were asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycontain.bench.backend import Outcome, environment, outcome_of
from pycontain.bench.bundle import oci_config
from pycontain.bench.hold import held
from pycontain.bench.launch import Setting, launch, launch_argv
from pycontain.bench.model import Kind, Workload
from pycontain.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place


class OciRuntime:
    """What the three have in common."""

    name = ""
    program = ""
    options: tuple[str, ...] = ()
    kind = Kind.MEASURED
    includes = "create, start, wait, delete; the bundle and its overlay are made before"
    repeats = True
    own_clock = False

    def __init__(self) -> None:
        self._number = count(1)
        self._written: Workload | None = None
        self._state: Path | None = None

    def probe(self) -> str:
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        return "" if os.geteuid() == 0 else "needs root (its root is mounted by the harness)"

    def prepare(self, image: BenchImage, place: Place) -> None:
        self._image = image
        self._root = place.overlay(self.name, image.rootfs)
        self._bundle = place.directory(f"{self.name}-bundle")
        self._state = place.directory(f"{self.name}-state")

    def command_line(self, workload: Workload) -> list[str]:
        return self._argv("NAME")

    def _argv(self, name: str) -> list[str]:
        state = ["--root", str(self._state)]
        return [self.program, *state, *self.options, "run", "--bundle", str(self._bundle), name]

    def run(self, workload: Workload) -> Outcome:
        if workload is not self._written:
            self._write(workload)
        argv = self._argv(f"pycontain-bench-{os.getpid()}-{next(self._number)}")
        done = launch(argv, self.setting(workload), workload.timeout_s)
        return outcome_of(done, whole_tree=True, own_clock=self.own_clock)

    def setting(self, workload: Workload) -> Setting:
        """Return what the stopwatch does before the runtime starts."""
        path = {"PATH": os.environ.get("PATH", "")}
        return Setting(cpuset=workload.limits.cpuset, env=path)

    @contextmanager
    def hold(self, workload: Workload) -> Iterator[None]:
        if workload is not self._written:
            self._write(workload)
        name = f"pycontain-bench-{os.getpid()}-{next(self._number)}"
        setting = self.setting(workload)
        argv = launch_argv(setting, self._argv(name))
        try:
            with held(argv, {**setting.env, **environment(self._image, workload)}):
                yield
        finally:
            self._delete(name)

    def _delete(self, name: str) -> None:
        # The signal that ended the runtime need not have reached the container.
        delete = [self.program, "--root", str(self._state), *self.options, "delete", "--force"]
        argv = launch_argv(self.setting(Workload(name="delete", argv=())), [*delete, name])
        subprocess.run(argv, check=False, capture_output=True, timeout=30)

    def _write(self, workload: Workload) -> None:
        config = self.adapt(oci_config(self._image, workload, self._root))
        (self._bundle / "config.json").write_text(json.dumps(config))
        self._written = workload

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration as this runtime takes it."""
        return config

    def close(self) -> None:
        """Delete whatever an interrupted run left behind."""
        if self._state is None:
            return
        for entry in self._state.iterdir() if self._state.exists() else ():
            self._delete(entry.name)


class Runc(OciRuntime):
    """runc, the reference."""

    name = program = "runc"


class Crun(OciRuntime):
    """crun. It refuses a hybrid host, so it is shown cgroup v2 alone, which has no limits."""

    name = program = "crun"

    def __init__(self) -> None:
        super().__init__()
        self._hybrid = Path("/sys/fs/cgroup/unified").is_dir()
        if self._hybrid:
            self.includes += "; cgroup v2 alone, for it refuses hybrid hosts"

    def setting(self, workload: Workload) -> Setting:
        return replace(super().setting(workload), unified_cgroups=self._hybrid)

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        if self._hybrid:
            config["linux"].pop("resources", None)
        return config

    def run(self, workload: Workload) -> Outcome:
        if self._hybrid and workload.limits.any:
            raise UnsupportedError("crun cannot apply limits on a host with hybrid cgroups")
        return super().run(workload)


class Gvisor(OciRuntime):
    """gVisor: system calls are served by a kernel in user space."""

    name, program = "gvisor", "runsc"
    own_clock = True
    options = ("--network=none", "--ignore-cgroups")
