"""Where the `pycontain-oci` process begins and ends.

A verb of an engine lives for milliseconds, so this module is all that is imported one by one: the
rest comes from one file per verb (`pack`) as soon as a first call has written it.
"""

from __future__ import annotations

import gc
import posix
import sys

from pycontain import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

VALUED = ("--root", "--log", "--log-format", "--cgroup-manager", "--rootless", "--criu")
"""Global options whose value is the next word."""
PACKED = frozenset(
    ("create", "start", "state", "kill", "delete", "run", "exec", "ps", "pause", "resume", "update")
)


def entry() -> NoReturn:
    """Run the command line of this process and end it."""
    # Collecting cycles costs more than it frees, and nothing is left to finalise at the end.
    gc.disable()
    status = main(sys.argv[1:])
    try:
        pack.complete_boot("oci", __name__)
    except (ImportError, MemoryError):
        # No room to write a cache: the next start is slower, and nothing else.
        pass
    posix._exit(status)


def main(argv: Sequence[str]) -> int:
    """Carry out one command line; return the exit status. Never raises, never a traceback."""
    key = pack_key(argv)
    if key and pack.load(key):
        status = _run(argv)
        if pack.fetched and pack.writable():
            _widen(key)
        return status
    if not key or not pack.writable():
        return _run(argv)
    recorder = pack.record()
    status = _run(argv)
    if status == 0:
        pack.save(key, recorder)
    return status


def _widen(key: str) -> None:
    """Add to the pack what this call needed besides: engines repeat themselves."""
    from pycontain import packing

    packing.widen(key, set(pack.fetched))


def _run(argv: Sequence[str]) -> int:
    from pycontain.cli import oci_main
    from pycontain.cli.interrupts import Interruptible

    with Interruptible():
        return oci_main.main(argv)


def pack_key(argv: Sequence[str]) -> str:
    """Return the name of the pack for a command line: its verb, "" for one without a pack."""
    verb = pack.verb(argv, VALUED, PACKED)
    return "oci-" + verb if verb else ""
