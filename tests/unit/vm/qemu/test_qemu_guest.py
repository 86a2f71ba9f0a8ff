"""The command as a message, kernels and modules, the accelerator."""

from __future__ import annotations

import lzma
import struct

import pytest

from pycontain.errors import InvalidError, NotFoundError, UnsupportedError, UsageError
from pycontain.vm.qemu import accel
from pycontain.vm.qemu.guest import GuestCommand
from pycontain.vm.qemu.kernel import Kernel, bzimage_release, depends, find_kernel, module_list


def fields(command: GuestCommand, root_type: str = "") -> list[bytes]:
    frame = command.message(root_type)
    (length,) = struct.unpack("<I", frame[:4])
    assert length == len(frame) - 4
    assert frame.endswith(b"\0")
    return frame[4:-1].split(b"\0")


def test_words_keep_their_order_and_bytes():
    command = GuestCommand(argv=("sh", "-c", "echo ü\n"), env=("A=", "B=c=d"), uid=7, gid=8)
    found = fields(command)
    assert found[:3] == [b"arg=sh", b"arg=-c", "arg=echo ü\n".encode()]
    assert found[3:5] == [b"env=A=", b"env=B=c=d"]
    assert b"uid=7" in found and b"gid=8" in found


def test_an_empty_argument_is_an_argument():
    assert fields(GuestCommand(argv=("x", "")))[:2] == [b"arg=x", b"arg="]


def test_a_byte_that_is_no_utf_8_passes():
    assert fields(GuestCommand(argv=("a\udcff",)))[0] == b"arg=a\xff"


def test_the_root_type_comes_first():
    assert fields(GuestCommand(argv=("x",)), "ext4")[0] == b"root=ext4"


@pytest.mark.parametrize(
    "command",
    [
        GuestCommand(argv=()),
        GuestCommand(argv=("a\0b",)),
        GuestCommand(argv=("x" * (2 << 20),)),
        GuestCommand(argv=("x",) * 9000),
        GuestCommand(argv=("x",), groups=tuple(range(65))),
    ],
)
def test_what_the_guest_could_not_take_is_invalid(command):
    with pytest.raises(InvalidError):
        command.message()


def module(needs: str) -> bytes:
    return b"\x7fELF....\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0"


@pytest.fixture
def modules(tmp_path):
    directory = tmp_path / "lib/modules/1.2/kernel/drivers"
    directory.mkdir(parents=True)
    (directory / "virtio.ko").write_bytes(module("virtio_ring"))
    (directory / "virtio_ring.ko.xz").write_bytes(lzma.compress(module("")))
    (directory / "virtio-pci.ko").write_bytes(module("virtio,virtio_ring,pci_core"))
    builtin = tmp_path / "lib/modules/1.2/modules.builtin"
    builtin.write_text("kernel/drivers/pci-core.ko\nkernel/fs/ext4.ko\n")
    return Kernel(image=tmp_path / "k", release="1.2", modules=tmp_path / "lib/modules/1.2")


def test_modules_come_after_what_they_need(modules):
    names = [name for name, _ in module_list(modules, ["virtio_pci", "ext4"])]
    assert names == ["virtio_ring", "virtio", "virtio_pci"]


def test_a_compressed_module_is_unpacked(modules):
    content = dict(module_list(modules, ["virtio_ring"]))["virtio_ring"]
    assert content.startswith(b"\x7fELF")


def test_a_module_the_kernel_has_not_is_named(modules):
    with pytest.raises(UnsupportedError, match="floppy"):
        module_list(modules, ["floppy"])


def test_modules_that_need_each_other_end(modules):
    directory = modules.modules / "kernel/drivers"
    (directory / "a.ko").write_bytes(module("b"))
    (directory / "b.ko").write_bytes(module("a"))
    assert {name for name, _ in module_list(modules, ["a"])} == {"a", "b"}


@pytest.mark.parametrize(("needs", "expected"), [("", []), ("a", ["a"]), ("a-b,c", ["a_b", "c"])])
def test_the_needs_of_a_module_are_read_from_it(needs, expected):
    assert depends(module(needs)) == expected


def bzimage(release: bytes) -> bytes:
    head = bytearray(0x4000)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = struct.pack("<H", 0x1000)
    head[0x1200 : 0x1200 + len(release)] = release
    return bytes(head)


def test_the_release_is_read_from_the_kernel(tmp_path):
    (tmp_path / "k").write_bytes(bzimage(b"6.1.0-9-cloud (builder@host) #1 SMP"))
    assert bzimage_release(tmp_path / "k") == "6.1.0-9-cloud"


def test_a_file_that_is_no_kernel_is_invalid(tmp_path):
    (tmp_path / "k").write_bytes(b"#!/bin/sh\n" * 100)
    with pytest.raises(InvalidError):
        bzimage_release(tmp_path / "k")


def test_a_cloud_kernel_is_preferred(tmp_path):
    (tmp_path / "boot").mkdir()
    for name in ("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-8-cloud-amd64"):
        release = name.removeprefix("vmlinuz-").encode()
        (tmp_path / "boot" / name).write_bytes(bzimage(release))
    assert find_kernel(str(tmp_path)).release == "6.1.0-8-cloud-amd64"


def test_no_kernel_is_said_with_the_cure(tmp_path):
    with pytest.raises(NotFoundError):
        find_kernel(str(tmp_path / "gone"))
    with pytest.raises(NotFoundError):
        find_kernel(str(tmp_path))


def cpu(tmp_path, flags: str):
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\ncpu MHz\t\t: 2596.146\nflags\t\t: {flags}\n"
    )
    return tmp_path / "cpuinfo"


def test_kvm_without_hardware_is_software(tmp_path):
    (tmp_path / "kvm").touch()
    assert "software" in accel.kvm_reason(tmp_path / "kvm", cpu(tmp_path, "fpu sse hypervisor"))


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_kvm_with_hardware_is_taken(tmp_path, flag):
    (tmp_path / "kvm").touch()
    assert accel.kvm_reason(tmp_path / "kvm", cpu(tmp_path, f"fpu {flag} sse")) == ""


def test_no_kvm_is_a_reason(tmp_path):
    assert "no " in accel.kvm_reason(tmp_path / "kvm", cpu(tmp_path, "vmx"))


def test_an_unknown_accelerator_is_refused():
    with pytest.raises(UsageError):
        accel.choose("xen")
    assert accel.choose("tcg") == ("tcg", "")


def test_the_clock_rate_is_read(tmp_path):
    assert accel.tsc_khz(cpu(tmp_path, "x")) == 2_596_146
