"""Every exception of the project.

PycontainError                    exit status 125: our failure
├── UsageError                    the caller asked for something that makes no sense
├── NotFoundError                 an image, container, volume … that does not exist
├── ConflictError                 a name or id is taken, or the container is in another state
├── InvalidError                  a hostile or broken image, archive, bundle or config
├── KernelError                   a system call failed: step, call, object, errno
│   ├── CommandNotFoundError      exit status 127
│   └── CommandNotExecutableError exit status 126
└── UnsupportedError              this host lacks what was asked for

A message is one line: what was done, to what object, the cause, then the hint. It starts in
lower case and carries no full stop. Text from outside is escaped by `quote`.
"""

from __future__ import annotations

import errno as _errno
from posix import strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def quote(text: object) -> str:
    """Return `text` safe for one terminal line: control and non-printable characters escaped."""
    value = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text)
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)


MESSAGE_LIMIT = 4000
"""Characters of a message: a hostile name may be megabytes long."""


class PycontainError(Exception):
    """An error the user can act on; `message` and `hint` hold one line each."""

    exit_status = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        if len(message) > MESSAGE_LIMIT:
            # The cause stands at the end, the object in the middle.
            message = f"{message[: MESSAGE_LIMIT - 500]} … {message[-500:]}"
        self.message = quote(message)
        self.hint = quote(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def fields(self) -> Mapping[str, object]:
        """Return what `--error-format json` prints."""
        return {"error": type(self).__name__, "message": self.message, "hint": self.hint}


class UsageError(PycontainError):
    """The command line or the call's arguments are wrong."""


class NotFoundError(PycontainError):
    """The named thing does not exist."""


class ConflictError(PycontainError):
    """The name is taken, or the state does not allow the operation."""


class InvalidError(PycontainError):
    """Input from outside (image, archive, bundle, config) is malformed or hostile."""


class UnsupportedError(PycontainError):
    """The host, or this build, cannot do what was asked for."""


class KernelError(PycontainError):
    """A system call failed.

    `action` is the step in words, `call` the man-page name, `target` the path or object, `number`
    the errno.
    """

    def __init__(
        self,
        action: str,
        target: object = "",
        error: OSError | int = 0,
        *,
        call: str = "",
        hint: str = "",
    ) -> None:
        self.number = error if isinstance(error, int) else (error.errno or 0)
        self.action = action
        self.call = call
        self.target = quote(
            target.decode("utf-8", "backslashreplace") if isinstance(target, bytes) else target
        )
        cause = _errno.errorcode.get(self.number, str(self.number))
        where = f" {self.target}" if self.target else ""
        how = f"{call}: " if call else ""
        super().__init__(f"{action}{where}: {how}{strerror(self.number)} ({cause})", hint=hint)

    def fields(self) -> Mapping[str, object]:
        return {
            **super().fields(),
            "step": self.action,
            "call": self.call,
            "object": self.target,
            "errno": _errno.errorcode.get(self.number, str(self.number)),
        }


class CommandNotFoundError(KernelError):
    """The command does not exist inside the container."""

    exit_status = 127


class CommandNotExecutableError(KernelError):
    """The command exists inside the container and cannot be executed."""

    exit_status = 126
