"""The command line of QEMU, as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontain.errors import UsageError
from pycontain.vm.qemu.command import (
    PORTS,
    Channels,
    MachineConfig,
    kernel_arguments,
    qemu_argv,
    required_modules,
    tmp_device,
)

CHANNELS = Channels(console=3, qmp=4, ports=(5, 6, 7, 8))


def config(**changes: object) -> MachineConfig:
    values: dict[str, object] = {"kernel": Path("/k"), "initramfs": Path("/i")}
    return MachineConfig(**{**values, **changes})  # type: ignore[arg-type]


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_nothing_of_the_hosts_configuration_enters():
    argv = qemu_argv(config(), CHANNELS)
    assert "-nodefaults" in argv and "-no-user-config" in argv
    assert not any("-net" in word for word in argv)


def test_a_reset_ends_qemu():
    argv = qemu_argv(config(), CHANNELS)
    assert "-no-reboot" in argv
    assert "panic=-1" in after(argv, "-append")


def test_qemu_itself_is_confined():
    assert after(qemu_argv(config(), CHANNELS), "-sandbox").startswith("on,")


def test_every_port_has_its_socket_and_number():
    argv = qemu_argv(config(), CHANNELS)
    for number, name in enumerate(PORTS, start=1):
        assert f"socket,id={name},fd={4 + number}" in argv
        assert f"virtserialport,chardev={name},nr={number},name=org.pycontain.{name}" in argv


def test_a_microvm_has_no_pci():
    argv = qemu_argv(config(machine="microvm", block_image=Path("/b")), CHANNELS)
    assert "virtio-serial-device,id=ports" in argv
    assert not any("-pci" in word for word in argv)


@pytest.mark.parametrize(
    ("machine", "accel", "expected"),
    [("microvm", "tcg", True), ("microvm", "kvm", False), ("q35", "tcg", False)],
)
def test_only_a_microvm_under_tcg_gets_its_clock_told(machine, accel, expected):
    words = kernel_arguments(config(machine=machine, accel=accel, tsc_khz=2_596_146))
    assert ("tsc_early_khz=2596146 lpj=10384584" in words) is expected


def test_a_comma_in_a_file_name_is_doubled():
    argv = qemu_argv(config(block_image=Path("/a,b")), CHANNELS)
    assert after(argv, "-drive").endswith("file=/a,,b")
    assert "readonly=on" in after(argv, "-drive")


def test_memory_and_vcpus_are_passed_on():
    argv = qemu_argv(config(memory_bytes=512 << 20, vcpus=2), CHANNELS)
    assert after(argv, "-m") == "size=512M" and after(argv, "-smp") == "2"


def test_a_disk_for_tmp_follows_the_root_and_may_be_written():
    both = config(block_image=Path("/root.ext4"), tmp_image=Path("/tmp.ext4"))
    drives = [word for word in qemu_argv(both, CHANNELS) if word.startswith("if=none")]
    assert "readonly=on" in drives[0] and "readonly=off,file=/tmp.ext4" in drives[1]
    assert tmp_device(both) == "/dev/vdb"
    alone = config(tmp_image=Path("/tmp.ext4"))
    assert tmp_device(alone) == "/dev/vda" and tmp_device(config()) == ""
    assert required_modules(alone)[2:] == ["virtio_blk", "ext4"]
    assert required_modules(both, "ext4")[2:] == ["virtio_blk", "ext4", "overlay"]


def test_only_a_block_root_needs_its_modules():
    assert required_modules(config()) == ["virtio_pci", "virtio_console"]
    block = required_modules(config(block_image=Path("/b")), "ext4")
    assert block[2:] == ["virtio_blk", "ext4", "overlay"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"machine": "vax"},
        {"accel": "xen"},
        {"memory_bytes": 16 << 20},
        {"vcpus": 0},
        {"vcpus": 256},
    ],
)
def test_what_cannot_boot_is_refused_before_it_is_tried(wrong):
    with pytest.raises(UsageError):
        config(**wrong)


def test_the_kernel_is_quiet_unless_asked():
    assert "quiet" in kernel_arguments(config())
    assert "earlyprintk" in kernel_arguments(config(verbose=True))
