"""`pycontain volume`: its verbs' table and what they do."""

from __future__ import annotations

from pycontain.cli import context, main, output
from pycontain.cli.commands import FILTER, ROWS
from pycontain.cli.listing import inspect_volume, passes
from pycontain.cli.options import Command, Option
from pycontain.engine import removal, volumes
from pycontain.engine.store import new_id
from pycontain.errors import NotFoundError, UsageError
from pycontain.spec.values import container_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.cli.options import Parsed
    from pycontain.engine.volumes import Volume

DRIVER = "local"
COLUMNS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}
FILTERS = ("dangling", "driver", "label", "name")

VERBS = (
    Command(
        "volume create",
        "volumes:create",
        (("VOLUME", 0, 1),),
        (
            Option("driver", "d", "volume-driver", "DRIVER", "local, the only one", default=DRIVER),
            Option("label", "", "pair", "KEY=VALUE", "label of the volume", many=True),
        ),
        "Make a volume; without a name it gets one of 64 digits.",
        "pycontain volume create data",
    ),
    Command(
        "volume inspect",
        "volumes:inspect",
        (("VOLUME", 1, 1), ("VOLUME", 0, -1)),
        (
            Option(
                "format", "f", "text", "FORMAT", "json or a template: '{{.Name}}'", default="json"
            ),
        ),
        "Show everything known about volumes.",
        "pycontain volume inspect data",
    ),
    Command(
        "volume ls",
        "volumes:ls",
        (),
        (Option("quiet", "q", "flag", "", "print names only"), FILTER, ROWS),
        "List volumes.",
        "pycontain volume ls --filter dangling=true",
    ),
    Command(
        "volume rm",
        "volumes:rm",
        (("VOLUME", 1, 1), ("VOLUME", 0, -1)),
        (Option("force", "f", "flag", "", "a missing volume is no error"),),
        "Remove volumes that no container has.",
        "pycontain volume rm data",
    ),
)
group = main.table_group("volume", "Make, list and remove volumes.", VERBS)


def create(parsed: Parsed) -> int:
    """`pycontain volume create`: prints the name; a volume that is there stays as it is."""
    name = parsed.arguments[0] if parsed.arguments else new_id()
    labels: Any = parsed.values.get("label", [])
    volumes.make(context.data_root(parsed), container_name(name, "volume"), dict(labels))
    output.line(name)
    return 0


def inspect(parsed: Parsed) -> int:
    """`pycontain volume inspect`: prints a JSON array."""
    root = context.data_root(parsed)
    found = [inspect_volume(volumes.load(root, name)) for name in parsed.arguments]
    output.documents(parsed, found)
    return 0


def ls(parsed: Parsed) -> int:
    """`pycontain volume ls`."""
    engine = context.engine(parsed)
    users = volumes.Users(engine.store)
    filters: Any = parsed.values.get("filter", [])
    rows = [
        _row(volume)
        for volume in volumes.every(engine.store.root)
        if _is_shown(volume, filters, used=bool(users.of(volume.name)))
    ]
    output.rows(parsed, rows, COLUMNS, "Name")
    return 0


def _row(volume: Volume) -> dict[str, str]:
    unknown = dict.fromkeys(("Availability", "Group", "Links", "Size", "Status"), "N/A")
    return {
        **unknown,
        "Driver": DRIVER,
        "Labels": ",".join(f"{key}={value}" for key, value in volume.labels.items()),
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Scope": "local",
    }


def _is_shown(volume: Volume, filters: list[tuple[str, str]], *, used: bool) -> bool:
    return passes(filters, lambda key, value: _has(volume, key, value, used=used))


def _has(volume: Volume, key: str, value: str, *, used: bool) -> bool:
    if key not in FILTERS:
        raise UsageError(f"--filter {key}: expected one of {', '.join(FILTERS)}")
    if key == "dangling":
        return used != (value in ("true", "1"))
    if key == "driver":
        return value == DRIVER
    if key == "name":
        return value in volume.name
    name, equals, text = value.partition("=")
    return name in volume.labels and (not equals or volume.labels[name] == text)


def rm(parsed: Parsed) -> int:
    """`pycontain volume rm`: prints the name of each that was removed."""
    store = context.engine(parsed).store
    removal.reconcile_all(store)

    def remove(name: str) -> None:
        try:
            volumes.remove_unused(store, name)
        except NotFoundError:
            if not parsed.flag("force"):
                raise
        output.line(name)

    return context.each(parsed, remove)
