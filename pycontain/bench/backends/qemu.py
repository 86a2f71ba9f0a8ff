"""A real guest under QEMU: KVM where it is hardware, else TCG, which is emulation.

Measured is a whole start: QEMU, firmware, kernel, init, the command, and QEMU's end. Making the
initramfs or block image is preparation, as loading an image is elsewhere.
"""

from __future__ import annotations

import math
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pycontain.bench.backend import FIRST_INSTRUCTION, Outcome, environment, split_figures
from pycontain.bench.memory import pss_bytes
from pycontain.bench.model import Kind, Metric, Workload
from pycontain.errors import PycontainError
from pycontain.vm.qemu import accel, boot
from pycontain.vm.qemu.command import Channels, MachineConfig, qemu_argv, tmp_device
from pycontain.vm.qemu.guest import GuestCommand, write_empty_disk
from pycontain.vm.qemu.machine import GuestRun, Machine, run_guest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place

DEFAULT_MEMORY_BYTES = 256 << 20
DISK_BYTES = 64 << 20
STAGES = ("vmm", "firmware", "init", "ports", "command", "exited", "gone")


class _ReadyError(Exception):
    """Leaves the loop of a machine that is to go on: the workload has begun."""


class Qemu:
    """The qemu arm: `qemu` is a PC (q35), `qemu-microvm` has neither firmware nor PCI."""

    repeats = True
    includes = "QEMU, firmware, kernel, guest init, power-off; the initramfs is made before"

    def __init__(self, machine: str = "q35", accelerator: str = "auto") -> None:
        self.name = "qemu" if machine == "q35" else f"qemu-{machine}"
        self._machine = machine
        self._accel, self._warning = accel.choose(accelerator)
        self.kind = Kind.EMULATED if self._accel == "tcg" else Kind.MEASURED

    def probe(self) -> str:
        if shutil.which(boot.QEMU) is None:
            return f"{boot.QEMU} is not installed"
        try:
            boot.find_kernel()
        except PycontainError as error:
            return str(error)
        return ""

    def prepare(self, image: BenchImage, place: Place) -> None:
        self._image = image
        self._disk = place.directory(f"{self.name}-disk") / "tmp.ext4"
        self._files = boot.prepare(image.rootfs, image.digest, self._machine)
        self._disk_files = self._files

    def _config(self, workload: Workload) -> MachineConfig:
        limits = workload.limits
        return self._files_for(workload).config(
            accelerator=self._accel,
            memory_bytes=limits.memory_bytes or DEFAULT_MEMORY_BYTES,
            vcpus=max(1, math.ceil(limits.cpus or 1)),
            tmp_image=self._disk if workload.durable else None,
        )

    def _files_for(self, workload: Workload) -> boot.GuestFiles:
        """Return what the guest boots from: for a disk it needs a driver more."""
        if workload.durable and self._disk_files is self._files:
            image = self._image
            self._disk_files = boot.prepare(
                image.rootfs, image.digest, self._machine, tmp_disk=True
            )
        return self._disk_files if workload.durable else self._files

    def _command(self, config: MachineConfig, workload: Workload) -> GuestCommand:
        """Return the guest's command; a durable one gets an empty disk at /tmp."""
        if workload.durable:
            write_empty_disk(self._disk, DISK_BYTES)
        return replace(_command(self._image, workload), tmp_disk=tmp_device(config))

    def command_line(self, workload: Workload) -> list[str]:
        return qemu_argv(self._config(workload), Channels(console=3, qmp=4, ports=(5, 6, 7, 8)))

    def run(self, workload: Workload) -> Outcome:
        out, err = bytearray(), bytearray()
        memory: list[int] = []

        def on_mark(name: str, pid: int) -> None:
            if name == "exited":
                memory.append(pss_bytes([pid]))

        config = self._config(workload)
        result = run_guest(
            config,
            self._command(config, workload),
            root_type=self._files.root_type,
            stdout=out.extend,
            stderr=err.extend,
            on_mark=on_mark,
            timeout_s=workload.timeout_s,
        )
        figures, output = split_figures(bytes(out))
        figures.pop(FIRST_INSTRUCTION, None)
        return Outcome(
            status=result.status,
            metrics={**_metrics(result), **_memory(memory), **figures},
            output=output,
            errors=bytes(err),
            retries=result.retries,
            note=self._warning,
            dimensions={"accel": self._accel, "machine": self._machine},
        )

    @contextmanager
    def hold(self, workload: Workload) -> Iterator[None]:
        def ready(data: bytes) -> None:
            raise _ReadyError

        config = self._config(workload)
        with Machine(config) as machine:
            try:
                machine.run(
                    self._command(config, workload),
                    root_type=self._files.root_type,
                    stdout=ready,
                    stderr=lambda data: None,
                )
            except _ReadyError:
                yield

    def close(self) -> None:
        """Nothing is left behind: a machine ends with its run, its files are a cache."""


def _command(image: BenchImage, workload: Workload) -> GuestCommand:
    env = environment(image, workload)
    return GuestCommand(
        argv=workload.argv,
        env=tuple(f"{key}={value}" for key, value in env.items()),
        cwd=workload.cwd,
        uid=workload.uid,
        gid=workload.gid,
    )


def _metrics(result: GuestRun) -> dict[str, Metric]:
    metrics = {f"stage_{mark.name}": Metric(value=mark.at_s, unit="s") for mark in result.marks[1:]}
    gone, command, exited = (result.at(name) for name in ("gone", "command", "exited"))
    if gone is not None:
        metrics["wall"] = Metric(value=gone, unit="s")
    if command is not None and exited is not None and gone is not None:
        metrics["to_command"] = Metric(value=command, unit="s")
        metrics["after_command"] = Metric(value=gone - command, unit="s")
        metrics["command"] = Metric(value=exited - command, unit="s")
    return metrics


def _memory(pss: list[int]) -> dict[str, Metric]:
    return {"pss": Metric(value=pss[0], unit="B")} if pss and pss[0] else {}
