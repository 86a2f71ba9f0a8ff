"""A container in the background: `run -d`, `start`, and `start --attach`.

    CLI ──fork──▶ child: setsid, launch, ──"ok" or an error──▶ CLI prints the id
                    └─▶ monitor: pump output to the log, reap, record the end, restart

The child inherits the container's lock and becomes responsible for it; init is its child, so it
alone can reap it. What goes wrong before the program runs is told to the caller through a pipe.
"""

from __future__ import annotations

import posix

from pycontain.engine import monitor, removal
from pycontain.engine.restart import ALIVE, redraft
from pycontain.errors import ConflictError, KernelError, PycontainError
from pycontain.oci import codec
from pycontain.runtime.foreground import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontain.engine.draft import Draft
    from pycontain.engine.engine import Engine, Outcome
    from pycontain.engine.record import Record
    from pycontain.spec.options import RunOptions

_OK = b"ok"


class ToldError(PycontainError):
    """An error of the process in the background, told here; `status` is its exit status."""

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_status = status


def run(engine: Engine, options: RunOptions, image: str, command: Sequence[str]) -> Record:
    """Run a container in the background; return once its program runs."""
    removal.reconcile(engine.store)
    draft = engine.maker.make(options, image, command)
    detach(engine, draft, started_before=False)
    return draft.record


def start(engine: Engine, word: str) -> None:
    """Start an existing container in the background; one that runs already is left alone."""
    removal.reconcile(engine.store)
    record = engine.find(word)
    if engine.status(record) in ALIVE:
        return
    try:
        draft = redraft(engine, record)
    except ConflictError:
        if engine.status(record) in ALIVE:
            # Another command was faster.
            return
        raise
    detach(engine, draft, started_before=True)


def start_attached(engine: Engine, word: str, *, interactive: bool) -> tuple[Record, Outcome]:
    """Start an existing container in the foreground; return its record and how it ended."""
    removal.reconcile(engine.store)
    record = engine.find(word)
    with Foreground() as foreground:
        draft = redraft(engine, record)
        draft.record.open_stdin = interactive
        return record, engine.attend(draft, foreground)


def detach(engine: Engine, draft: Draft, *, started_before: bool) -> None:
    """Fork the process that launches the container and stays with it; raise what it reports."""
    ready, told = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid = posix.fork()
    except OSError as error:
        engine.abandon(draft, error)
        raise KernelError("start the monitor", "", error, call="fork") from None
    if pid == 0:
        posix.close(ready)
        _in_child(engine, draft, told, started_before)
    posix.close(told)
    # The child's copy keeps the lock.
    posix.close(draft.lock.fd)
    answer = _read_all(ready)
    if answer == _OK:
        return
    posix.waitpid(pid, 0)
    raise _told(answer)


def _in_child(engine: Engine, draft: Draft, told: int, started_before: bool) -> None:
    """Launch, answer, stay. Nothing returns into the caller's code from here."""
    status = 125
    try:
        posix.setsid()
        status = _launch_and_stay(engine, draft, told, started_before)
    except PycontainError as error:
        fields = [error.message, error.hint, error.exit_status]
        posix.write(told, codec.dumps(fields))
    except OSError as error:
        shown = KernelError("start the container", error.filename or "", error)
        posix.write(told, codec.dumps([shown.message, "", 125]))
    except BaseException as error:
        posix.write(told, codec.dumps([_damage(draft, error), "", 125]))
    finally:
        posix._exit(status)


def _damage(draft: Draft, error: BaseException) -> str:
    """Return what is wrong with the Spec of a container that was made before, if it is that."""
    from pycontain.runtime import validate

    try:
        validate.validate(draft.spec, f"{draft.directory}/config.json")
    except PycontainError as found:
        return found.message
    return f"internal error: {type(error).__name__}: {error}"


def _launch_and_stay(engine: Engine, draft: Draft, told: int, started_before: bool) -> int:
    watch = monitor.launch(engine, draft, keep=started_before)
    posix.write(told, _OK)
    posix.close(told)
    return monitor.stay(engine, draft, watch)


def _told(answer: bytes) -> PycontainError:
    if not answer:
        return PycontainError("the monitor died before the container ran")
    fields: Any = codec.loads(answer, "answer of the monitor")
    return ToldError(str(fields[0]), str(fields[1]), int(fields[2]))


def _read_all(fd: int) -> bytes:
    content = b""
    while more := posix.read(fd, 65536):
        content += more
        if content == _OK:
            # The monitor goes on; its end of the pipe closes by itself.
            break
    posix.close(fd)
    return content
