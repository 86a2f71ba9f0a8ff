"""What the guest gets: its command as a message, its files as an initramfs or a block image.

Owns the host's half of the protocol drawn in native/guest_init.c and the files QEMU boots from.
Archives and images of a rootfs are cached under the digest the caller gives; the command is not
part of them, it goes through the control port.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from pycontain.errors import InvalidError, UnsupportedError
from pycontain.vm.qemu.initramfs import CpioWriter
from pycontain.vm.qemu.kernel import Kernel, module_list
from pycontain.vm.qemu.toolchain import guest_init

if TYPE_CHECKING:
    from pathlib import Path

MAX_MESSAGE_BYTES = 1 << 20
MAX_WORDS = 8192
MAX_GROUPS = 64
IMAGE_TIMEOUT_S = 300
PRIVATE = ".pycontain"


@dataclass(frozen=True, kw_only=True)
class GuestCommand:
    """The command of a guest: what the guest init needs to run it."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    hostname: str = "guest"
    stdin: bool = False
    tmp_disk: str = ""
    """Device of an ext4 disk for /tmp; the root's own directory where empty."""

    def message(self, root_type: str = "") -> bytes:
        """Return the frame for the control port; InvalidError when the guest could not take it."""
        fields = [*_fields(self, root_type)]
        if any("\0" in field for field in fields):
            raise InvalidError("the command holds a NUL byte")
        body = b"".join(os.fsencode(field) + b"\0" for field in fields)
        words = max(len(self.argv), len(self.env))
        if not self.argv or len(body) > MAX_MESSAGE_BYTES or words > MAX_WORDS:
            raise InvalidError("the command is empty or over 1 MiB or 8192 words")
        if len(self.groups) > MAX_GROUPS:
            raise InvalidError(
                f"{len(self.groups)} supplementary groups", hint=f"at most {MAX_GROUPS}"
            )
        return struct.pack("<I", len(body)) + body


def _fields(command: GuestCommand, root_type: str) -> list[str]:
    fields = [f"root={root_type}"] if root_type else []
    fields += [f"tmp={command.tmp_disk}"] if command.tmp_disk else []
    fields += [f"arg={word}" for word in command.argv]
    fields += [f"env={word}" for word in command.env]
    fields += [f"group={gid}" for gid in command.groups]
    fields += [f"cwd={command.cwd or '/'}", f"uid={command.uid}", f"gid={command.gid}"]
    fields += [f"hostname={command.hostname}"] + (["stdin=1"] if command.stdin else [])
    return fields


def write_initramfs(target: Path, kernel: Kernel, modules: list[str], rootfs: Path | None) -> None:
    """Write the archive a guest boots from; with `rootfs`, it is the root file system as well.

    `target` appears by rename.
    """
    contents = module_list(kernel, modules)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".cpio-") as file:
        writer = CpioWriter(cast("BinaryIO", file))
        if rootfs is not None:
            writer.tree(rootfs)
        _write_private(writer, contents, has_dev=_has_dev(rootfs))
        writer.close()
        file.flush()
        os.chmod(file.name, 0o644)
        os.link(file.name, f"{file.name}.done")
        os.rename(f"{file.name}.done", target)


def _has_dev(rootfs: Path | None) -> bool:
    return rootfs is not None and (rootfs / "dev").is_dir() and not (rootfs / "dev").is_symlink()


def _write_private(writer: CpioWriter, modules: list[tuple[str, bytes]], *, has_dev: bool) -> None:
    if not has_dev:
        writer.directory("dev")
    # Without a console node the kernel starts init with no descriptors at all.
    writer.character_device("dev/console", 5, 1)
    writer.directory(PRIVATE, 0o700)
    writer.file(f"{PRIVATE}/init", guest_init().read_bytes(), 0o755)
    writer.directory(f"{PRIVATE}/modules")
    for number, (_, content) in enumerate(modules):
        writer.file(f"{PRIVATE}/modules/{number:02d}", content)


def block_type() -> str:
    """Return the file system of block images: ext4, built into every kernel, else erofs."""
    for program, kind in (("mkfs.ext4", "ext4"), ("mkfs.erofs", "erofs")):
        if _program(program):
            return kind
    raise UnsupportedError("no mkfs.ext4 or mkfs.erofs", hint="install e2fsprogs")


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def write_block_image(target: Path, rootfs: Path, kind: str, content_bytes: int) -> None:
    """Write a read-only file system image of `rootfs`; `target` appears by rename."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    program = _program(f"mkfs.{kind}")
    if program is None:
        raise UnsupportedError(f"no mkfs.{kind} here")
    if kind == "ext4":
        # A quarter for metadata and the slack of small files, 32 MiB for what is there anyway.
        size_kib = (content_bytes + content_bytes // 4 + (32 << 20)) >> 10
        options = ["-q", "-F", "-O", "^has_journal", "-m", "0", "-d", str(rootfs)]
        argv = [program, *options, str(unfinished), f"{size_kib}k"]
    else:
        argv = [program, "--quiet", str(unfinished), str(rootfs)]
    try:
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, timeout=IMAGE_TIMEOUT_S
        )
        if done.returncode != 0:
            raise UnsupportedError(f"make a block image: {_last_line(done.stderr)}")
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)


def write_empty_disk(target: Path, size_bytes: int) -> None:
    """Write an empty ext4 disk, anew each time: what a run left in it is gone."""
    program = _program("mkfs.ext4")
    if program is None:
        raise UnsupportedError("no mkfs.ext4", hint="install e2fsprogs")
    target.unlink(missing_ok=True)
    argv = [program, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,root_owner=0:0"]
    argv += [str(target), f"{size_bytes >> 10}k"]
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, timeout=IMAGE_TIMEOUT_S
    )
    if done.returncode != 0:
        raise UnsupportedError(f"make a disk: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
