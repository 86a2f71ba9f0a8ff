"""A rootfs by overlayfs: lower directories, upper and work per container.

Owns the mount's options. Nothing is mounted here: the container's first process mounts it in its
own namespace. mount(2) takes one page of options, and 127 layers by full path need 12 kB: when
they do not fit, the lower directories become short names relative to the mount's `cwd`, the
directory the mounting process must be in. Source: Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import posix

from pycontain.errors import KernelError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.rootfs.snapshotter import Snapshotter

SHORT = 26
"""Digits of a chain ID in a short name: 104 bits, and 127 of them fit the page."""
MAX_LAYERS = 127
"""What docker takes too."""
_PAGE = 4096 - 1


def prepare(
    snapshots: Snapshotter,
    container_dir: str,
    chain_ids: list[str],
    *,
    volatile: bool,
    userxattr: bool,
) -> list[dict[str, Any]]:
    """Make upper and work; return the overlay mount. See `Snapshotter.prepare`."""
    if len(chain_ids) > MAX_LAYERS:
        raise UnsupportedError(f"image has {len(chain_ids)} layers, overlay takes {MAX_LAYERS}")
    root = snapshots.root_status(chain_ids)
    upper, work = container_dir + "/upper", container_dir + "/work"
    try:
        posix.mkdir(upper, 0o700)
        posix.mkdir(work, 0o700)
        if (root.st_uid, root.st_gid) != (posix.geteuid(), posix.getegid()):
            posix.chown(upper, root.st_uid, root.st_gid)
        # The merged root takes its mode from upper.
        posix.chmod(upper, root.st_mode & 0o7777)
    except OSError as error:
        raise KernelError("make writable layer", container_dir, error) from error
    lower = [snapshots.diff(chain_id) for chain_id in reversed(chain_ids)]
    points = snapshots.mount_points(chain_ids[-1])
    if posix.access(points, posix.F_OK):
        lower.insert(0, points)
    options = mount_options(lower, upper, work, volatile, userxattr)
    mount: dict[str, Any] = {
        "destination": "",
        "type": "overlay",
        "source": "overlay",
        "options": options,
    }
    if _size(options) <= _PAGE:
        return [mount]
    short = [chain_id.removeprefix("sha256:")[:SHORT] for chain_id in reversed(chain_ids)]
    mount["options"] = mount_options(short, upper, work, volatile, userxattr)
    mount["cwd"] = snapshots.root + "/snapshots/l"
    if (size := _size(mount["options"])) > _PAGE:
        hint = "use a shorter data root or an image of fewer layers"
        raise UnsupportedError(
            f"overlay options take {size} bytes, mount(2) takes {_PAGE}", hint=hint
        )
    return [mount]


def mount_options(
    lower: list[str], upper: str, work: str, volatile: bool, userxattr: bool
) -> list[str]:
    """Return the options of the overlay mount; `lower` goes from the top layer down."""
    directories = ":".join(map(escape, lower))
    options = ["lowerdir=" + directories, "upperdir=" + escape(upper), "workdir=" + escape(work)]
    # Whatever the kernel's defaults (module parameters) are: an upper layer must stay readable
    # by itself, and a lower one may be shared by many mounts.
    options += ["userxattr"] if userxattr else ["index=off", "metacopy=off", "redirect_dir=off"]
    return [*options, "volatile"] if volatile else options


def _size(options: list[str]) -> int:
    return len(",".join(options).encode("utf-8", "surrogateescape"))


def escape(path: str) -> str:
    """Return `path` with the characters escaped that overlay's option parser gives a meaning."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")
