"""Gives a stub of a pack the code it stands for, from the module's .pyc or else its source.

Imports nothing slow: a command meets a stub whenever it does what no start before it did.
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FunctionType, ModuleType
    from typing import Any


def function_at(module: ModuleType, qualified: str) -> FunctionType | None:
    """Return the plain function or method of that qualified name, None if it is something else."""
    scope: Any = module.__dict__
    parts = qualified.split(".")
    for part in parts[:-1]:
        found = scope.get(part)
        if not isinstance(found, type) or found.__module__ != module.__name__:
            return None
        scope = found.__dict__
    function = scope.get(parts[-1])
    if isinstance(function, property):
        # A property with a setter has two functions of one name.
        function = function.fget if function.fset is None else None
    if isinstance(function, staticmethod | classmethod):
        function = function.__func__
    plain: Any = type(_read)
    return function if isinstance(function, plain) else None


def original(module: ModuleType, qualified: str) -> CodeType:
    """Return a function's code as it is without a pack."""
    path = str(module.__file__)
    code = _cached(path) or compile(_read(path), path, "exec", dont_inherit=True)
    kind = type(code)
    for part in qualified.split("."):
        code = [each for each in code.co_consts if isinstance(each, kind) and each.co_name == part][
            -1
        ]
    return code


def fill(module: ModuleType) -> None:
    """Give every stub of a module its code: for a process about to leave the host's root."""
    kinds: dict[str, Any] = {"": module.__dict__}
    for name, value in module.__dict__.items():
        if isinstance(value, type) and value.__module__ == module.__name__:
            kinds[name + "."] = value.__dict__
    for prefix, scope in kinds.items():
        for name in list(scope):
            function = function_at(module, prefix + name)
            if function is None or function.__module__ != module.__name__:
                continue
            if function.__code__.co_filename == "stub":
                function.__code__ = original(module, function.__code__.co_qualname)


def _cached(path: str) -> CodeType | None:
    """Return the code of the module's .pyc, None when there is none for this source (PEP 552)."""
    directory, _, name = path.rpartition("/")
    tag = sys.implementation.cache_tag
    try:
        content = _read(f"{directory}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc")
        status = posix.stat(path)
    except OSError:
        return None
    stamp = int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little")
    if content[4:16] != bytes(4) + stamp:
        return None
    code: CodeType = marshal.loads(content[16:])
    return code


def _read(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, posix.fstat(fd).st_size)
    finally:
        posix.close(fd)
