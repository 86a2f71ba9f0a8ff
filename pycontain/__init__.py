"""pycontain: Linux containers without a daemon. `pycontain.run` is the Python API (see api.py)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.api import Result as Result
    from pycontain.api import run as run


def __getattr__(name: str) -> object:
    # The command line imports this package too and must not pay for the API.
    if name in ("run", "Result"):
        from pycontain import api

        return getattr(api, name)
    raise AttributeError(f"module 'pycontain' has no attribute {name!r}")
