"""What is asked of QEMU, as data, and its command line: pure functions.

Owns the choice of machine, accelerator, devices and kernel arguments. Starting the process is
`machine`'s work, looking at the host's /dev/kvm is `accel`'s.

Machines: `q35` and `pc` are PCs with SeaBIOS; `microvm` has no PCI and no firmware to speak of.
Under TCG a microvm hangs at random while it calibrates its clock (no reference timer), most often
on a loaded host; handing it the TSC rate and loops-per-jiffy avoids the calibration altogether.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontain.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MACHINES = ("q35", "pc", "microvm")
ACCELERATORS = ("kvm", "tcg")
GUEST_HZ = 250
MIN_MEMORY_BYTES = 80 << 20
"""Below this the kernel of a distribution dies while unpacking itself, without a word."""
PORTS = ("control", "stdout", "stderr", "stdin")


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """One guest. `block_image` is a file system image for /dev/vda, `block_type` its type.

    `tmp_image` is a writable ext4 image, the disk after it (or the first), for /tmp.
    `tsc_khz` is only read for a microvm under TCG. `verbose` makes the kernel print every line,
    which costs boot time: one exit for each character.
    """

    kernel: Path
    initramfs: Path
    accel: str = "tcg"
    machine: str = "q35"
    memory_bytes: int = 256 << 20
    vcpus: int = 1
    cpu: str = ""
    block_image: Path | None = None
    tmp_image: Path | None = None
    tsc_khz: int = 0
    verbose: bool = False
    qemu: str = "qemu-system-x86_64"

    def __post_init__(self) -> None:
        if self.machine not in MACHINES:
            raise UsageError(
                f"unknown machine {self.machine}", hint=f"one of {', '.join(MACHINES)}"
            )
        if self.accel not in ACCELERATORS:
            raise UsageError(f"unknown accelerator {self.accel}", hint="kvm or tcg")
        if self.memory_bytes < MIN_MEMORY_BYTES:
            raise UsageError(
                f"a guest of {self.memory_bytes} bytes cannot boot", hint="at least 80m"
            )
        if not 1 <= self.vcpus <= 255:
            raise UsageError(f"{self.vcpus} vCPUs", hint="from 1 to 255")


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Descriptors QEMU inherits: one end of a socket pair each."""

    console: int
    qmp: int
    ports: tuple[int, int, int, int]

    def all(self) -> tuple[int, ...]:
        """Return every descriptor, for the process that inherits them."""
        return (self.console, self.qmp, *self.ports)


def qemu_argv(config: MachineConfig, channels: Channels) -> list[str]:
    """Return the whole command line."""
    return [
        config.qemu,
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
        *(
            "-machine",
            machine_property(config),
            "-accel",
            config.accel,
            "-cpu",
            cpu_model(config),
        ),
        *("-m", f"size={config.memory_bytes >> 20}M", "-smp", str(config.vcpus)),
        *("-kernel", str(config.kernel), "-initrd", str(config.initramfs)),
        *("-append", kernel_arguments(config)),
        *_channel_arguments(config, channels),
        *_block_arguments(config),
    ]


def machine_property(config: MachineConfig) -> str:
    """Return the value of -machine; everything a headless guest never touches is off."""
    if config.machine == "microvm":
        return "microvm,acpi=on,x-option-roms=off,isa-serial=on"
    return f"{config.machine},graphics=off,usb=off,vmport=off"


def cpu_model(config: MachineConfig) -> str:
    """Return the CPU: the host's under KVM, everything TCG can emulate otherwise."""
    return config.cpu or ("host" if config.accel == "kvm" else "max")


def kernel_arguments(config: MachineConfig) -> str:
    """Return the kernel's command line; reboot=t, a triple fault, resets every machine."""
    words = [
        "console=ttyS0",
        "rdinit=/.pycontain/init",
        "reboot=t",
        "panic=-1",
        "random.trust_cpu=on",
    ]
    words += ["earlyprintk=ttyS0", "loglevel=7"] if config.verbose else ["quiet", "loglevel=4"]
    if config.machine == "microvm" and config.accel == "tcg" and config.tsc_khz:
        words.append(f"tsc_early_khz={config.tsc_khz}")
        words.append(f"lpj={config.tsc_khz * 1000 // GUEST_HZ}")
    return " ".join(words)


def required_modules(config: MachineConfig, block_type: str = "") -> list[str]:
    """Return the kernel modules the guest init has to load, in the order they are wanted."""
    modules = [
        "virtio_mmio" if config.machine == "microvm" else "virtio_pci",
        "virtio_console",
    ]
    if config.block_image is not None:
        modules += ["virtio_blk", block_type, "overlay"]
    if config.tmp_image is not None:
        modules += ["virtio_blk", "ext4"]
    return list(dict.fromkeys(modules))


def tmp_device(config: MachineConfig) -> str:
    """Return the guest's name of the disk for /tmp, "" where there is none."""
    if config.tmp_image is None:
        return ""
    return "/dev/vdb" if config.block_image is not None else "/dev/vda"


def _bus(config: MachineConfig, device: str) -> str:
    return f"{device}-device" if config.machine == "microvm" else f"{device}-pci"


def _channel_arguments(config: MachineConfig, channels: Channels) -> list[str]:
    argv = [*_socket("console", channels.console), "-serial", "chardev:console"]
    argv += [*_socket("qmp", channels.qmp), "-mon", "chardev=qmp,mode=control"]
    argv += ["-device", f"{_bus(config, 'virtio-serial')},id=ports"]
    for number, (name, fd) in enumerate(zip(PORTS, channels.ports, strict=True), start=1):
        device = f"virtserialport,chardev={name},nr={number},name=org.pycontain.{name}"
        argv += [*_socket(name, fd), "-device", device]
    return argv


def _socket(name: str, fd: int) -> list[str]:
    return ["-chardev", f"socket,id={name},fd={fd}"]


def _block_arguments(config: MachineConfig) -> list[str]:
    argv = []
    disks = (("root", config.block_image, "readonly=on"), ("tmp", config.tmp_image, "readonly=off"))
    for name, image, access in disks:
        if image is not None:
            # A comma in a file name is doubled in QEMU's option syntax. The default cache hands
            # the guest's flushes on to the host's file.
            path = str(image).replace(",", ",,")
            argv += ["-drive", f"if=none,id={name},format=raw,{access},file={path}"]
            argv += ["-device", f"{_bus(config, 'virtio-blk')},drive={name}"]
    return argv
