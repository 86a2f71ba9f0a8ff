"""One file with the code of every module a command needs, so a start reads one file and not eighty.

Finding, opening and checking eighty modules costs more than running them. The first start of a verb
records which modules it imported and in which order each was complete; at its end they are written,
compiled without docstrings, to __pycache__/KEY.pack beside this file. Later starts load that,
after a stat of each source: a pack is taken whole or not at all, like a .pyc it is only a cache,
and whoever may write it may write the modules themselves. PYCONTAIN_PACK=0 turns it off.
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = tuple[str, str, int, int, bool, Any]

HOME = __file__.rpartition("/")[0]
VERSION = (2, sys.implementation.cache_tag)


def load(key: str) -> bool:
    """Bring in every module of the pack `key`; False when there is none that is up to date."""
    try:
        fd = posix.open(_path(key), posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        content = posix.read(fd, posix.fstat(fd).st_size)
    finally:
        posix.close(fd)
    try:
        version, rows = marshal.loads(content)
    except (EOFError, ValueError, TypeError):
        return False
    if version != VERSION or not _fresh(rows):
        return False
    for row in rows:
        _bring_in(row)
    return True


def _path(key: str) -> str:
    return f"{HOME}/__pycache__/{key}.{sys.implementation.cache_tag}.pack"


def _fresh(rows: list[Row]) -> bool:
    """Return whether every source is as it was when the pack was written."""
    stat = posix.stat
    try:
        for _, path, modified, size, _, _ in rows:
            status = stat(path)
            if status.st_mtime_ns != modified or status.st_size != size:
                return False
    except OSError:
        return False
    return True


def _bring_in(row: Row) -> None:
    name, path, _, _, is_package, code = row
    modules = sys.modules
    if name in modules:
        return
    module = type(sys)(name)
    scope = module.__dict__
    scope["__file__"] = path
    parent, _, child = name.rpartition(".")
    if parent not in modules:
        __import__(parent)
    scope["__package__"] = name if is_package else parent
    if is_package:
        scope["__path__"] = [path.rpartition("/")[0]]
    modules[name] = module
    exec(code, scope)
    if parent:
        setattr(modules[parent], child, module)


class Recorder:
    """A meta path finder that notes in which order our modules became complete."""

    def __init__(self) -> None:
        self.complete: list[tuple[str, str, bool]] = []

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if not name.startswith("pycontain."):
            return None
        from importlib.machinery import PathFinder, SourceFileLoader

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        loader, run = spec.loader, spec.loader.exec_module

        def run_and_note(module: Any) -> None:
            run(module)
            self.complete.append((name, str(spec.origin), loader.is_package(name)))

        loader.exec_module = run_and_note  # type: ignore[method-assign]
        return spec


def record() -> Recorder:
    """Begin to note which modules are imported."""
    recorder = Recorder()
    sys.meta_path.insert(0, recorder)
    return recorder


def save(key: str, recorder: Recorder) -> None:
    """Write the pack; where that is not permitted, the next start does without it too."""
    sys.meta_path.remove(recorder)
    rows = []
    try:
        for name, path, is_package in recorder.complete:
            status = posix.stat(path)
            with open(path, "rb") as file:
                code = compact(file.read(), path)
            rows.append((name, path, status.st_mtime_ns, status.st_size, is_package, code))
        _write(_path(key), marshal.dumps((VERSION, rows)))
    except (OSError, SyntaxError, ValueError):
        # A source changed under us, or this directory is not ours: a cache can wait.
        return


def compact(source: bytes, path: str) -> Any:
    """Compile a module without docstrings, annotations, type imports and line numbers."""
    import ast

    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            arguments = node.args
            for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                each.annotation = None
            for rest in (arguments.vararg, arguments.kwarg):
                if rest is not None:
                    rest.annotation = None
    tree.body = [_plain(node) for node in tree.body if not _is_type_checking(node)]
    return _without_lines(compile(tree, path, "exec", dont_inherit=True, optimize=2))


def _is_type_checking(node: Any) -> bool:
    import ast

    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and (
        node.test.id == "TYPE_CHECKING" and not node.orelse
    )  # fmt: skip


def _plain(node: Any) -> Any:
    import ast

    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)
    return node


def _without_lines(code: Any) -> Any:
    constants = tuple(
        _without_lines(each) if isinstance(each, type(code)) else each for each in code.co_consts
    )
    return code.replace(co_linetable=b"", co_consts=constants)


def _write(path: str, content: bytes) -> None:
    temporary = f"{path}.{posix.getpid()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
    fd = posix.open(temporary, flags, 0o644)
    try:
        while content:
            content = content[posix.write(fd, content) :]
    except OSError:
        posix.unlink(temporary)
        raise
    finally:
        posix.close(fd)
    posix.rename(temporary, path)
