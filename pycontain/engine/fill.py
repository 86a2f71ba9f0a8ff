"""A new volume starts with what the image has at its destination, as docker's do.

Read from the unpacked layers through `lookup`, where every link ends at the image's root; written
into a directory that nobody else uses yet. Cold: only a container with new volumes comes here.
"""

from __future__ import annotations

import os
import stat

from pycontain.engine.lookup import Layers
from pycontain.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.lookup import Place


def fill(layers: Sequence[str], empty: Sequence[tuple[str, str]]) -> None:
    """Copy the image's files into each (volume directory, destination), if it has them."""
    if not empty:
        return
    view = Layers(layers)
    try:
        for directory, destination in empty:
            found = view.find(destination)
            if found is not None and stat.S_ISDIR(view.status(found).st_mode):
                _copy_directory(view, found, directory)
    except OSError as error:
        raise KernelError("fill volume", error.filename or "", error) from None
    finally:
        view.close()


def _copy_directory(view: Layers, place: Place, target: str) -> None:
    for name in view.names(place):
        child = view.child(place, name)
        if child is not None:
            _copy(view, child, f"{target}/{name}")
    _copy_metadata(view, place, target)


def _copy(view: Layers, place: Place, target: str) -> None:
    status = view.status(place)
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(target, 0o700)
        _copy_directory(view, place, target)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(view.readlink(place), target)
    elif stat.S_ISREG(status.st_mode):
        _copy_content(view, place, target)
    else:
        # Devices, fifos and sockets are not data.
        return
    _copy_metadata(view, place, target)


def _copy_content(view: Layers, place: Place, target: str) -> None:
    source = view.open(place, os.O_RDONLY | os.O_NONBLOCK)
    try:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while os.sendfile(copy, source, None, 1 << 24):
                pass
        finally:
            os.close(copy)
    finally:
        os.close(source)


def _copy_metadata(view: Layers, place: Place, target: str) -> None:
    status = view.status(place)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
