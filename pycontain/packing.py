"""Writes packs: the cold half of `pack`."""

from __future__ import annotations

import ast
import marshal
import os
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from pycontain.pack import EXTENSION, FETCH, MODULE, MODULES, PACKAGE, VERSION, path_of, read
from pycontain.stubs import function_at

if TYPE_CHECKING:
    from collections.abc import Set

    from pycontain.pack import Row

_STUB = compile(
    f"def stub(*words, **named):\n    return {FETCH}('module', 'name')(*words, **named)\n",
    "stub",
    "exec",
    optimize=2,
)


def write(key: str, complete: list[tuple[str, str, str]], called: set[tuple[str, str]]) -> None:
    """Write the pack `key` of the modules in `complete`: (name, path, kind), in order."""
    import sys

    rows = []
    try:
        before: set[str] = set()
        for name, path, kind in hot(complete):
            status = os.stat(path)
            code = None if kind == EXTENSION else _code(path, sys.modules[name], called, before)
            before.add(name)
            rows.append((name, path, status.st_mtime_ns, status.st_size, kind, code))
        _replace(path_of(key), marshal.dumps((VERSION, rows)))
    except (OSError, SyntaxError, ValueError, KeyError):
        # A source changed under us, or this directory is not ours: a cache can wait.
        return


def write_boot(key: str, entry: str) -> None:
    """Write KEY.boot: the code of `pack`, and the rows of all that importing `entry` brings in."""
    import sys

    names = ["pycontain.pack", "pycontain", entry.rpartition(".")[0], entry]
    rows: list[Row] = []
    try:
        for name in names:
            module = sys.modules[name]
            path = str(module.__file__)
            status = os.stat(path)
            kind = PACKAGE if hasattr(module, "__path__") else MODULE
            with open(path, "rb") as file:
                code = compact(file.read(), path)
            rows.append((name, path, status.st_mtime_ns, status.st_size, kind, code))
        own = rows[0][5]
        rows[0] = (*rows[0][:5], None)
        _replace(path_of(key, "boot"), marshal.dumps((own, rows)))
    except (OSError, SyntaxError, ValueError, KeyError):
        return


def hot(complete: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Leave out each module that imports a library written in Python, and who imports such a one.

    They are the cold ones: this start went a rare way (a crash to tidy up, say), and a pack brings
    in all it has. Extension modules that only the libraries wanted go with them.
    """
    cold: set[str] = set()
    wanted: set[str] = set()
    for name, path, kind in complete:
        if kind == EXTENSION:
            continue
        names = _imported(path)
        if any(each in cold or _is_library(each) for each in names):
            cold.add(name)
        else:
            wanted |= names
    kept = {name for name, _, kind in complete if kind != EXTENSION and name not in cold}
    return [row for row in complete if row[0] in kept or (row[2] == EXTENSION and row[0] in wanted)]


def _imported(path: str) -> set[str]:
    """Return the names a module's top level imports: modules, and what may be modules in them."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    names: set[str] = set()
    for node in tree.body:
        inner = node.body if isinstance(node, ast.Try) else [node]
        for each in inner:
            if isinstance(each, ast.Import):
                names |= {alias.name for alias in each.names}
            elif isinstance(each, ast.ImportFrom) and each.module != "__future__":
                names.add(str(each.module))
                names |= {f"{each.module}.{alias.name}" for alias in each.names}
    return names


def _is_library(name: str) -> bool:
    import sys

    if name.partition(".")[0] == "pycontain":
        return False
    return str(getattr(sys.modules.get(name), "__file__", "")).endswith(".py")


def _code(
    path: str, module: ModuleType, called: set[tuple[str, str]], before: set[str]
) -> CodeType:
    with open(path, "rb") as file:
        return _prune(compact(file.read(), path, before), module, called)


def widen(key: str, further: set[tuple[str, str]]) -> None:
    """Write the pack `key` again with the code of `further` functions in it."""
    found = read(path_of(key))
    if found is None or found[0] != VERSION:
        return
    rows = found[1]
    kept = {(row[0], name) for row in rows if row[5] for name in _with_code(row[5])}
    write(key, [(row[0], row[1], row[4]) for row in rows], kept | further)


def _with_code(code: CodeType) -> list[str]:
    """Return the qualified names of the functions that are no stubs."""
    found = []
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if FETCH not in each.co_names:
                found.append(each.co_qualname)
            found += _with_code(each)
    return found


def compact(source: bytes, path: str, before: Set[str] = frozenset()) -> CodeType:
    """Compile a module without docstrings, annotations, type imports and line numbers.

    What its top level imports from the modules `before` it is taken from them without the import
    system, which takes four times as long.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            _without_annotations(node)
    tree.body = [
        plain
        for node in tree.body
        if not _is_type_checking(node)
        for plain in _without_import(_plain(node), before)
    ]
    return _without_lines(compile(tree, path, "exec", dont_inherit=True, optimize=2))


def _without_annotations(node: ast.FunctionDef) -> None:
    node.returns = None
    arguments = node.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        each.annotation = None
    for rest in (arguments.vararg, arguments.kwarg):
        if rest is not None:
            rest.annotation = None


def _is_type_checking(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and not node.orelse
    )


def _plain(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)
    return node


def _without_import(node: ast.stmt, before: Set[str]) -> list[ast.stmt]:
    if not isinstance(node, ast.ImportFrom) or node.module not in before:
        return [node]
    found = f"{MODULES}[{node.module!r}]"
    text = "".join(f"{each.asname or each.name} = {found}.{each.name}\n" for each in node.names)
    return ast.parse(text).body


def _without_lines(code: CodeType) -> CodeType:
    constants = tuple(
        _without_lines(each) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    return code.replace(co_linetable=b"", co_consts=constants)


def _prune(code: CodeType, module: ModuleType, called: set[tuple[str, str]]) -> CodeType:
    """Replace each function that was not called, and can be found again, by a stub."""
    constants: list[Any] = []
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if (module.__name__, each.co_qualname) in called:
                each = _prune(each, module, called)
            elif _replaceable(each, module):
                each = _stub(module.__name__, each)
        constants.append(each)
    return code.replace(co_consts=tuple(constants))


def _replaceable(code: CodeType, module: ModuleType) -> bool:
    if code.co_freevars or "<" in code.co_qualname:
        return False
    function = function_at(module, code.co_qualname)
    return function is not None and function.__code__.co_name == code.co_name


def _stub(name: str, code: CodeType) -> CodeType:
    stub = next(each for each in _STUB.co_consts if isinstance(each, CodeType))
    words = {"module": name, "name": code.co_qualname}
    constants = tuple(words.get(each, each) for each in stub.co_consts)
    return stub.replace(
        co_consts=constants, co_name=code.co_name, co_qualname=code.co_qualname, co_linetable=b""
    )


def _replace(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}"
    # Whatever the caller's umask: `read` takes no file that others may write.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
