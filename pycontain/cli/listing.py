"""The verbs that show containers: ps, inspect, top, stats. Every cell is escaped by `output`."""

from __future__ import annotations

import time

from pycontain.cli import context, output
from pycontain.engine.clock import format_time
from pycontain.errors import NotFoundError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pycontain.cli.options import Parsed
    from pycontain.engine.engine import Engine
    from pycontain.engine.record import Record
    from pycontain.engine.volumes import Volume

ALIVE = ("running", "paused", "restarting")
"""What ps shows without --all."""
COMMAND_WIDTH = 20
FILTERS = ("id", "name", "status", "ancestor", "network", "label", "exited")
PS_COLUMNS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
}

STATS_COLUMNS = {
    "Container": "CONTAINER ID",
    "Name": "NAME",
    "CPUSeconds": "CPU SECONDS",
    "MemUsage": "MEM USAGE / LIMIT",
    "PIDs": "PIDS",
}


def ps(parsed: Parsed) -> int:
    """`pycontain ps`."""
    engine = context.engine(parsed)
    _reconcile(engine)
    output.rows(parsed, _rows(engine, parsed), PS_COLUMNS, "ID")
    return 0


def _reconcile(engine: Engine) -> None:
    from pycontain.engine import removal

    removal.reconcile_all(engine.store)


def _rows(engine: Engine, parsed: Parsed) -> list[dict[str, str]]:
    last = parsed.values.get("last", 1 if parsed.flag("latest") else 0)
    keys = [key for key, _ in _filters(parsed)]
    every = parsed.flag("all") or bool(last) or "status" in keys or "exited" in keys
    rows = []
    for record in engine.store.records():
        status = engine.status(record)
        if (every or status in ALIVE) and _matches(record, status, engine, parsed):
            rows.append(_row(engine, record, status, whole=parsed.flag("no_trunc")))
    return rows[:last] if isinstance(last, int) and last else rows


def _filters(parsed: Parsed) -> list[tuple[str, str]]:
    """Return (key, value) of each --filter; raises UsageError for a key that is not known."""
    found = parsed.values.get("filter", [])
    filters = found if isinstance(found, list) else []
    for key, _ in filters:
        if key not in FILTERS:
            raise UsageError(f"--filter {key}: expected one of {', '.join(FILTERS)}")
    return filters


def passes(filters: Sequence[tuple[str, str]], has: Callable[[str, str], bool]) -> bool:
    """Return whether something passes every --filter: values of one key are alternatives."""
    wanted: dict[str, list[bool]] = {}
    for key, value in filters:
        wanted.setdefault(key, []).append(has(key, value))
    return all(map(any, wanted.values()))


def _matches(record: Record, status: str, engine: Engine, parsed: Parsed) -> bool:
    return passes(_filters(parsed), lambda key, value: _has(record, status, engine, key, value))


def _has(record: Record, status: str, engine: Engine, key: str, value: str) -> bool:
    if key == "label":
        name, equals, text = value.partition("=")
        return name in record.labels and (not equals or record.labels[name] == text)
    if key == "exited":
        end = engine.store.load_exit(record.id)
        return status == "exited" and end is not None and str(end.status) == value
    simple = {
        "id": record.id.startswith(value),
        "name": value in record.name,
        "status": status == value,
        "ancestor": value in (record.image, record.image_id, record.image.partition(":")[0]),
        "network": value == record.network,
    }
    return simple[key]


def _row(engine: Engine, record: Record, status: str, *, whole: bool) -> dict[str, str]:
    command = '"' + output.clip(" ".join(record.command), COMMAND_WIDTH, whole=whole) + '"'
    return {
        "ID": output.short(record.id, whole=whole),
        "Image": record.image,
        "Command": command,
        "CreatedAt": output.local_time(record.created),
        "Names": record.name,
        "Ports": "",
        "RunningFor": output.ago(time.time() - record.created) + " ago",
        "State": status,
        "Status": _status_words(engine, record, status),
        "Networks": record.network,
        "Labels": ",".join(f"{key}={value}" for key, value in record.labels.items()),
        "Mounts": ",".join(str(mount.get("Name") or mount["Source"]) for mount in record.mounts),
        "LocalVolumes": str(len(record.volumes)),
    }


def _status_words(engine: Engine, record: Record, status: str) -> str:
    if status in ("running", "paused"):
        since = output.ago(time.time() - engine.started(record))
        return f"Up {since}" + (" (Paused)" if status == "paused" else "")
    end = engine.store.load_exit(record.id)
    if status == "created":
        return "Created"
    if end is None:
        return "Exited (255)"
    word = "Restarting" if status == "restarting" else "Exited"
    return f"{word} ({end.status}) {output.ago(time.time() - end.finished)} ago"


def inspect(parsed: Parsed) -> int:
    """`pycontain inspect`: containers first, then images, then volumes; prints a JSON array."""
    engine = context.engine(parsed)
    output.documents(parsed, [_inspected(engine, parsed, word) for word in parsed.arguments])
    return 0


def _inspected(engine: Engine, parsed: Parsed, word: str) -> dict[str, Any]:
    kind = parsed.text("type")
    if kind not in ("", *KINDS):
        raise UsageError(f"--type {kind}: expected container, image or volume")
    for name, look in KINDS.items():
        if kind in ("", name):
            try:
                return look(engine, word)
            except NotFoundError:
                if kind:
                    raise
    raise NotFoundError(f"no container, image or volume is called {word}")


