"""version and info: what this is, and what the host offers it."""

from __future__ import annotations

import posix
import sys

from pycontain.cli import context, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.cli.options import Parsed

VERSION = "0.1.0"


def version(parsed: Parsed) -> int:
    """`pycontain version`."""
    host = posix.uname()
    facts = {
        "Version": VERSION,
        "OCI runtime": "1.3.0",
        "Python": sys.version.split(maxsplit=1)[0],
        "Kernel": host.release,
        "OS/Arch": f"linux/{host.machine}",
    }
    return _print(facts, parsed)


def info(parsed: Parsed) -> int:
    """`pycontain info`."""
    from pycontain.engine.report import host_report

    return _print(host_report(context.engine(parsed), VERSION), parsed)


def _print(facts: dict[str, str], parsed: Parsed) -> int:
    if parsed.text("format") == "json":
        output.json_line({key.replace(" ", ""): value for key, value in facts.items()})
        return 0
    width = max(len(key) for key in facts) + 2
    for key, value in facts.items():
        output.line(f"{key + ':':<{width}}{value}")
    return 0
