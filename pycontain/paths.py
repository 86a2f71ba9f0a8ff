"""Where images, snapshots, containers and run-time state live on disk.

The layout is drawn in docs/design.md. This module only names places; who writes a file makes it.
"""

from __future__ import annotations

import posix

from pycontain.errors import UsageError


def environ(name: str) -> str:
    """Return an environment variable of this process, "" when unset (`os` is not imported)."""
    value = posix.environ.get(name.encode(), b"")
    return value.decode("utf-8", "surrogateescape")


def data_root(chosen: str = "") -> str:
    """Return the absolute data root: `chosen`, $PYCONTAIN_ROOT, or the default of this user."""
    root = chosen or environ("PYCONTAIN_ROOT")
    if not root and posix.geteuid() == 0:
        return "/var/lib/pycontain"
    if not root:
        base = environ("XDG_DATA_HOME") or environ("HOME") + "/.local/share"
        root = base + "/pycontain"
    return _absolute(root, "--root")


def run_root(chosen: str = "") -> str:
    """Return the absolute directory of run-time state (`--state`), on tmpfs by default."""
    root = chosen or environ("PYCONTAIN_STATE")
    if not root and posix.geteuid() == 0:
        return "/run/pycontain"
    if not root:
        base = environ("XDG_RUNTIME_DIR") or f"/tmp/pycontain-run-{posix.geteuid()}"
        root = base + "/pycontain"
    return _absolute(root, "--state")


def _absolute(path: str, option: str) -> str:
    if not path.startswith("/"):
        path = posix.getcwd() + "/" + path
    if "\0" in path:
        raise UsageError(f"{option} holds a NUL byte")
    return path
