"""Volumes and binds: what a mount the user asked for stands for on the host.

    DATA/volumes/NAME/_data         one volume; an anonymous one is called by 64 digits
    DATA/volumes/NAME/labels.json   the labels it was made with, if any

Owns the volumes' directories and where a bind's source leads. That a destination stays inside the
rootfs is the runtime's business. DATA/volumes is locked (flock) shared while a container with
volumes is made and exclusively while a volume is removed, so what is in use is not taken away.
"""

from __future__ import annotations

import posix

from pycontain import trees
from pycontain.engine.store import new_id
from pycontain.errors import ConflictError, KernelError, NotFoundError, UsageError, quote
from pycontain.oci import codec
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pycontain.engine.store import Store
    from pycontain.oci.runtime import Mount as OciMount
    from pycontain.spec.files import Mount

TMPFS_DEFAULTS = ("nosuid", "nodev", "noexec")
LABELS_LIMIT = 1 << 20


class Volume:
    """One volume: its directory on the host, when it was made (seconds), its labels."""

    __slots__ = ("created", "labels", "name", "path")

    def __init__(self, name: str, path: str, created: float, labels: dict[str, str]) -> None:
        self.name = name
        self.path = path
        self.created = created
        self.labels = labels


def resolve(
    data_root: str, mounts: Iterable[Mount], anonymous: list[str], *, dry: bool = False
) -> tuple[list[tuple[OciMount, str]], list[tuple[str, str]]]:
    """Return (OCI mounts with origins; directory and destination of volumes to fill).

    `anonymous` takes the names of the volumes made for this container alone, as they are made. A
    missing bind source is an error, or made as a directory for -v, as docker does. `dry` makes
    neither volumes nor directories.
    """
    found: list[tuple[OciMount, str]] = []
    fill: list[tuple[str, str]] = []
    places: set[str] = set()
    for mount in mounts:
        if mount.destination in places:
            raise UsageError(f"{mount.origin}: duplicate mount point {quote(mount.destination)}")
        places.add(mount.destination)
        if mount.kind == "tmpfs":
            found.append((_tmpfs(mount), mount.origin))
            continue
        source = mount.source
        if mount.kind == "volume":
            name = mount.source or new_id()
            if dry:
                source = f"{data_root}/volumes/{name}/_data"
            else:
                if not mount.source:
                    anonymous.append(name)
                fresh, source = make(data_root, name)
                if fresh and mount.copy:
                    fill.append((source, mount.destination))
        else:
            _check_source(mount, dry=dry)
        found.append((_bind(source, mount), mount.origin))
    return found, fill


def hold(data_root: str, operation: int) -> int:
    """Return a descriptor that holds the lock of all volumes (LOCK_SH or LOCK_EX) until closed."""
    path = data_root + "/volumes"
    trees.make_directories(path)
    try:
        fd = posix.open(path, trees.DIRECTORY)
    except OSError as error:
        raise KernelError("open volumes", path, error) from None
    try:
        kernel.flock(fd, operation)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def make(data_root: str, name: str, labels: dict[str, str] | None = None) -> tuple[bool, str]:
    """Make a volume if it is missing; return (whether it is new, its directory)."""
    directory = f"{data_root}/volumes/{name}"
    path = directory + "/_data"
    try:
        posix.stat(path)
        return False, path
    except FileNotFoundError:
        trees.make_directories(directory)
    except OSError as error:
        raise KernelError("make volume", path, error, call="stat") from None
    try:
        if labels:
            trees.write_atomic(directory + "/labels.json", codec.dumps(labels))
        posix.mkdir(path, 0o755)
        posix.chmod(path, 0o755)
    except FileExistsError:
        return False, path
    except OSError as error:
        raise KernelError("make volume", path, error, call="mkdir") from None
    return True, path


def every(data_root: str) -> list[Volume]:
    """Return all volumes by name; one that is half made or half removed is none."""
    try:
        names = posix.listdir(data_root + "/volumes")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KernelError("list volumes", data_root + "/volumes", error) from None
    found = []
    for name in sorted(names):
        try:
            found.append(load(data_root, name))
        except NotFoundError:
            continue
    return found


def load(data_root: str, name: str) -> Volume:
    """Return the volume of this name; raises NotFoundError."""
    directory = f"{data_root}/volumes/{name}"
    if not _may_be(name):
        raise _missing(name)
    try:
        path = directory + "/_data"
        posix.stat(path)
        created = posix.stat(directory).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(name) from None
    except OSError as error:
        raise KernelError("read volume", directory, error, call="stat") from None
    return Volume(name, path, created, _labels(directory + "/labels.json"))


def _may_be(name: str) -> bool:
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"volume {quote(name) or repr(name)}: not found",
                         hint="see: pycontain volume ls")  # fmt: skip