def inspect_container(engine: Engine, record: Record) -> dict[str, Any]:
    """Return what is known of a container, under docker's keys where it has the thing."""
    status = engine.status(record)
    end = engine.store.load_exit(record.id)
    runs = status in ("running", "paused")
    spec = engine.spec(record)
    process = spec.get("process", {})
    return {
        "Id": record.id,
        "Name": record.name,
        "Created": format_time(record.created),
        "Path": record.command[0],
        "Args": record.command[1:],
        "Image": record.image_id,
        "State": {
            "Status": status,
            # As docker has it: what is about to run again counts as running.
            "Running": runs or status == "restarting",
            "Paused": status == "paused",
            "Restarting": status == "restarting",
            "OOMKilled": bool(end and end.oom and not runs),
            "Pid": engine.pid(record) if runs else 0,
            "ExitCode": end.status if end and not runs else 0,
            "Error": end.error if end and not runs else "",
            "StartedAt": format_time(engine.started(record))
            if runs
            else format_time(end.started)
            if end
            else "",
            "FinishedAt": format_time(end.finished) if end and not runs else "",
        },
        "RestartCount": end.restarts if end else 0,
        "LogPath": engine.store.directory(record.id) + "/log.json",
        "Mounts": record.mounts,
        "Config": {
            "Hostname": record.hostname,
            "Env": process.get("env", []),
            "Cmd": record.command,
            "Image": record.image,
            "Labels": record.labels,
            "Tty": record.tty,
            "OpenStdin": record.open_stdin,
            "WorkingDir": process.get("cwd", "/"),
            "User": process.get("user", {}),
            "StopSignal": record.stop_signal,
            "StopTimeout": record.stop_timeout,
        },
        "HostConfig": {
            "AutoRemove": record.auto_remove,
            "NetworkMode": record.network,
            "RestartPolicy": {"Name": record.restart[0], "MaximumRetryCount": record.restart[1]},
            "LogConfig": {"Type": record.log_driver, "Config": record.log_opts},
            "Resources": spec.get("linux", {}).get("resources", {}),
        },
        "Limits": engine.applied(record) if runs else [],
        "Spec": spec,
    }


def _inspect_image(engine: Engine, word: str) -> dict[str, Any]:
    image = engine.maker.images.resolve(word)
    names = engine.maker.images.names().get(image.id, [])
    return {
        "Id": image.id,
        "RepoTags": names,
        "Digest": image.digest,
        "Created": image.created,
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "Config": image.config,
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
    }


def _inspect_volume(engine: Engine, word: str) -> dict[str, Any]:
    from pycontain.engine import volumes

    return inspect_volume(volumes.load(engine.store.root, word))


KINDS: dict[str, Callable[[Engine, str], dict[str, Any]]] = {
    "container": lambda engine, word: inspect_container(engine, engine.find(word)),
    "image": _inspect_image,
    "volume": _inspect_volume,
}
"""How inspect looks for a name, in this order."""


def inspect_volume(volume: Volume) -> dict[str, Any]:
    """Return what is known of a volume, under docker's keys."""
    return {
        "CreatedAt": format_time(volume.created),
        "Driver": "local",
        "Labels": volume.labels or None,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def top(parsed: Parsed) -> int:
    """`pycontain top`: pids as the host sees them."""
    _, container = context.engine(parsed).running(parsed.arguments[0])
    rows = [row for pid in container.processes() if (row := _process(pid))]
    output.table(["PID", "PPID", "UID", "COMMAND"], rows)
    return 0


def _process(pid: int) -> list[str]:
    from pycontain import trees

    try:
        status = trees.read_file(f"/proc/{pid}/status", 1 << 16).decode("utf-8", "replace")
        command = trees.read_file(f"/proc/{pid}/cmdline", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return []  # it ended meanwhile
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    words = command.rstrip("\0").replace("\0", " ") or f"[{fields.get('Name', '')}]"
    return [str(pid), fields.get("PPid", ""), fields.get("Uid", "").split("\t")[0], words]


def stats(parsed: Parsed) -> int:
    """`pycontain stats`: one sample of each running container."""
    engine = context.engine(parsed)
    words = parsed.arguments or [
        record.id for record in engine.store.records() if engine.status(record) == "running"
    ]
    rows = [_usage(engine, word, whole=parsed.flag("no_trunc")) for word in words]
    output.rows(parsed, rows, STATS_COLUMNS, "Container")
    return 0


def _usage(engine: Engine, word: str, *, whole: bool) -> dict[str, str]:
    record, container = engine.running(word)
    data: dict[str, Any] = container.cgroup.stats()
    memory = data.get("memory", {}).get("usage", {})
    limit = memory.get("limit", 0)
    bound = output.size(limit) if 0 < limit < 2**60 else "unlimited"
    return {
        "Container": output.short(record.id, whole=whole),
        "Name": record.name,
        "CPUSeconds": f"{data.get('cpu', {}).get('usage', {}).get('total', 0) / 1e9:.2f}",
        "MemUsage": f"{output.size(memory.get('usage', 0))} / {bound}",
        "PIDs": str(data.get("pids", {}).get("current", 0)),
    }
