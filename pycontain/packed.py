"""The package's modules in one file, so that a start reads one file instead of eighty.

`setup.py` packs them, the launcher scripts call `install`. Each module is compiled without
docstrings and found by a finder in front of the import system's own. In a checkout a module that
was edited since, told by time and size, is imported from its source as ever; so is every module
when the file is missing or was written by another Python.

    magic (4)  interpreter's magic number (4)  length of the index (4)  index  code objects
    index      marshalled: name -> (offset, length, mtime_ns or -1, size, is a package)
"""

from __future__ import annotations

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

MAGIC = b"pcpk"
PLACE = "pycontain/native/bin/packed"
HEAD = 12
HOT = (
    "pycontain.cli.entry",
    "pycontain.cli.containers",
    "pycontain.cli.oci",
    "pycontain.runtime.container",
)
"""What is packed: these modules and all that importing them imports."""


class Finder:
    """Finds and executes packed modules; `root` is the directory that holds the package."""

    __slots__ = ("data", "index", "root")

    def __init__(
        self, root: str, data: memoryview, index: dict[str, tuple[int, int, int, int, bool]]
    ) -> None:
        self.root = root
        self.data = data
        self.index = index

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a packed module that is as it was; None leaves it to the others."""
        entry = self.index.get(name)
        if entry is None:
            return None
        _, _, mtime_ns, size, package = entry
        stem = f"{self.root}/{name.replace('.', '/')}"
        file = stem + ("/__init__.py" if package else ".py")
        if mtime_ns >= 0:
            try:
                status = posix.stat(file)
            except OSError:
                return None
            if (status.st_mtime_ns, status.st_size) != (mtime_ns, size):
                return None
        spec = ModuleSpec(name, self, origin=file, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [stem]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave making the module to the import system."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module's code in it."""
        offset, length, _, _, _ = self.index[module.__name__]
        exec(marshal.loads(self.data[offset : offset + length]), module.__dict__)


def install(root: str) -> None:
    """Put the finder for the package below `root` in front, if there is a file that fits."""
    try:
        fd = posix.open(f"{root}/{PLACE}", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return
    try:
        data = memoryview(posix.read(fd, posix.fstat(fd).st_size))
    finally:
        posix.close(fd)
    if data[:8] != MAGIC + MAGIC_NUMBER:
        return
    end = HEAD + int.from_bytes(data[8:HEAD], "little")
    sys.meta_path.insert(0, Finder(root, data[end:], marshal.loads(data[HEAD:end])))


def pack(root: str, target: str, *, checked: bool) -> None:
    """Write the packed modules of the package below `root` to `target`.

    With `checked` an edited source wins over what was packed (a checkout); without, sources are
    not looked at (an installation).
    """
    index: dict[str, tuple[int, int, int, int, bool]] = {}
    blobs: list[bytes] = []
    offset = 0
    for name, file in _hot_modules(root):
        with open(file, "rb") as source:
            where = file if checked else file[len(root) + 1 :]
            code = compile(source.read(), where, "exec", optimize=2)
        status = posix.stat(file)
        blob = marshal.dumps(code)
        mtime_ns = status.st_mtime_ns if checked else -1
        package = file.endswith("/__init__.py")
        index[name] = (offset, len(blob), mtime_ns, status.st_size, package)
        blobs.append(blob)
        offset += len(blob)
    table = marshal.dumps(index)
    temporary = f"{target}.{posix.getpid()}"
    with open(temporary, "wb") as out:
        out.write(MAGIC + MAGIC_NUMBER + len(table).to_bytes(4, "little") + table + b"".join(blobs))
    posix.rename(temporary, target)


def _hot_modules(root: str) -> list[tuple[str, str]]:
    """Return (name, file) of the modules a start imports, told by an interpreter of its own."""
    import subprocess

    lines = [f"import sys; sys.path.insert(0, {root!r})", *(f"import {name}" for name in HOT)]
    lines.append("for n, m in sys.modules.items():")
    lines.append("    if n.partition('.')[0] == 'pycontain': print(n, getattr(m, '__file__', ''))")
    argv = [sys.executable, "-I", "-S", "-c", "\n".join(lines)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    pairs = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return [(name, file) for name, file in pairs if file.endswith(".py")]
