"""The containers on disk: ids, names, records, and who is responsible for each.

    DATA/containers/ID/     record.json, config.json, exit.json, upper/ work/, hosts …, log
    DATA/names/NAME         symlink to the id: made by O_EXCL semantics, so one of many makers wins
    STATE/locks/ID          held by flock(2) while a process is responsible for the container; holds
                            its name, so what a crash left can be undone, and with --rm its exit
                            status at last, for who waits and has the file open
    STATE/containers/ID     the OCI runtime's state

A directory without record.json is half made. Whether a container runs is never stored: it is
derived from the runtime's state. A lock that nobody holds belongs to a process that died;
`reconcile` undoes what it left. Locks live on a tmpfs: after a reboot there are none, and nothing
runs.
"""

from __future__ import annotations

import posix
import time
from errno import EINVAL, ELOOP, ENOENT

from pycontain import trees
from pycontain.engine.record import Exit, Record
from pycontain.errors import ConflictError, InvalidError, KernelError, NotFoundError, quote
from pycontain.oci import codec
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RECORD_LIMIT = 4 << 20


class Lock:
    """The right to change one container; `fd` is held by whoever is responsible for it."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    def write(self, name: str) -> None:
        """Note the name of the container, for who has to undo what is left of it."""
        try:
            posix.ftruncate(self.fd, 0)
            posix.pwrite(self.fd, name.encode(), 0)
        except OSError as error:
            raise KernelError("write lock", self.path, error) from None

    def tell(self, name: str, status: int) -> None:
        """Leave the exit status of a container that is removed now, for who may wait."""
        try:
            posix.pwrite(self.fd, f"{name}\n{status}\n".encode(), 0)
        except OSError:
            # The file system is full: nobody hears of it, and the removal makes room.
            return

    def release(self, *, keep_file: bool = False) -> None:
        """Give the container up; the file goes first, so nobody locks one without a name."""
        if self.fd < 0:
            return
        if not keep_file:
            _unlink(self.path)
        posix.close(self.fd)
        self.fd = -1


class Store:
    """The containers under one data root and one state root."""

    __slots__ = ("root", "state")

    def __init__(self, data_root: str, state_root: str) -> None:
        self.root = data_root
        self.state = state_root

    @property
    def run_root(self) -> str:
        """Where the OCI runtime keeps its state of our containers."""
        return self.state + "/containers"

    def directory(self, identity: str) -> str:
        return f"{self.root}/containers/{identity}"

    # responsibility

    def lock(self, identity: str, name: str = "") -> Lock | None:
        """Return the lock of a container, None while another process has it."""
        path = f"{self.state}/locks/{identity}"
        while True:
            fd = _open_making(
                path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW
            )
            try:
                kernel.flock(fd, c.LOCK_EX | c.LOCK_NB)
            except BlockingIOError:
                posix.close(fd)
                return None
            # Its holder may have removed it between our open and our lock: then it locks nothing.
            if posix.fstat(fd).st_nlink:
                break
            posix.close(fd)
        lock = Lock(path, fd)
        if name:
            lock.write(name)
        return lock

    def lock_now(self, identity: str, *, wait: float = 0) -> Lock:
        """Return the lock of a container; wait at most `wait` seconds, then raise ConflictError."""
        end = time.monotonic() + wait
        while True:
            lock = self.lock(identity)
            if lock is not None:
                return lock
            if time.monotonic() >= end:
                raise self.in_use(identity, identity[:12], look=wait > 0)
            time.sleep(0.01)

    def in_use(self, identity: str, name: str, *, look: bool = True) -> ConflictError:
        """Return the error of a container that cannot be had; `look` finds out who holds it."""
        hint = ""
        if look:
            from pycontain.engine import lost

            hint = lost.holders(f"{self.state}/locks/{identity}")
        return ConflictError(f"container {name} is in use by another command", hint=hint)

    def is_locked(self, identity: str) -> bool:
        """Return whether some process is responsible for the container now."""
        try:
            fd = posix.open(f"{self.state}/locks/{identity}", posix.O_RDWR | posix.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            path = f"{self.state}/locks/{identity}"
            raise KernelError("open lock", path, error) from None
        try:
            # Shared: two that ask at once must not take each other for a holder.
            kernel.flock(fd, c.LOCK_SH | c.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            posix.close(fd)
        return False

    def last_words(self, identity: str) -> Callable[[], int]:
        """Return what gives the exit status that `Lock.tell` left, -1 for none; opens the lock now.

        The file is gone when the status is of interest.
        """
        try:
            fd = posix.open(f"{self.state}/locks/{identity}", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return lambda: -1

        def read() -> int:
            words = posix.pread(fd, 256, 0).split(b"\n")
            posix.close(fd)
            return int(words[1]) if len(words) == 3 else -1

        return read

    def abandoned(self) -> list[tuple[Lock, str, str]]:
        """Return (lock, id, name) of each container whose responsible process died."""
        try:
            names = posix.listdir(self.state + "/locks")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KernelError("list locks", self.state + "/locks", error) from None
        found = []
        for identity in names:
            lock = self._lock_existing(f"{self.state}/locks/{identity}")
            if lock is not None:
                name = posix.pread(lock.fd, 256, 0).decode("ascii", "replace")
                found.append((lock, identity, name.partition("\n")[0]))
        return found

    def _lock_existing(self, path: str) -> Lock | None:
        """Return the lock of a file nobody holds; None when it is held or was just given up."""
        try:
            fd = posix.open(path, posix.O_RDWR | posix.O_CLOEXEC | posix.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KernelError("open lock", path, error) from None
        try:
            kernel.flock(fd, c.LOCK_EX | c.LOCK_NB)
            if posix.fstat(fd).st_nlink:
                return Lock(path, fd)
        except BlockingIOError:
            pass
        posix.close(fd)
        return None

    # names

    def claim_name(self, name: str, identity: str) -> None:
        """Let `name` stand for a container; raises ConflictError when another one has it."""
        path = f"{self.root}/names/{name}"
        for _ in range(3):
            try:
                posix.symlink(identity, path)
                return
            except FileNotFoundError:
                trees.make_directories(self.root + "/names")
            except FileExistsError:
                holder = self._holder(path)
                if not self._drop_stale(path):
                    raise ConflictError(
                        f'the name "{quote(name)}" is in use by container {holder[:12]}',
                        hint="remove or rename that container first",
                    ) from None
            except OSError as error:
                raise KernelError("claim name", path, error, call="symlink") from None
        raise ConflictError(f'the name "{quote(name)}" is in use')

    def _holder(self, path: str) -> str:
        try:
            return posix.readlink(path)
        except OSError:
            return ""

    def _drop_stale(self, path: str) -> bool:
        """Remove a name whose container is gone; return whether it is free now."""
        guard = posix.open(
            path.rpartition("/")[0], posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
        )
        try:
            # Two makers may see the same stale name: the second must not remove the first's new
            # one.
            kernel.flock(guard, c.LOCK_EX)
            holder = self._holder(path)
            if holder and (self.exists(holder) or self.is_locked(holder)):
                return False
            _unlink(path)
            return True
        finally:
            posix.close(guard)

    def release_name(self, name: str, identity: str) -> bool:
        """Give a name up, if it stands for this container; return whether it did."""
        path = f"{self.root}/names/{name}"
        if not name or self._holder(path) != identity:
            return False
        _unlink(path)
        return True

    # records

    def make_directory(self, identity: str) -> str:
        """Make the directory of a new container; only its owner may enter."""
        path = self.directory(identity)
        try:
            posix.mkdir(path, 0o700)
        except FileNotFoundError:
            trees.make_directories(self.root + "/containers")
            posix.mkdir(path, 0o700)
        except OSError as error:
            raise KernelError("make container directory", path, error, call="mkdir") from None
        return path

    def save(self, record: Record, *, sync: bool = True) -> None:
        """Write the record: from here on the container exists."""
        self._write(record.id, "record.json", record.document(), sync=sync)

    def save_config(self, identity: str, spec: object) -> None:
        """Write the Spec a container is made with, for its next start."""
        self._write(identity, "config.json", spec, sync=False)

    def save_exit(self, identity: str, end: Exit) -> None:
        """Write how the container ended."""
        document = {name: getattr(end, name) for name in Exit.__slots__}
        self._write(identity, "exit.json", document, sync=True)

    def _write(self, identity: str, name: str, document: object, *, sync: bool) -> None:
        path = f"{self.directory(identity)}/{name}"
        try:
            trees.write_atomic(path, codec.dumps(document), sync=sync)
        except OSError as error:
            raise KernelError("write", path, error) from None

    def load(self, identity: str) -> Record:
        """Return a container's record; raises NotFoundError, InvalidError."""
        document = self._read(identity, "record.json")
        if document is None:
            raise NotFoundError(f"container {identity[:12]}: not found")
        record = Record(identity, "")
        wrong = record.fill(document) or ("id" if record.id != identity else "")
        if wrong:
            hint = "another version of pycontain may have made it; rm -f removes it"
            what = f"record of container {identity[:12]}: {wrong} is missing or wrong"
            raise InvalidError(what, hint=hint)
        return record

    def load_exit(self, identity: str) -> Exit | None:
        """Return how the container last ended, None when it never did; 255 for damaged notes."""
        try:
            document = self._read(identity, "exit.json")
        except InvalidError as error:
            document = {"error": error.message}
        if document is None:
            return None
        end = Exit(255, 0.0, 0.0)
        end.fill(document)
        return end

    def exit_stamp(self, identity: str) -> int:
        """Return what changes with each recorded end; 0 when there is none."""
        try:
            return posix.stat(self.directory(identity) + "/exit.json").st_mtime_ns
        except OSError:
            return 0

    def config(self, identity: str) -> dict[str, Any]:
        """Return the Spec the container was made with."""
        document = self._read(identity, "config.json")
        if document is None:
            raise NotFoundError(f"container {identity[:12]}: has no config.json")
        for name in ("linux", "process", "root"):
            if not isinstance(document.get(name), dict):
                what = f"config.json of container {identity[:12]}: {name} is missing or wrong"
                raise InvalidError(what, hint="rm -f removes the container")
        return document

    def _read(self, identity: str, name: str) -> dict[str, Any] | None:
        path = f"{self.directory(identity)}/{name}"
        try:
            content = trees.read_file(path, RECORD_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (EINVAL, ELOOP):
                raise InvalidError(f"{path}: not a regular file") from None
            raise KernelError("read", path, error) from None
        return codec.load_object(content, path, lone_surrogates=True)

    def exists(self, identity: str) -> bool:
        """Return whether the container was made completely."""
        try:
            posix.stat(self.directory(identity) + "/record.json")
        except OSError:
            return False
        return True

    def ids(self) -> list[str]:
        """Return every id that has a directory, half-made ones too."""
        try:
            return [name for name in posix.listdir(self.root + "/containers") if len(name) == 64]
        except OSError as error:
            if error.errno == ENOENT:
                return []
            raise KernelError("list containers", self.root + "/containers", error) from None

    def records(self, damaged: Callable[[str], object] | None = None) -> list[Record]:
        """Return every container's record, newest first.

        One removed meanwhile is left out, and one with a damaged record: it must not hide the rest.
        `damaged` is told the ids of those.
        """
        found = []
        for identity in self.ids():
            try:
                found.append(self.load(identity))
            except NotFoundError:
                continue
            except InvalidError:
                if damaged is not None:
                    damaged(identity)
        found.sort(key=lambda record: record.created, reverse=True)
        return found

    def find(self, word: str) -> str:
        """Return the id that a name, an id, or the beginning of an id stands for."""
        if not word or "/" in word or "\0" in word or word in (".", ".."):
            raise NotFoundError(f"container {quote(word) or repr(word)}: not found")
        if len(word) == 64 and self.exists(word):
            return word
        named = self._holder(f"{self.root}/names/{word}")
        if named and self.exists(named):
            return named
        found = [known for known in self.ids() if known.startswith(word) and self.exists(known)]
        if len(found) > 1:
            raise ConflictError(f"container id {quote(word)} is ambiguous: {len(found)} match")
        if not found:
            raise NotFoundError(f"container {quote(word)}: not found", hint="see: pycontain ps -a")
        return found[0]

    def find_damaged(self, word: str) -> str:
        """Return the id of a directory whose record may be lost, by name or whole id; else ""."""
        if "/" in word or "\0" in word:
            return ""
        identity = self._holder(f"{self.root}/names/{word}") or word
        return identity if identity in self.ids() else ""

    def release_names(self, identity: str) -> None:
        """Give up every name that stands for this container."""
        path = self.root + "/names"
        try:
            names = posix.listdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise KernelError("list names", path, error) from None
        for name in names:
            self.release_name(name, identity)


def new_id() -> str:
    """Return a fresh container id: 64 hexadecimal digits."""
    return posix.urandom(32).hex()


def _open_making(path: str, flags: int) -> int:
    try:
        return posix.open(path, flags, 0o600)
    except FileNotFoundError:
        trees.make_directories(path.rpartition("/")[0])
    except OSError as error:
        raise KernelError("open lock", path, error) from None
    try:
        return posix.open(path, flags, 0o600)
    except OSError as error:
        raise KernelError("open lock", path, error) from None


def _unlink(path: str) -> None:
    try:
        posix.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError("remove", path, error, call="unlink") from None
