"""One file with the code a command needs, so a start reads one file and not eighty.

Finding, opening and checking eighty modules costs more than running them. The first start of a
verb records which modules it imported, in which order each was complete, and which functions it
called; at its end they are written to __pycache__/KEY.pack beside this file (`packing`), and later
starts load that after a stat of each source. A function nobody called then is a stub that fetches
its code when it is called after all, and a start that fetched some writes a wider pack.

A pack is taken whole or not at all: like a .pyc it is only a cache, and whoever may write it may
write the modules themselves; one that others than its owner may write is none. PYCONTAIN_PACK=0
turns packs off.

This module and the entry of the command are imported before any pack is. KEY.boot holds them in the
same form; the launcher executes it, under the same conditions, and calls `boot`.
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Row = tuple[str, str, int, int, str, Any]

HOME = __file__.rpartition("/")[0]
VERSION = (5, sys.implementation.cache_tag)
FETCH = "__pycontain_fetch__"
"""The builtin that stubs call."""
MODULES = "__pycontain_modules__"
"""The builtin by which a packed module reaches those before it: sys.modules."""
MODULE, PACKAGE, EXTENSION = "module", "package", "extension"

fetched: list[tuple[str, str]] = []
"""(module, qualified name) of each function whose code was fetched by a stub."""
OTHERS_WRITE = 0o022
"""The mode bits by which another user could put code into a file that this one executes."""

booted = False
"""Whether this module came out of a boot file."""


def off() -> bool:
    """Return whether the user turned packs off."""
    return posix.environ.get(b"PYCONTAIN_PACK") == b"0"


def boot(module: Any, rows: list[Row]) -> None:
    """Bring in the modules of a boot file, this one (given as `module`) first.

    Nothing is brought in when one of them is stale: then they are imported, and written anew.
    """
    global booted
    if _fresh(rows):
        booted = True
        sys.modules[module.__name__] = module
        for row in rows:
            _bring_in(row)
        sys.modules["pycontain"].pack = module  # type: ignore[attr-defined]


def verb(argv: Sequence[str], valued: Sequence[str], packed: frozenset[str]) -> str:
    """Return the verb of a command line if it is one of `packed`, else "".

    `valued` are the options before the verb that another word belongs to.
    """
    if off():
        return ""
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word in valued:
            skip = True
        elif not word.startswith("-"):
            return word if word in packed else ""
    return ""


def load(key: str) -> bool:
    """Bring in every module of the pack `key`; False when there is none that is up to date."""
    found = read(path_of(key))
    if found is None:
        return False
    version, rows = found
    if version != VERSION or not _fresh(rows):
        return False
    builtins = sys.modules["builtins"].__dict__
    builtins[FETCH] = _fetch
    builtins[MODULES] = sys.modules
    try:
        for row in rows:
            _bring_in(row)
    except ImportError:
        # What is in stays in; whoever needs this module imports it and gets the error itself.
        del sys.modules[row[0]]
        return False
    return True


def read(path: str) -> tuple[Any, list[Row]] | None:
    """Return what a pack or boot file holds, None when there is none to be trusted."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = posix.fstat(fd)
        if status.st_mode & OTHERS_WRITE:
            return None
        first, rows = marshal.loads(posix.read(fd, status.st_size))
    except (EOFError, ValueError, TypeError):
        return None
    finally:
        posix.close(fd)
    return first, rows


def path_of(key: str, kind: str = "pack") -> str:
    """Return where a pack is kept."""
    return f"{HOME}/__pycache__/{key}.{sys.implementation.cache_tag}.{kind}"


def writable() -> bool:
    """Return whether this user could write a pack: recording one costs time."""
    return posix.access(HOME + "/__pycache__", posix.W_OK)


