"""From a root directory to the files a guest boots from, cached under the digest of its content.

Owns the choice between the two ways to hand over a root: a small one is the initramfs itself, a
large one becomes a read-only block image under an overlay in the guest's memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontain.vm.qemu import accel
from pycontain.vm.qemu.command import MachineConfig, required_modules
from pycontain.vm.qemu.guest import block_type, write_block_image, write_initramfs
from pycontain.vm.qemu.initramfs import tree_bytes
from pycontain.vm.qemu.kernel import Kernel, find_kernel
from pycontain.vm.qemu.toolchain import cache_dir, guest_init

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["QEMU", "GuestFiles", "find_kernel", "prepare"]

QEMU = "qemu-system-x86_64"
INITRAMFS_MAX_BYTES = 32 << 20
"""A root in the initramfs is copied twice while booting and stays in the guest's memory."""


@dataclass(frozen=True, kw_only=True)
class GuestFiles:
    """What a guest boots from; `root_type` is "" when the initramfs is the root."""

    kernel: Kernel
    machine: str
    initramfs: Path
    block_image: Path | None
    root_type: str

    def config(
        self,
        *,
        accelerator: str,
        memory_bytes: int,
        vcpus: int = 1,
        verbose: bool = False,
        tmp_image: Path | None = None,
    ) -> MachineConfig:
        """Return the machine for these files."""
        return MachineConfig(
            kernel=self.kernel.image,
            initramfs=self.initramfs,
            block_image=self.block_image,
            tmp_image=tmp_image,
            accel=accelerator,
            machine=self.machine,
            memory_bytes=memory_bytes,
            vcpus=vcpus,
            verbose=verbose,
            tsc_khz=accel.tsc_khz(),
            qemu=QEMU,
        )


def prepare(
    rootfs: Path, digest: str, machine: str, *, kernel: str = "", tmp_disk: bool = False
) -> GuestFiles:
    """Return the files for a guest with `rootfs` (of content `digest`) as its root.

    `tmp_disk` lets it take a disk for /tmp besides.
    """
    found = find_kernel(kernel)
    size = tree_bytes(rootfs)
    kind = block_type() if size > INITRAMFS_MAX_BYTES else ""
    place = cache_dir() / "guests"
    place.mkdir(exist_ok=True, mode=0o700)
    image = place / f"{digest}.{kind}" if kind else None
    if image is not None and not image.exists():
        write_block_image(image, rootfs, kind, size)
    probe = MachineConfig(
        kernel=found.image,
        initramfs=place,
        machine=machine,
        block_image=image,
        tmp_image=place if tmp_disk else None,
    )
    modules = required_modules(probe, kind)
    initramfs = place / f"{_key(found, modules, digest if image is None else '')}.cpio"
    if not initramfs.exists():
        write_initramfs(initramfs, found, modules, rootfs if image is None else None)
    return GuestFiles(
        kernel=found, machine=machine, initramfs=initramfs, block_image=image, root_type=kind
    )


def _key(kernel: Kernel, modules: list[str], digest: str) -> str:
    words = [kernel.release, str(kernel.image.stat().st_mtime_ns), *modules, digest]
    init = guest_init().read_bytes()
    return hashlib.sha256("\0".join(words).encode() + init).hexdigest()