def _labels(path: str) -> dict[str, str]:
    try:
        document = codec.load_object(trees.read_file(path, LABELS_LIMIT), path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KernelError("read labels", path, error) from None
    return {key: str(value) for key, value in document.items()}


class Users:
    """Which containers have which volumes; stopped ones have theirs, too.

    `unknown` are those whose record is damaged, by id: each may have any volume.
    """

    __slots__ = ("known", "unknown")

    def __init__(self, store: Store) -> None:
        self.known: dict[str, list[str]] = {}
        self.unknown: list[str] = []
        for record in store.records(damaged=self.unknown.append):
            for mount in record.mounts:
                if mount["Type"] == "volume":
                    self.known.setdefault(mount["Name"], []).append(record.name)

    def of(self, name: str) -> list[str]:
        """Return the containers that have a volume, or may have it."""
        return self.known.get(name, []) + self.unknown


def remove_unused(store: Store, name: str) -> None:
    """Remove a volume; raises NotFoundError, and ConflictError when a container has it."""
    lock = hold(store.root, c.LOCK_EX)
    try:
        load(store.root, name)
        users = Users(store)
        if names := users.known.get(name):
            raise ConflictError(
                f"volume {name} is in use by container {', '.join(names)}",
                hint="remove the container first",
            )
        if users.unknown:
            raise ConflictError(
                f"volume {name} may be in use by container {users.unknown[0][:12]}, "
                "whose record is damaged",
                hint=f"pycontain rm -f {users.unknown[0][:12]} removes that container",
            )
        remove(store.root, name)
    finally:
        posix.close(lock)


def remove_anonymous(store: Store, names: list[str]) -> None:
    """Remove the anonymous volumes of a container that is gone; what another has stays."""
    lock = hold(store.root, c.LOCK_EX)
    try:
        users = Users(store)
        for name in names:
            if not users.of(name):
                remove(store.root, name)
    finally:
        posix.close(lock)


def remove(data_root: str, name: str) -> None:
    """Remove a volume; missing is no error, and what cannot be one is left alone."""
    if not _may_be(name):
        return
    try:
        trees.remove(f"{data_root}/volumes/{name}")
    except OSError as error:
        raise KernelError("remove volume", f"{data_root}/volumes/{name}", error) from None


def remove_all(data_root: str, names: list[str]) -> None:
    """Remove several volumes."""
    for name in names:
        remove(data_root, name)


def image_volumes(volumes: object, taken: set[str]) -> list[Mount]:
    """Return a mount for each volume the image declares and no option covers."""
    from pycontain.errors import InvalidError
    from pycontain.spec.files import Mount, clean_path

    found = []
    for path in volumes if isinstance(volumes, dict) else ():
        place = clean_path(path)
        if not path.startswith("/") or "\0" in path or place == "/":
            raise InvalidError(
                f"image volume {quote(path)}: expected an absolute path other than /"
            )
        if place not in taken:
            found.append(Mount("volume", "", place, [], f"image volume {path}"))
    return found


def _tmpfs(mount: Mount) -> OciMount:
    words = [word for word in TMPFS_DEFAULTS if word.removeprefix("no") not in mount.options]
    extra = [word for word in mount.options if word not in words]
    if not any(word.startswith("mode=") for word in extra):
        extra.append("mode=1777")
    return {
        "destination": mount.destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": words + extra,
    }


def _bind(source: str, mount: Mount) -> OciMount:
    words = ["bind" if "bind" in mount.options else "rbind"]
    words += [word for word in mount.options if word != "bind"]
    if not any(word.lstrip("r") in ("private", "shared", "slave") for word in words):
        words.append("rprivate")
    return {"destination": mount.destination, "type": "bind", "source": source, "options": words}


def _check_source(mount: Mount, *, dry: bool) -> None:
    try:
        posix.stat(mount.source)
        return
    except FileNotFoundError:
        if not mount.create:
            raise UsageError(f"{mount.origin}: {quote(mount.source)} does not exist") from None
    except OSError as error:
        raise KernelError("bind source", mount.source, error) from None
    if not dry:
        trees.make_directories(mount.source, 0o755)


def listing(asked: Iterable[Mount], mounts: list[tuple[Any, str]]) -> list[dict[str, object]]:
    """Return the mounts as inspect shows them; `mounts` is what `resolve` made of `asked`."""
    found: list[dict[str, object]] = []
    for wish, (mount, origin) in zip(asked, mounts, strict=True):
        row = {"Type": wish.kind, "Source": mount["source"], "Destination": mount["destination"],
               "RW": "ro" not in mount["options"], "Origin": origin}  # fmt: skip
        if wish.kind == "volume":
            row |= {"Name": mount["source"].split("/")[-2], "Driver": "local"}
        found.append(row)
    return found
