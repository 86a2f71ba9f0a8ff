"""What is remembered of a container: how it was made, and how it ended."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Record:
    """What is remembered of a container from its creation on; times are seconds since the epoch.

    image is the name as given, image_id its digest; command is argv as it runs. `joins` maps an
    OCI namespace type to the id of the container it is shared with. `ran` tells that it was
    started. `volumes` are the anonymous volumes, removed with it on request. `mounts` is what
    inspect shows, `rootfs_mounts` what makes the root file system.
    """

    __slots__ = (
        "auto_remove",
        "cgroup_manager",
        "chain_ids",
        "command",
        "created",
        "hostname",
        "id",
        "image",
        "image_id",
        "joins",
        "labels",
        "log_driver",
        "log_opts",
        "mounts",
        "name",
        "network",
        "open_stdin",
        "ran",
        "restart",
        "rootfs_mounts",
        "stop_signal",
        "stop_timeout",
        "tty",
        "volumes",
    )

    def __init__(self, identity: str, name: str) -> None:
        self.id = identity
        self.name = name
        self.image = ""
        self.image_id = ""
        self.chain_ids: list[str] = []
        self.rootfs_mounts: list[dict[str, Any]] = []
        self.command: list[str] = []
        self.created = time.time()
        self.hostname = ""
        self.joins: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.mounts: list[dict[str, Any]] = []
        self.volumes: list[str] = []
        self.network = "none"
        self.cgroup_manager = "cgroupfs"
        self.auto_remove = False
        self.ran = False
        self.tty = False
        self.open_stdin = False
        self.stop_signal = 15
        self.stop_timeout = 10
        self.restart: list[Any] = ["no", 0]
        self.log_driver = "json-file"
        self.log_opts: dict[str, str] = {}

    def document(self) -> dict[str, Any]:
        """Return what is written to disk."""
        return {name: getattr(self, name) for name in Record.__slots__}


class Exit:
    """How a container ended; `error` is why it could not start, "" otherwise."""

    __slots__ = ("error", "finished", "oom", "peak", "restarts", "started", "status")

    def __init__(self, status: int, started: float, finished: float) -> None:
        self.status = status
        self.started = started
        self.finished = finished
        self.oom = False
        self.peak = 0
        self.restarts = 0
        self.error = ""
