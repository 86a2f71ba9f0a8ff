"""What the user means: a container made from an image, run, watched, stopped, removed.

Each verb of `Engine` reads as its list of steps; this is the table of contents of the project. A
container has one responsible process, the holder of its lock: the command in the foreground, or
the monitor of a detached one. Whatever that process cannot undo because it was killed, the next
command undoes (`removal.reconcile`).
"""

from __future__ import annotations

import posix
import time

from pycontain.engine import removal
from pycontain.engine.draft import Maker
from pycontain.engine.record import Exit
from pycontain.engine.store import Store
from pycontain.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PycontainError,
)
from pycontain.runtime import container as containers
from pycontain.runtime.foreground import Foreground, console_pair, reap, receive_console
from pycontain.runtime.launch import LaunchOptions
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontain.engine.draft import Draft
    from pycontain.engine.record import Record
    from pycontain.engine.store import Lock
    from pycontain.oci.runtime import Process, Spec
    from pycontain.runtime.container import Container
    from pycontain.runtime.launch import Init
    from pycontain.spec.options import RunOptions

SIGKILL = 9
LOCK_WAIT_S = 10.0
LOST_AFTER_S = 1.0
"""How long a container may have no state that can be read before it is taken for lost."""


class Outcome:
    """How a container in the foreground ended; `limit` and `peak` in bytes, -1 unknown."""

    __slots__ = ("limit", "oom", "peak", "status")

    def __init__(self, status: int) -> None:
        self.status = status
        self.oom = False
        self.limit = -1
        self.peak = -1

    def report(self, name: str) -> str:
        """Return the line that says why the kernel killed it, "" when it did not."""
        if not self.oom:
            return ""
        limit = (
            f"memory limit {self.limit} bytes" if self.limit > 0 else "no memory limit of its own"
        )
        peak = f", peak {self.peak} bytes" if self.peak > 0 else ""
        return f"container {name} was killed: out of memory ({limit}{peak})"


