"""Unpacked layers in, mounts out.

    snapshots/HEX/diff      one unpacked layer, HEX being its chain ID without "sha256:"
    snapshots/HEX/points    mount points missing in an image whose top layer this is, a lower layer
    snapshots/l/SHORT       symlink ../HEX/diff, SHORT being the first 26 digits of HEX
    snapshots/.tmp-*        a layer that is being unpacked; it becomes HEX by rename
    snapshots/driver        "overlay", "overlay,userxattr" or "copy: why", found out by `probe`

Owns the snapshots and what a container's own layer looks like; unpacking is the engine's business.
`overlay` and `copy` are the two ways to make a rootfs of them. Hot path.
"""

from __future__ import annotations

import posix

from pycontain import trees
from pycontain.errors import KernelError, NotFoundError
from pycontain.rootfs import overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Snapshotter:
    """The snapshots under one data root."""

    __slots__ = ("root",)

    def __init__(self, data_root: str) -> None:
        self.root = data_root

    def prepare(
        self, container_dir: str, chain_ids: list[str], *, volatile: bool = False
    ) -> list[dict[str, Any]]:
        """Make a writable layer under `container_dir`; return the mounts that make the rootfs.

        `chain_ids` go from the lowest layer to the top. Each mount is a dict like one of OCI's
        `mounts` with destination "" (the rootfs itself). An overlay of many layers also has `cwd`:
        the directory to be in while mounting, since its `lowerdir` holds relative paths.
        `volatile` gives up durability (--rm). Raises NotFoundError when a snapshot is missing,
        KernelError.
        """
        driver = self.driver()
        if driver.startswith("copy"):
            from pycontain.rootfs import copy

            return copy.prepare(self, container_dir, chain_ids)
        userxattr = driver == "overlay,userxattr"
        return overlay.prepare(
            self, container_dir, chain_ids, volatile=volatile, userxattr=userxattr
        )

    def remove(self, container_dir: str) -> None:
        """Remove what `prepare` made and the container wrote; missing is no error."""
        # rootfs first: while it is mounted here it is busy, and the layer below it stays whole.
        for name in ("rootfs", "upper", "work"):
            try:
                trees.remove(f"{container_dir}/{name}")
            except PermissionError:
                from pycontain.rootfs import userns

                userns.run(trees.remove, f"{container_dir}/{name}")

    def driver(self) -> str:
        """Return "overlay", "overlay,userxattr" (in a user namespace), or "copy: " and why."""
        try:
            return trees.read_file(f"{self.root}/snapshots/driver", 4096).decode()
        except OSError:
            return "overlay"

    def diff(self, chain_id: str) -> str:
        """Return the directory of one unpacked layer, whether it exists or not."""
        return f"{self.root}/snapshots/{chain_id.removeprefix('sha256:')}/diff"

    def mount_points(self, chain_id: str) -> str:
        """Return the directory of an image's mount points, whether it exists or not."""
        return f"{self.root}/snapshots/{chain_id.removeprefix('sha256:')}/points"

    def root_status(self, chain_ids: list[str]) -> posix.stat_result:
        """Return the status of the top layer's root; every layer's root has the merged mode."""
        try:
            return posix.stat(self.diff(chain_ids[-1]))
        except FileNotFoundError:
            hint = "load the image again"
            raise NotFoundError(f"snapshot {chain_ids[-1]}: not unpacked", hint=hint) from None
        except OSError as error:
            raise KernelError("read snapshot", chain_ids[-1], error) from error
