"""Where the `pycontain` command begins and ends: parse, call a handler, one line per error.

Hot verbs are parsed by `fast` without click. Whatever it leaves alone (help, mistakes, completion)
and the groups mounted from other modules (bench, hypervisor, vm) go to `main`, which builds click
commands from the same table. Every exception ends here: our own as its message and exit status,
any other as one line; PYCONTAIN_DEBUG=1 shows where.
"""

from __future__ import annotations

import gc
import posix
import sys

from pycontain.dump import renew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from pycontain.cli.options import Parsed
    from pycontain.errors import PycontainError

INTERRUPTED = 130
BROKEN_PIPE = 141
FAILED = 125


def main(dump: str = "", program: str = "") -> NoReturn:
    """Run the command line of this process and end the process: the shell's way in.

    `dump` is where the startup dump of `program`, the launcher, belongs; "" for none.
    """
    # A command lives for milliseconds: collecting cycles meanwhile costs more than it frees.
    gc.disable()
    _open_standard_streams()
    status = run_and_flush(sys.argv[1:])
    renew(dump, program)
    # Nothing is left to finalise, and the interpreter's own end costs half a millisecond.
    posix._exit(status)


def _open_standard_streams() -> None:
    # A caller may have closed any of them (`>&-`). A file opened later would get its number, and
    # with it what the container prints.
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            posix.fstat(fd)
        except OSError:
            # The lowest free number is the one that was found closed.
            posix.set_inheritable(posix.open("/dev/null", posix.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "r" if fd == 0 else "w", closefd=False))  # noqa: SIM115


def run_and_flush(argv: Sequence[str]) -> int:
    """Carry out one command line and write what it printed; return the exit status."""
    status = run(argv)
    from pycontain.cli import output

    if not output.flush():
        status = status or FAILED
    try:
        # What the groups mounted from elsewhere print goes through Python's own streams.
        sys.stdout.flush()
    except OSError:
        status = status or FAILED
    return status


def run(argv: Sequence[str]) -> int:
    """Carry out one command line; return its exit status. Raises nothing but SystemExit."""
    from pycontain.cli import commands, fast, output
    from pycontain.cli.interrupts import Interruptible
    from pycontain.errors import PycontainError
    from pycontain.paths import environ

    try:
        if environ("_PYCONTAIN_COMPLETE"):
            return _click(argv)
        parsed = fast.parse(argv, commands.GLOBAL, commands.command_named)
        with Interruptible():
            return _click(argv) if parsed is None else call(parsed)
    except PycontainError as error:
        _advise(error, argv)
        output.error(error, as_json=wants_json(argv))
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:
        return _unforeseen(error, argv)


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
    enable_site_packages()
    from pycontain.cli.main import run as run_click

    return run_click(argv)


def enable_site_packages() -> None:
    """Make installed packages importable: the command starts as `python -S`, without them."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()


def _cannot_map(error: Exception) -> bool:
    """Return whether there was no memory left for an extension module: dlopen(3) has no errno."""
    words = ("failed to map segment", "cannot allocate memory")
    return isinstance(error, ImportError) and any(word in str(error).lower() for word in words)


def _advise(error: PycontainError, argv: Sequence[str]) -> None:
    from pycontain import cures
    from pycontain.cli import commands, fast

    head = fast.split(argv, commands.GLOBAL, passes=True)
    cures.advise(error, head[0] if head else {})


def _unforeseen(error: Exception, argv: Sequence[str]) -> int:
    from pycontain.cli import output
    from pycontain.errors import KernelError, PycontainError, quote

    if b"PYCONTAIN_DEBUG" in posix.environ:
        raise error
    hint = "PYCONTAIN_DEBUG=1 shows where"
    shown: PycontainError
    if isinstance(error, OSError) and error.errno:
        # A call no step foresaw to fail, mostly because this process has reached a limit.
        shown = KernelError("system call failed", error.filename or "", error)
        _advise(shown, argv)
        shown.hint = shown.hint or hint
    elif isinstance(error, MemoryError) or _cannot_map(error):
        shown = PycontainError("out of memory", hint=hint)
    else:
        what = quote(f"{type(error).__name__}: {error}")[:300]
        shown = PycontainError(f"internal error: {what}", hint=f"{hint}; please report it")
    output.error(shown, as_json=wants_json(argv))
    return FAILED
