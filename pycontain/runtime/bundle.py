"""A bundle on disk: config.json and the root file system it names.

Reads and validates; makes nothing. A bundle is hostile: config.json may be a fifo, a link, huge.
"""

from __future__ import annotations

import posix

from pycontain.errors import InvalidError, KernelError
from pycontain.oci import codec
from pycontain.runtime import features, tolerate, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Process, Spec

CONFIG_LIMIT = 16 << 20
"""Bytes; the largest config.json seen from an engine holds 60 kB."""


class Bundle:
    """A bundle that was read: its absolute `path`, the valid `spec`, the `raw` bytes of the file.

    root.path of the spec is absolute and without links; `notes` are warnings for the log.
    """

    __slots__ = ("notes", "path", "raw", "spec")

    def __init__(self, path: str, spec: Spec, raw: bytes, notes: list[str]) -> None:
        self.path = path
        self.spec = spec
        self.raw = raw
        self.notes = notes


def load(path: str = ".", config: str = "") -> Bundle:
    """Return the bundle in directory `path`; `config` names another file than its config.json.

    Raises InvalidError for what the document holds, KernelError for what cannot be opened,
    UnsupportedError for what this host lacks.
    """
    directory = real_directory(path, "open bundle")
    raw = read_document(config or directory + "/config.json")
    spec = validate.validate(codec.loads(raw, "config.json"))
    features.refuse(spec)
    root = spec["root"]["path"]
    wanted = root if root.startswith("/") else f"{directory}/{root}"
    spec["root"]["path"] = real_directory(wanted, "open rootfs")
    notes = tolerate.adjust(spec)
    return Bundle(directory, spec, raw, notes)


def load_process(path: str) -> Process:
    """Return the process object in the file `path` (`exec --process`); raises as `load`."""
    return validate.validate_process(codec.loads(_read_any(path), path), path)


def _read_any(path: str) -> bytes:
    """Return the bytes of a file or, since callers write `--process <(…)`, of a pipe."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOCTTY)
    except ValueError:
        raise InvalidError("path of a document holds a NUL byte") from None
    except OSError as error:
        raise KernelError("open", path, error) from None
    try:
        return read_all(fd, path)
    finally:
        posix.close(fd)


def real_directory(path: str, action: str) -> str:
    """Return the absolute path, without links, of the directory `path`."""
    try:
        fd = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except ValueError:
        raise InvalidError(f"{action}: path holds a NUL byte") from None
    except OSError as error:
        raise KernelError(action, path, error, call="open") from None
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def read_document(path: str) -> bytes:
    """Return the bytes of a regular file of at most CONFIG_LIMIT bytes."""
    try:
        # Without O_NONBLOCK a fifo in the place of config.json would hang us.
        fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY)
    except ValueError:
        raise InvalidError("path of a document holds a NUL byte") from None
    except OSError as error:
        raise KernelError("open", path, error) from None
    try:
        status = posix.fstat(fd)
        if status.st_mode & 0o170000 != 0o100000:
            raise InvalidError(f"{path}: not a regular file")
        if status.st_size > CONFIG_LIMIT:
            raise InvalidError(f"{path}: larger than {CONFIG_LIMIT >> 20} MiB")
        return read_all(fd, path)
    finally:
        posix.close(fd)


def read_all(fd: int, what: str) -> bytes:
    """Return everything that comes out of `fd`, a pipe too; InvalidError beyond CONFIG_LIMIT."""
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            data = posix.read(fd, 1 << 16)
        except OSError as error:
            raise KernelError("read", what, error) from None
        if not data:
            return b"".join(parts)
        parts.append(data)
        size += len(data)
        if size > CONFIG_LIMIT:
            raise InvalidError(f"{what}: larger than {CONFIG_LIMIT >> 20} MiB")
