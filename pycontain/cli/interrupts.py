"""When Ctrl-C is an exception and when it just ends the process.

The launcher scripts put SIGINT back to its default: while modules are imported there is nothing to
undo, and an exception would show where it struck. A command at work takes it as KeyboardInterrupt,
so that what it made is undone; afterwards it ends the process again. A caller's SIG_IGN stays.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]


class Interruptible:
    """While entered, SIGINT raises KeyboardInterrupt."""

    __slots__ = ("_armed",)

    def __enter__(self) -> None:
        self._armed = _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL
        if self._armed:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        if self._armed:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
