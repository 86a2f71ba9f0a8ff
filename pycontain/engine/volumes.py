"""Volumes and binds: what a mount the user asked for stands for on the host.

    DATA/volumes/NAME/_data     one volume; an anonymous one is called by 64 digits

Owns the volumes' directories and where a bind's source leads. That a destination stays inside the
rootfs is the runtime's business.
"""

from __future__ import annotations

import posix

from pycontain import trees
from pycontain.engine.store import new_id
from pycontain.errors import KernelError, UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pycontain.oci.runtime import Mount as OciMount
    from pycontain.spec.files import Mount

TMPFS_DEFAULTS = ("nosuid", "nodev", "noexec")


def resolve(
    data_root: str, mounts: Iterable[Mount], anonymous: list[str]
) -> tuple[list[tuple[OciMount, str]], list[tuple[str, str]]]:
    """Return (OCI mounts with origins; directory and destination of volumes to fill).

    `anonymous` takes the names of the volumes made for this container alone, as they are made. A
    missing bind source is an error, or made as a directory for -v, as docker does.
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
            if not mount.source:
                anonymous.append(name)
            fresh, source = make(data_root, name)
            if fresh and mount.copy:
                fill.append((source, mount.destination))
        else:
            _check_source(mount)
        found.append((_bind(source, mount), mount.origin))
    return found, fill


def make(data_root: str, name: str) -> tuple[bool, str]:
    """Make a volume if it is missing; return (whether it is new, its directory)."""
    path = f"{data_root}/volumes/{name}/_data"
    try:
        posix.stat(path)
        return False, path
    except FileNotFoundError:
        trees.make_directories(path.rpartition("/")[0])
    try:
        posix.mkdir(path, 0o755)
        posix.chmod(path, 0o755)
    except FileExistsError:
        return False, path
    except OSError as error:
        raise KernelError("make volume", path, error, call="mkdir") from None
    return True, path


def remove(data_root: str, name: str) -> None:
    """Remove a volume; missing is no error."""
    try:
        trees.remove(f"{data_root}/volumes/{name}")
    except OSError as error:
        raise KernelError("remove volume", name, error) from None


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


def _check_source(mount: Mount) -> None:
    try:
        posix.stat(mount.source)
        return
    except FileNotFoundError:
        if not mount.create:
            raise UsageError(f"{mount.origin}: {quote(mount.source)} does not exist") from None
    except OSError as error:
        raise KernelError("bind source", mount.source, error) from None
    trees.make_directories(mount.source, 0o755)


def listing(mounts: list[tuple[Any, str]]) -> list[dict[str, object]]:
    """Return the mounts as inspect shows them."""
    return [
        {"Type": mount["type"], "Source": mount["source"], "Destination": mount["destination"],
         "RW": "ro" not in mount["options"], "Origin": origin}
        for mount, origin in mounts
    ]  # fmt: skip