class Engine:
    """The containers and images under a data root and a state root."""

    __slots__ = ("maker", "store")

    def __init__(self, data_root: str, state_root: str) -> None:
        self.store = Store(data_root, state_root)
        self.maker = Maker(self.store)

    # making and running

    def create(self, options: RunOptions, image: str, command: Sequence[str]) -> Record:
        """Make a container without starting it."""
        removal.reconcile(self.store)
        draft = self.maker.make(options, image, command, start=False)
        draft.lock.release()
        return draft.record

    def run(
        self, options: RunOptions, image: str, command: Sequence[str]
    ) -> tuple[Record, Outcome]:
        """Run a container in the foreground; return its record and how it ended.

        Nothing is left of it with --rm, and nothing but the record and its files without.
        """
        removal.reconcile(self.store)
        with Foreground(sig_proxy=options.sig_proxy) as foreground:
            draft = self.maker.make(options, image, command)
            return draft.record, self.attend(draft, foreground, timeline=options.timeline)

    def attend(self, draft: Draft, foreground: Foreground, *, timeline: bool = False) -> Outcome:
        """Launch a made container, stay until it ends, and clear up behind it."""
        record = draft.record
        started = time.time()
        try:
            container, init, console = self.launch(draft, timeline=timeline)
        except BaseException as error:
            self.abandon(draft, error)
            raise
        try:
            status = foreground.attend(init.pidfd, console, typing=record.open_stdin)
            outcome = Outcome(status)
            self.finish(record, draft.lock, container, outcome, started)
        except BaseException:
            self.cut_short(draft, container, init.pidfd, started)
            raise
        return outcome

    def cut_short(
        self,
        draft: Draft,
        container: Container,
        pidfd: int,
        started: float,
        outcome: Outcome | None = None,
    ) -> None:
        """Kill a container that nobody will attend any more, and clear up behind it.

        `outcome` tells that its init was reaped already.
        """
        try:
            container.kill_init()
            outcome = outcome or Outcome(reap(pidfd))
            self.finish(draft.record, draft.lock, container, outcome, started)
        except PycontainError:
            # The error on its way is the cause; what is left, `reconcile` removes.
            draft.lock.release(keep_file=True)

    def launch(self, draft: Draft, *, timeline: bool = False) -> tuple[Container, Init, int]:
        """Start a made container on this process's standard streams.

        Returns the container, its init and the master of its terminal (-1 without one).
        """
        record, how = draft.record, LaunchOptions()
        near = far = null = -1
        how.rootfs_mounts = draft.rootfs_mounts
        how.timeline = timeline
        if record.tty:
            near, far = console_pair()
            how.console = far
            set_console_size(draft.spec["process"])
        elif not record.open_stdin:
            null = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
            how.stdio = (null, 1, 2)
        try:
            container, init = self.start_init(record, draft.spec, draft.directory, how)
        finally:
            for fd in (far, null):
                if fd >= 0:
                    posix.close(fd)
        try:
            return container, init, receive_console(near) if near >= 0 else -1
        except BaseException:
            container.delete(force=True)
            raise

    def start_init(
        self, record: Record, spec: Spec, directory: str, how: LaunchOptions
    ) -> tuple[Container, Init]:
        """Hand the bundle to the runtime."""
        return containers.run(
            self.store.run_root, record.id, directory, spec, how, manager_kind=record.cgroup_manager
        )

    def finish(
        self, record: Record, lock: Lock, container: Container, outcome: Outcome, started: float
    ) -> None:
        """Clear up behind a container whose init was reaped; record its end unless --rm."""
        if outcome.status:
            outcome.oom, outcome.limit, outcome.peak = container.cgroup.oom()
        container.delete(force=True)
        if record.auto_remove:
            lock.tell(record.name, outcome.status)
            removal.remove_files(self.store, record.id, record.name, record)
        else:
            self.store.save_exit(record.id, exit_of(outcome, started))
        lock.release()

    def abandon(self, draft: Draft, error: BaseException, *, keep: bool = False) -> None:
        """A start failed: --rm leaves nothing; else the container stays and knows why.

        `keep` is for one that existed before, whatever the failure.
        """
        record = draft.record
        if record.auto_remove or not (keep or isinstance(error, PycontainError)):
            try:
                removal.remove(self.store, record, draft.lock, volumes=True)
            except PycontainError:
                # The error on its way is the cause; what is left, `reconcile` removes.
                draft.lock.release(keep_file=True)
            return
        self.give_up(record, draft.lock, error)

    def give_up(self, record: Record, lock: Lock, error: BaseException) -> None:
        """Record why a container could not be started, and give its lock up."""
        end = Exit(125, time.time(), time.time())
        if isinstance(error, PycontainError):
            end.status, end.error = error.exit_status, str(error)
        elif isinstance(error, OSError):
            end.error = str(error)
        try:
            self.store.save_exit(record.id, end)
        finally:
            lock.release()

    # one container

    def find(self, word: str) -> Record:
        """Return the record a name or the beginning of an id stands for."""
        return self.store.load(self.store.find(word))

    def status(self, record: Record) -> str:
        """Return created, running, paused, restarting or exited, as it is now."""
        try:
            status = containers.load(self.store.run_root, record.id).status()
        except PycontainError:
            status = ""
        if status in ("running", "paused"):
            return status
        if record.restart[0] != "no" and self._restarts(record.id):
            return "restarting"
        if status or self.store.load_exit(record.id) is not None:
            return "exited"
        # Neither running nor ended: not started yet, or the host went down under it.
        if not record.ran:
            return "created"
        if not self.store.is_locked(record.id):
            return "exited"
        return "running" if record.runtime else "created"

    def _restarts(self, identity: str) -> bool:
        """Return whether the policy is about to start a container that ended again."""
        from pycontain.engine.restart import is_announced

        return is_announced(self.store.directory(identity)) and self.store.is_locked(identity)

    def started(self, record: Record) -> float:
        """Return when a running container was started; now, if it has just ended."""
        try:
            return containers.load(self.store.run_root, record.id).state.created
        except PycontainError:
            return time.time()

    def pid(self, record: Record) -> int:
        """Return the pid of a running container's init, as the host sees it; 0 if it is gone."""
        try:
            return containers.load(self.store.run_root, record.id).pid
        except PycontainError:
            return 0

    def spec(self, record: Record) -> dict[str, Any]:
        """Return the Spec of a container, {} when it is gone."""
        try:
            return {**containers.load(self.store.run_root, record.id).config()}
        except PycontainError:
            pass
        try:
            return self.store.config(record.id)
        except NotFoundError:
            return {}

    def applied(self, record: Record) -> list[dict[str, str]]:
        """Return each limit of a running container as it was asked for and as the kernel has it."""
        try:
            container = containers.load(self.store.run_root, record.id)
        except PycontainError:
            return []
        return container.cgroup.applied(container.config().get("linux", {}).get("resources", {}))

    def running(self, word: str) -> tuple[Record, Container]:
        """Return a running (or paused) container; raises ConflictError when it does not run."""
        record = self.find(word)
        try:
            container = containers.load(self.store.run_root, record.id)
        except (NotFoundError, InvalidError):
            # Invalid: it is being made or removed at this moment.
            raise ConflictError(f"container {record.name} is not running") from None
        if container.status() not in ("running", "paused"):
            raise ConflictError(f"container {record.name} is not running")
        return record, container

    def kill(self, word: str, signal: int) -> None:
        """Send a signal to the init of a running container; after SIGKILL wait for its end."""
        record = self.find(word)
        stamp = self.store.exit_stamp(record.id)
        if record.runtime:
            from pycontain.engine import foreign

            foreign.kill(self.store, record, signal)
        else:
            final = signal in (SIGKILL, record.stop_signal)
            if not (final and self._no_restart(record)):
                self.running(record.id)[1].kill(signal)
        if signal == SIGKILL:
            self._settle(record, stamp)

    def stop(self, word: str, seconds: int | None = None, signal: int | None = None) -> None:
        """Ask a container to end, wait, then kill it; one that does not run is left as it is."""
        record = self.find(word)
        if record.runtime and self.status(record) == "running":
            from pycontain.engine import foreign

            foreign.end(self.store, record, seconds, signal)
            return
        stamp = self.store.exit_stamp(record.id)
        # Its monitor may be waiting to start it again.
        self._no_restart(record)
        container = self._alive(record)
        pidfd = self._pidfd(container) if container else -1
        if container is None or pidfd < 0:
            return
        try:
            container.kill(signal or record.stop_signal)
            limit = record.stop_timeout if seconds is None else seconds
            if container.status() == "paused":
                container.resume()
            if not wait_pidfd(pidfd, limit if limit >= 0 else None):
                container.kill(SIGKILL)
                wait_pidfd(pidfd, LOCK_WAIT_S)
        except ConflictError:
            # It ended between two of the steps.
            pass
        finally:
            posix.close(pidfd)
        self._settle(record, stamp)

    def _no_restart(self, record: Record) -> bool:
        """Tell the monitor that this end is wanted; return whether it was waiting to restart."""
        if record.restart[0] == "no":
            return False
        from pycontain.engine.restart import want_end

        return want_end(self.store.directory(record.id))

    def _settle(self, record: Record, stamp: int) -> None:
        """Wait until the responsible process has cleared up; `stamp` is from before the end.

        A lock that stays may be that of the next start.
        """
        end = time.monotonic() + LOCK_WAIT_S
        while self.store.is_locked(record.id) and time.monotonic() < end:
            if self.store.exit_stamp(record.id) != stamp:
                return
            time.sleep(0.005)

    def _alive(self, record: Record) -> Container | None:
        """Return a container that runs, None when it does not and nobody is responsible for it.

        One that is being made or removed is waited for. One that somebody is responsible for and
        whose state is gone was deleted or damaged: its cgroup is what is left to end it by.
        """
        now = time.monotonic()
        end, lost = now + LOCK_WAIT_S, now + LOST_AFTER_S
        while True:
            locked = self.store.is_locked(record.id)
            try:
                container = containers.load(self.store.run_root, record.id)
                if container.status() in ("running", "paused"):
                    return container
                lost = time.monotonic() + LOST_AFTER_S
            except PycontainError:
                pass
            if not locked:
                return None
            now = time.monotonic()
            if now > end:
                raise self.store.in_use(record.id, record.name)
            if now > lost:
                removal.stop_lost(self.store, record.id, record)
            time.sleep(0.01)

    def _pidfd(self, container: Container) -> int:
        try:
            pidfd = posix.pidfd_open(container.pid)
        except ProcessLookupError:
            return -1
        if container.status() not in ("running", "paused"):
            posix.close(pidfd)
            return -1
        return pidfd

    def wait(self, word: str) -> int:
        """Wait until a container ends; return its exit status (0 when it never ran)."""
        record = self.find(word)
        stamp = self.store.exit_stamp(record.id)
        last_words = self.store.last_words(record.id)
        try:
            _, container = self.running(record.id)
            pidfd = self._pidfd(container)
        except (ConflictError, NotFoundError):
            pidfd = -1
        if pidfd >= 0:
            wait_pidfd(pidfd, None)
            posix.close(pidfd)
        # Its end is recorded a moment after it ended.
        self._settle(record, stamp)
        found = self.store.load_exit(record.id)
        told = last_words() if found is None else -1
        if found is None and told < 0 and not self.store.exists(record.id):
            raise NotFoundError(f"container {record.name}: removed before its end was seen")
        return found.status if found else max(0, told)

    def pause(self, word: str) -> None:
        """Freeze every process of a container."""
        self.running(word)[1].pause()

    def unpause(self, word: str) -> None:
        """Let the processes of a frozen container go on."""
        self.running(word)[1].resume()

    def rename(self, word: str, name: str) -> None:
        """Give a container another name."""
        record = self.find(word)
        old = record.name
        self.store.claim_name(name, record.id)
        record.name = name
        try:
            self.store.save(record)
        except BaseException:
            self.store.release_name(name, record.id)
            raise
        self.store.release_name(old, record.id)
        if not self.store.exists(record.id):
            # --rm was faster, and may not have seen the new name.
            self.store.release_name(name, record.id)
            raise NotFoundError(f"container {old}: not found")

    def remove(self, word: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; one that runs, or whose record is lost, only with `force`."""
        try:
            record = self.find(word)
        except (InvalidError, NotFoundError):
            damaged = self.store.find_damaged(word) if force else ""
            if not damaged:
                raise
            removal.remove_damaged(self.store, damaged, wait=LOCK_WAIT_S)
            return
        if force:
            self._no_restart(record)
            end = time.monotonic() + LOCK_WAIT_S
            while self._alive(record) and time.monotonic() < end:
                self._kill_hard(record)
        elif (status := self.status(record)) in ("running", "paused", "restarting"):
            hint = "stop it first, or use rm -f"
            raise ConflictError(f"container {record.name} is {status}", hint=hint)
        lock = self.store.lock_now(record.id, wait=LOCK_WAIT_S)
        if not self.store.exists(record.id):
            # --rm was faster.
            lock.release()
            return
        removal.remove(self.store, record, lock, volumes=volumes or record.auto_remove)

    def _kill_hard(self, record: Record) -> None:
        try:
            self.kill(record.id, SIGKILL)
        except (ConflictError, NotFoundError):
            return


def set_console_size(process: Process) -> None:
    """Give the process's terminal the size of ours from its first moment on, if we have one."""
    for fd in (0, 1, 2):
        try:
            size = posix.get_terminal_size(fd)
        except OSError:
            continue
        if size.lines and size.columns:
            process["consoleSize"] = {"height": size.lines, "width": size.columns}
            return


def exit_of(outcome: Outcome, started: float) -> Exit:
    """Return the record of an end."""
    end = Exit(outcome.status, started, time.time())
    end.oom, end.peak = outcome.oom, max(0, outcome.peak)
    return end


def wait_pidfd(pidfd: int, seconds: float | None) -> bool:
    """Wait until the process has ended; False when the time is over."""
    return bool(kernel.poll((pidfd,), -1 if seconds is None else int(seconds * 1000)))
