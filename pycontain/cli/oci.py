"""Where the `pycontain-oci` process begins and ends."""

from __future__ import annotations

import gc
import posix
import sys

from pycontain.dump import renew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def entry(dump: str = "", program: str = "") -> NoReturn:
    """Run the command line of this process and end it; see `entry.main` for the arguments."""
    # Collecting cycles costs more than it frees, and nothing is left to finalise at the end.
    gc.disable()
    status = main(sys.argv[1:])
    renew(dump, program)
    posix._exit(status)


def main(argv: Sequence[str]) -> int:
    """Carry out one command line; return the exit status. Never raises, never a traceback."""
    from pycontain.cli import oci_main
    from pycontain.cli.interrupts import Interruptible

    with Interruptible():
        return oci_main.main(argv)
