"""Help and version texts of `pycontain-oci`, made of the option table."""

from __future__ import annotations

from pycontain.cli import oci_options as table
from pycontain.errors import UsageError
from pycontain.oci.runtime import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.cli.oci_options import Option

_INTRODUCTION = """\
NAME:
   pycontain-oci - Open Container Initiative runtime: makes a container of a bundle

A bundle is a directory with config.json and a root file system.

USAGE:
   pycontain-oci [global options] COMMAND [options] [arguments...]

EXAMPLE:
   mkdir -p /tmp/web/rootfs && cd /tmp/web
   pycontain-oci spec
   pycontain-oci run web

COMMANDS:
"""


def version() -> str:
    """Return what --version prints, in the form dockerd and podman parse."""
    from pycontain.cli.system import VERSION

    return (
        f"pycontain-oci version {VERSION}\n"
        f"commit: v{VERSION}\n"
        f"spec: {SPEC_VERSION}\n"
        "+SECCOMP +CAP +CGROUPV1 +CGROUPV2 +TIMENS +IDMAP\n"
    )


def overview() -> str:
    """Return what --help prints."""
    width = max(map(len, table.VERBS))
    verbs = "".join(f"   {name:{width}}  {verb[0]}\n" for name, verb in table.VERBS.items())
    return f"{_INTRODUCTION}{verbs}\nGLOBAL OPTIONS:\n{_options(table.GLOBALS)}"


def verb(name: str) -> str:
    """Return what `NAME --help` prints; raises UsageError for an unknown verb."""
    found = table.VERBS.get(name)
    if found is None:
        raise UsageError(
            f"No help topic for '{name}'", hint="pycontain-oci --help lists the commands"
        )
    usage = f"pycontain-oci {name} [options] {found[1]}".rstrip()
    example = f"\nEXAMPLE:\n   pycontain-oci {found[5]}\n" if found[5] else ""
    return (
        f"NAME:\n   pycontain-oci {name} - {found[0]}\n\nUSAGE:\n   {usage}\n{example}\n"
        f"OPTIONS:\n{_options(found[6])}"
    )


def _options(options: Sequence[Option]) -> str:
    shown = [
        ", ".join(names.split()) + (" " + metavar) * bool(metavar)
        for names, _, metavar, _ in options
    ]
    width = max((len(text) for text in shown), default=0)
    return "".join(f"   {text:{width}}  {o[3]}\n" for text, o in zip(shown, options, strict=True))