def _fresh(rows: list[Row]) -> bool:
    """Return whether there are rows, and every source is as it was when the pack was written."""
    stat = posix.stat
    try:
        for _, path, modified, size, _, _ in rows:
            status = stat(path)
            if status.st_mtime_ns != modified or status.st_size != size:
                return False
    except (OSError, TypeError, ValueError):
        return False
    return bool(rows)


class _Spec:
    """As much of a module spec as loading an extension module takes."""

    __slots__ = ("name", "origin")


def _bring_in_extension(name: str, path: str) -> None:
    import _imp

    spec: Any = _Spec()
    spec.name, spec.origin = name, path
    module = _imp.create_dynamic(spec)
    sys.modules[name] = module
    _imp.exec_dynamic(module)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _bring_in(row: Row) -> None:
    name, path, _, _, kind, code = row
    modules = sys.modules
    if name in modules:
        return
    if kind == EXTENSION:
        # The path finder would look for it in every directory again.
        _bring_in_extension(name, path)
        return
    module = type(sys)(name)
    scope = module.__dict__
    scope["__file__"] = path
    parent, _, child = name.rpartition(".")
    if parent and parent not in modules:
        __import__(parent)
    scope["__package__"] = name if kind == PACKAGE else parent
    if kind == PACKAGE:
        scope["__path__"] = [path.rpartition("/")[0]]
    modules[name] = module
    exec(code, scope)
    if parent:
        setattr(modules[parent], child, module)


def _fetch(name: str, qualified: str) -> Callable[..., Any]:
    """Give a stub its code and return the function: called by stubs as a builtin."""
    from pycontain import stubs

    fetched.append((name, qualified))
    function = stubs.function_at(sys.modules[name], qualified)
    assert function is not None
    function.__code__ = stubs.original(sys.modules[name], qualified)
    return function


class Recorder:
    """Notes in which order our modules became complete, and which functions were called."""

    def __init__(self) -> None:
        self.complete: list[tuple[str, str, str]] = []
        self.called: set[tuple[str, str]] = set()
        # Imported before the finder is in place: it would be asked for its own parts.
        from importlib import machinery

        self.machinery: Any = machinery

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Find a module like the path finder does, and note when it has run."""
        spec = self.machinery.PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        loader = spec.loader
        ours = name.startswith("pycontain.")
        ours = ours and isinstance(loader, self.machinery.SourceFileLoader)
        if not ours and not isinstance(loader, self.machinery.ExtensionFileLoader):
            return spec
        run = loader.exec_module
        kind = EXTENSION if not ours else PACKAGE if spec.submodule_search_locations else MODULE

        def run_and_note(module: Any) -> None:
            run(module)
            self.complete.append((name, str(spec.origin), kind))

        loader.exec_module = run_and_note
        return spec

    def note_call(self, frame: Any, event: str, argument: object) -> None:
        """Note a call: handed to sys.setprofile."""
        if event == "call":
            self.called.add((frame.f_globals.get("__name__", ""), frame.f_code.co_qualname))


def complete_boot(key: str, entry: str) -> None:
    """Write KEY.boot for the command whose entry module is `entry`, if it is missing or stale."""
    if booted or off() or not writable():
        return
    found = read(path_of(key, "boot"))
    if found is not None and _fresh(found[1]):
        return
    from pycontain import packing

    packing.write_boot(key, entry)


def record() -> Recorder:
    """Begin to note which modules are imported and which functions are called."""
    recorder = Recorder()
    sys.meta_path.insert(0, recorder)
    sys.setprofile(recorder.note_call)
    return recorder


def save(key: str, recorder: Recorder) -> None:
    """Write the pack; where that is not permitted, the next start does without it too."""
    sys.setprofile(None)
    sys.meta_path.remove(recorder)
    from pycontain import packing

    packing.write(key, recorder.complete, recorder.called)


def widen(key: str) -> None:
    """Write the pack anew when this start had to fetch functions it lacks."""
    if not fetched or not writable():
        return
    from pycontain import packing

    packing.widen(key, set(fetched))
