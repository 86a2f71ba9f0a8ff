"""What is remembered of a container: how it was made, and how it ended."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Record:
    """What is remembered of a container from its creation on; times are seconds since the epoch.

    image is the name as given, image_id its digest; command is argv as it runs. `joins` maps an
    OCI namespace type to the id of the container it is shared with. `ran` tells that it was
    started. `volumes` are the anonymous volumes, removed with it on request. `mounts` is what
    inspect shows, `rootfs_mounts` what makes the root file system. `runtime` is the path of the
    other runtime it was handed to, "" for ours. `capabilities` are those of root in it, also when
    its init runs as another user.
    """

    __slots__ = (
        "auto_remove",
        "capabilities",
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
        "runtime",
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
        self.capabilities: list[str] = []
        self.cgroup_manager = "cgroupfs"
        self.runtime = ""
        self.auto_remove = False
        self.ran = False
        self.tty = False
        self.open_stdin = False
        self.stop_signal = 15
        self.stop_timeout = 10
        self.restart: list[Any] = ["no", 0]
        self.log_driver = "json-file"
        self.log_opts: dict[str, str] = {}

    def fill(self, document: Mapping[str, Any]) -> str:
        """Take every field from what was on disk; return the first that is missing or wrong."""
        for name in Record.__slots__:
            value = document.get(name)
            if not _same_kind(value, getattr(self, name)):
                return name
            setattr(self, name, value)
        for name in ("capabilities", "chain_ids", "command", "volumes"):
            if not _all_texts(getattr(self, name)):
                return name
        if not self.command:
            return "command"
        for name in ("joins", "labels", "log_opts"):
            if not _all_texts(getattr(self, name).values()):
                return name
        if not all(map(_is_mount, self.mounts)):
            return "mounts"
        if not all(map(_is_rootfs_mount, self.rootfs_mounts)):
            return "rootfs_mounts"
        restart = self.restart
        known = len(restart) == 2 and isinstance(restart[0], str) and isinstance(restart[1], int)
        return "" if known else "restart"

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

    def fill(self, document: Mapping[str, Any]) -> None:
        """Take what was on disk; a field that is missing or wrong stays as it is."""
        for name in Exit.__slots__:
            value = document.get(name)
            if _same_kind(value, getattr(self, name)):
                setattr(self, name, value)


def _same_kind(value: object, known: object) -> bool:
    """Return whether a value has the type of the one it replaces; a whole number is a time, too."""
    return type(value) is type(known) or (type(value) is int and type(known) is float)


def _all_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_mount(value: object) -> bool:
    """Return whether this is a mount as `volumes.listing` writes it."""
    if not isinstance(value, dict):
        return False
    names = ("Type", "Source", "Destination", *(["Name"] if value.get("Type") == "volume" else []))
    return _all_texts(value.get(name) for name in names)


def _is_rootfs_mount(value: object) -> bool:
    """Return whether this is a mount as `Snapshotter.prepare` returns it."""
    if not isinstance(value, dict) or not isinstance(value.get("options"), list):
        return False
    texts = [value.get(name) for name in ("destination", "type", "source")]
    return _all_texts([*texts, value.get("cwd", ""), *value["options"]])
