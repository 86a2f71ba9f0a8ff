"""Where the `pycontain` command begins and ends: parse, call a handler, one line per error.

Hot verbs are parsed by `fast` without click. Whatever it leaves alone (help, mistakes, completion)
and the groups mounted from other modules (bench, hypervisor, vm) go to `main`, which builds click
commands from the same table. Every exception ends here: our own as its message and exit status,
any other as one line that says it is a bug; PYCONTAIN_DEBUG=1 shows where.
"""

from __future__ import annotations

import gc
import posix
import sys

from pycontain import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.cli.options import Parsed

INTERRUPTED = 130
BROKEN_PIPE = 141
FAILED = 125
VALUED = ("--root", "--state", "--error-format", "--cgroup-manager", "--runtime")
"""Words before the verb that another word belongs to."""
PACKED = frozenset(["run", "create", "start", "exec", "stop", "kill", "rm", "ps", "wait", "logs"])
"""Verbs whose modules are packed."""


def main() -> None:
    """Run the command line of this process and end the process: the shell's way in."""
    # A command lives for milliseconds: collecting cycles meanwhile costs more than it frees.
    gc.disable()
    status = start(sys.argv[1:])
    from pycontain.cli import output

    # Nothing is left to finalise, and the interpreter's own end costs half a millisecond.
    output.flush()
    try:
        # What the groups mounted from elsewhere print goes through Python's own streams.
        sys.stdout.flush()
    except OSError:
        status = status or FAILED
    posix._exit(status)


def start(argv: Sequence[str]) -> int:
    """Carry out one command line with the modules its verb needs packed in one file."""
    key = _pack_key(argv)
    if not key:
        return run(argv)
    if pack.load(key):
        status = run(argv)
        pack.widen(key)
        return status
    if not pack.writable():
        return run(argv)
    recorder = pack.record()
    status = run(argv)
    if status == 0:
        pack.save(key, recorder)
    return status


def _pack_key(argv: Sequence[str]) -> str:
    """Return the name of the pack for a command line: its verb, "" for one without a pack."""
    if b"PYCONTAIN_PACK" in posix.environ or b"PYCONTAIN_DEBUG" in posix.environ:
        return ""
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word in VALUED:
            skip = True
        elif not word.startswith("-"):
            return word if word in PACKED else ""
    return ""


def run(argv: Sequence[str]) -> int:
    """Carry out one command line; return its exit status. Raises nothing but SystemExit."""
    from pycontain.cli import commands, fast, output
    from pycontain.errors import PycontainError
    from pycontain.paths import environ

    try:
        if environ("_PYCONTAIN_COMPLETE"):
            return _click(argv)
        parsed = fast.parse(argv, commands.GLOBAL, commands.command_named)
        return _click(argv) if parsed is None else call(parsed)
    except PycontainError as error:
        output.error(error, as_json=wants_json(argv))
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:
        return _bug(error)


def call(parsed: Parsed) -> int:
    """Import the handler of the parsed command and call it."""
    return handler(parsed.command.handler)(parsed)


def handler(place: str) -> Callable[[Parsed], int]:
    """Return the function a table entry names as "module:function"."""
    module, _, function = place.partition(":")
    name = "pycontain.cli." + module
    __import__(name)
    found: Callable[[Parsed], int] = getattr(sys.modules[name], function)
    return found


def wants_json(argv: Sequence[str]) -> bool:
    """Return whether errors were asked for as JSON, however broken the command line is."""
    for at, word in enumerate(argv):
        if word == "--error-format=json":
            return True
        if word == "--error-format":
            return list(argv[at + 1 : at + 2]) == ["json"]
    return posix.environ.get(b"PYCONTAIN_ERROR_FORMAT") == b"json"


def _click(argv: Sequence[str]) -> int:
    _enable_site_packages()
    from pycontain.cli.main import run as run_click

    return run_click(argv)


def _enable_site_packages() -> None:
    # The command starts as `python -S`: click and the rest are found only after this.
    if sys.flags.no_site:
        import site

        site.main()


def _bug(error: Exception) -> int:
    from pycontain.cli import output
    from pycontain.errors import PycontainError, quote

    if b"PYCONTAIN_DEBUG" in posix.environ:
        raise error
    what = f"{type(error).__name__}: {error}"
    where = PycontainError(
        f"internal error: {quote(what)[:300]}",
        hint="PYCONTAIN_DEBUG=1 shows where; please report it",
    )
    output.error(where, as_json=False)
    return FAILED
