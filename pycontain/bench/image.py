"""The bytes every arm runs: one root directory, its digest, and the image's own settings.

Owns turning "what the user named" (an image of the store, or a directory) into a directory that
nobody writes to. Where it came from is the store's business, how an arm makes it writable is the
arm's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pycontain.errors import NotFoundError
from pycontain.vm.qemu.initramfs import walk
from pycontain.vm.qemu.toolchain import cache_dir, static_program

if TYPE_CHECKING:
    from pycontain.rootfs.snapshotter import Snapshotter

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SUITE_IMAGE = "pycontain-bench"
MACRO_IMAGE = "pycontain-bench-macro"
SUITE_SOURCE = Path(__file__).resolve().parents[2] / "images/bench/bench.c"


@dataclass(frozen=True, kw_only=True)
class BenchImage:
    """An image as a directory. `stored` is True when the store knows it under `name`."""

    name: str
    rootfs: Path
    digest: str
    env: tuple[str, ...] = (DEFAULT_PATH,)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    stored: bool = False

    def argv(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command: entry point, then `words` or the image's own command."""
        return (*self.entrypoint, *(words or self.command))


def tree_digest(root: Path) -> str:
    """Return the SHA-256 over names, types, modes, owners and contents below `root`; not times."""
    total = hashlib.sha256()
    for name, path in walk(root):
        info = os.lstat(path)
        total.update(
            f"{name}\0{info.st_mode:o} {info.st_uid} {info.st_gid} ".encode(
                errors="surrogateescape"
            )
        )
        if stat.S_ISLNK(info.st_mode):
            total.update(os.fsencode(os.readlink(path)))
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        else:
            total.update(f"{info.st_rdev}".encode())
    return total.hexdigest()


def from_directory(name: str, root: Path) -> BenchImage:
    """Return an image that is a plain directory."""
    if not root.is_dir():
        raise NotFoundError(f"no directory {root}")
    return BenchImage(name=name, rootfs=root, digest=tree_digest(root))


def from_store(name: str, data_root: str) -> BenchImage:
    """Return an image of the store, its layers merged into one directory (cached by image)."""
    from pycontain.image.store import ImageStore
    from pycontain.rootfs.snapshotter import Snapshotter

    image = ImageStore(data_root).resolve(name)
    snapshots = Snapshotter(data_root)
    if len(image.chain_ids) == 1:
        root = Path(snapshots.diff(image.chain_ids[0]))
    else:
        root = _merged(snapshots, image.id, image.chain_ids)
    config = image.config
    return BenchImage(
        name=name,
        rootfs=root,
        digest=tree_digest(root),
        env=tuple(config.get("Env") or (DEFAULT_PATH,)),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        cwd=config.get("WorkingDir") or "/",
        user=config.get("User") or "",
        stored=True,
    )


def _merged(snapshots: Snapshotter, image_id: str, chain_ids: list[str]) -> Path:
    from pycontain.rootfs import copy

    target = cache_dir() / "rootfs" / image_id.removeprefix("sha256:")
    if not target.exists():
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        unfinished.mkdir(parents=True, mode=0o700)
        try:
            copy.prepare(snapshots, str(unfinished), chain_ids)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target / "rootfs"


def suite_image() -> BenchImage:
    """Return the image of the suite: the workload of images/bench and nothing else."""
    program = static_program("bench-workload", SUITE_SOURCE)
    root = cache_dir() / "rootfs" / f"suite-{program.name}"
    if not root.exists():
        unfinished = root.with_name(f".{root.name}.{os.getpid()}")
        for directory in ("bin", "tmp", "proc", "dev", "sys", "etc"):
            (unfinished / directory).mkdir(parents=True)
        (unfinished / "tmp").chmod(0o1777)
        shutil.copy(program, unfinished / "bin/bench")
        (unfinished / "bin/bench").chmod(0o755)
        (unfinished / "etc/passwd").write_text("root:x:0:0:root:/:/bin/bench\n")
        unfinished.rename(root)
    return from_directory(SUITE_IMAGE, root)


def macro_image(programs: tuple[str, ...]) -> BenchImage:
    """Return an image of programs of this host and their libraries."""
    from pycontain.image.build import host_layer

    layer, _ = host_layer(list(programs), 0)
    digest = hashlib.sha256(layer.getbuffer()).hexdigest()[:16]
    root = cache_dir() / "rootfs" / f"macro-{digest}"
    if not root.exists():
        unfinished = root.with_name(f".{root.name}.{os.getpid()}")
        with tarfile.open(fileobj=layer) as archive:
            # Written by ourselves a moment ago; the filter still keeps everything inside.
            archive.extractall(unfinished, filter="tar")
        for directory in ("tmp", "proc", "dev", "sys"):
            (unfinished / directory).mkdir(exist_ok=True)
        (unfinished / "tmp").chmod(0o1777)
        unfinished.rename(root)
    return from_directory(MACRO_IMAGE, root)
