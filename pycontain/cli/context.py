"""From a parsed command line to the engine and its options: roots, defaults, files, names."""

from __future__ import annotations

from pycontain import paths
from pycontain.cli import output
from pycontain.engine.engine import Engine
from pycontain.errors import KernelError, NotFoundError, PycontainError, UsageError
from pycontain.spec.options import RunOptions
from pycontain.spec.values import key_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.options import Parsed

FILE_LIMIT = 1 << 20
_DROPPED = ("publish", "publish_all", "ip", "expose", "pull", "quiet", "no_healthcheck")
"""Options that are checked or accepted and mean nothing to a container."""


def data_root(parsed: Parsed) -> str:
    """Return the data root: --root, the environment's, or the default."""
    return paths.data_root(_global(parsed, "root"))


def engine(parsed: Parsed) -> Engine:
    """Return the engine for the roots of this command line."""
    return Engine(data_root(parsed), paths.run_root(_global(parsed, "state")))


def _global(parsed: Parsed, name: str) -> str:
    return str(parsed.globals.get(name) or "")


def each(parsed: Parsed, act: Callable[[str], object], *, missing_ok: bool = False) -> int:
    """Act on everything named, print the errors, return the exit status: one stops no other.

    With `missing_ok` what does not exist is told and is no failure.
    """
    status = 0
    as_json = parsed.globals.get("error_format") == "json"
    for word in parsed.arguments:
        try:
            act(word)
        except PycontainError as error:
            from pycontain import cures

            cures.advise(error, parsed.globals)
            output.error(error, as_json=as_json)
            if not (missing_ok and isinstance(error, NotFoundError)):
                status = max(status, error.exit_status)
    return status


def run_options(parsed: Parsed) -> RunOptions:
    """Return the options of `run` or `create`; reads --env-file and --label-file."""
    values = {name: value for name, value in parsed.values.items() if name not in _DROPPED}
    for name in ("cgroup_manager", "runtime"):
        if name not in values and _global(parsed, name):
            values[name] = _global(parsed, name)
    if "env_file" in values:
        values["env"] = environment_lines(parsed)
    if "label_file" in values:
        lines = _lines(parsed.many("label_file"), "--label-file")
        pairs = [key_value(line, "--label-file") for line in lines]
        values["label"] = [*pairs, *parsed.many("label")]
    return RunOptions(values, parsed.given)


def environment_lines(parsed: Parsed) -> list[str]:
    """Return the variables of --env-file and --env; --env has the last word, wherever it stands."""
    return [*_lines(parsed.many("env_file"), "--env-file"), *parsed.many("env")]


def _lines(paths_given: list[str], what: str) -> list[str]:
    """Return the lines of files that are neither empty nor comments, as docker reads them."""
    from pycontain import trees

    found = []
    for path in paths_given:
        try:
            content = trees.read_file(path, FILE_LIMIT)
        except OSError as error:
            raise KernelError(what, path, error, call="open") from None
        if b"\0" in content:
            raise UsageError(f"{what} {path}: holds a NUL byte")
        # Editors of Windows begin a file with a byte order mark.
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        for line in text.split("\n"):
            line = line.lstrip().rstrip("\r")
            if line and not line.startswith("#"):
                name, _ = key_value(line, f"{what} {path}:")
                if name.split() != [name]:
                    raise UsageError(f"{what} {path}: the name {name!r} contains white space")
                found.append(line)
    return found
