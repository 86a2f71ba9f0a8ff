"""Which guest kernel boots, and which of its modules have to be loaded, in which order.

Owns the search for a kernel and reading its modules; fetching one is `scripts/fetch-kernel`. The
order of modules comes from the `depends=` words inside the modules themselves, so that a kernel
package needs only be unpacked: `modules.dep` exists only after its installation.
"""

from __future__ import annotations

import lzma
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from pycontain.errors import InvalidError, NotFoundError, UnsupportedError
from pycontain.vm.qemu.toolchain import cache_dir

BZIMAGE_MAGIC = b"HdrS"
SUFFIXES = (".ko", ".ko.xz", ".ko.zst")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A bootable kernel: its image, release (`uname -r`) and module directory ("" without one)."""

    image: Path
    release: str
    modules: Path | None

    @property
    def config(self) -> Path | None:
        """The kernel's configuration file, where it was shipped."""
        path = self.image.with_name(f"config-{self.release}")
        return path if path.exists() else None


def find_kernel(chosen: str = "") -> Kernel:
    """Return `chosen` (an image, or a directory a kernel was unpacked into) or the fetched one.

    Looked at in turn: $PYCONTAIN_KERNEL, the cache `scripts/fetch-kernel` fills, /boot. Raises
    NotFoundError, whose hint says how to get one.
    """
    wanted = chosen or os.environ.get("PYCONTAIN_KERNEL", "")
    if wanted:
        return _at(Path(wanted))
    for place in (cache_dir() / "kernel", Path("/")):
        images = _images(place)
        if images:
            return _describe(images[-1])
    raise NotFoundError(
        "no guest kernel here", hint="run scripts/fetch-kernel, or name one by --kernel"
    )


def _at(path: Path) -> Kernel:
    if path.is_dir():
        images = _images(path)
        if not images:
            raise NotFoundError(f"no boot/vmlinuz-* below {path}")
        return _describe(images[-1])
    if not path.exists():
        raise NotFoundError(f"no kernel at {path}")
    return _describe(path)


def _images(place: Path) -> list[Path]:
    # A cloud kernel boots in a third of the time of the full one, so it goes last, which wins.
    found = [path for path in (place / "boot").glob("vmlinuz-*") if path.is_file()]
    return sorted(found, key=lambda path: ("cloud" in path.name, path.name))


def _describe(image: Path) -> Kernel:
    release = bzimage_release(image)
    roots = (image.parent.parent / "lib/modules", Path("/lib/modules"))
    modules = next((root / release for root in roots if (root / release).is_dir()), None)
    return Kernel(image=image, release=release, modules=modules)


def bzimage_release(image: Path) -> str:
    """Return the release in a bzImage's header (Documentation/x86/boot.rst: kernel_version).

    An uncompressed vmlinux has no such header; its release is then taken from the file's name.
    """
    with open(image, "rb") as file:
        head = file.read(0x10000)
    if head[0x202:0x206] != BZIMAGE_MAGIC and head[:4] != b"\x7fELF":
        raise InvalidError(f"{image} is neither a bzImage nor an ELF kernel")
    if head[:4] == b"\x7fELF":
        return image.name.partition("-")[2] or "unknown"
    start = int(struct.unpack_from("<H", head, 0x20E)[0]) + 0x200
    words = head[start : start + 128].split(b"\0", 1)[0].split()
    return words[0].decode("ascii", "replace") if words else "unknown"


def module_list(kernel: Kernel, wanted: list[str]) -> list[tuple[str, bytes]]:
    """Return (name, uncompressed content) of `wanted` and what they need, dependencies first.

    A module that is built into the kernel is skipped; one that is neither raises UnsupportedError.
    """
    if kernel.modules is None:
        return []
    index = _index(kernel.modules)
    builtin = _builtin(kernel.modules)
    order: dict[str, bytes] = {}
    for name in wanted:
        _visit(name, index, builtin, order, ())
    return list(order.items())


def _visit(
    name: str,
    index: dict[str, Path],
    builtin: set[str],
    order: dict[str, bytes],
    above: tuple[str, ...],
) -> None:
    if name in order or name in builtin or name in above:
        return
    if name not in index:
        raise UnsupportedError(f"the guest kernel has no module {name}")
    content = _content(index[name])
    for needed in depends(content):
        _visit(needed, index, builtin, order, (*above, name))
    order[name] = content


def depends(module: bytes) -> list[str]:
    """Return the names in the `depends=` word of a module's .modinfo section."""
    at = module.find(b"\0depends=")
    if at < 0:
        return []
    start = at + len(b"\0depends=")
    words = module[start : module.index(b"\0", start)].decode("ascii", "replace")
    return [_plain(word) for word in words.split(",") if word]


def _index(modules: Path) -> dict[str, Path]:
    found = {}
    for path in (modules / "kernel").rglob("*.ko*"):
        name, dot, _ = path.name.partition(".ko")
        if dot and path.name.endswith(SUFFIXES):
            found[_plain(name)] = path
    return found


def _builtin(modules: Path) -> set[str]:
    try:
        lines = (modules / "modules.builtin").read_text().splitlines()
    except FileNotFoundError:
        return set()
    return {_plain(line.rpartition("/")[2].removesuffix(".ko")) for line in lines}


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return _decompress_zstd(path, data)
    return data


def _decompress_zstd(path: Path, data: bytes) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise UnsupportedError(
            f"{path} is compressed with zstd", hint="pip install zstandard"
        ) from error
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
