"""The verbs of `pycontain-oci` that no engine calls for each container."""

# ruff: noqa: A001 - `id`, `all`, `type` are the words of the specification and of runc

from __future__ import annotations

from pycontain.cli import oci_help
from pycontain.cli import oci_main as oci
from pycontain.errors import (
    ConflictError,
    InvalidError,
    KernelError,
    NotFoundError,
    PycontainError,
    UsageError,
)
from pycontain.oci import codec
from pycontain.runtime import container, events, features
from pycontain.runtime import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.cli.oci_main import Context, Run

_PS_PROGRAMS = ("/bin/ps", "/usr/bin/ps")


def _version(context: Context, options: Any, words: list[str]) -> int:
    oci.put(oci_help.version().encode())
    return 0


def _help(context: Context, options: Any, words: list[str]) -> int:
    names = [word for word in words if word not in ("help", "h")]
    oci.put((oci_help.verb(names[0]) if names else oci_help.overview()).encode())
    return 0


def _list(context: Context, options: Any, words: list[str]) -> int:
    _check_format(options)
    if context.root != oci.default_root() and not states.exists(context.root):
        raise NotFoundError(f"--root {context.root}: no such directory")
    found = _documents(context)
    if options.quiet:
        text = "".join(f"{entry['id']}\n" for entry in found).encode()
    elif options.format == "json":
        text = codec.dumps(found or None) + b"\n"
    else:
        text = _table(found).encode("utf-8", "surrogateescape")
    oci.put(text)
    return 0


def _delete_matching(context: Context, options: Any, words: list[str]) -> int:
    import re

    try:
        pattern = re.compile(words[0])
    except re.error as error:
        raise UsageError(f"invalid regular expression {words[0]!r}: {error}") from None
    for id in states.ids(context.root):
        if pattern.search(id):
            oci.delete_one(context, id, force=options.force)
    return 0


def _check_format(options: Any) -> None:
    if options.format not in ("", "table", "json"):
        raise UsageError(f"invalid format option: {options.format!r}", hint="table or json")


def _documents(context: Context) -> list[dict[str, object]]:
    found = []
    for id in states.ids(context.root):
        try:
            found.append(container.load(context.root, id).document())
        except PycontainError as error:
            context.log.warning(f"load container {id}: {error}")
    return found


def _table(found: list[dict[str, object]]) -> str:
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    for entry in found:
        keys = ("id", "pid", "status", "bundle", "created", "owner")
        rows.append(tuple(str(entry[key]) for key in keys))  # type: ignore[arg-type]
    widths = [max(12, 3 + max(len(row[n]) for row in rows)) for n in range(5)]
    lines = ["".join(f"{row[n]:{widths[n]}}" for n in range(5)) + row[5] for row in rows]
    return "\n".join(lines) + "\n"


def _ps(context: Context, options: Any, words: list[str]) -> int:
    _check_format(options)
    found = container.load(context.root, words[0])
    wanted = {str(pid) for pid in found.processes()}
    lines = _ps_output(words[1:] or ["-ef"]).splitlines()
    if not lines or "PID" not in lines[0].split():
        raise InvalidError("ps prints no PID column", hint="ask for one: -o pid,comm")
    column = lines[0].split().index("PID")
    kept = [line for line in lines[1:] if line.split()[column : column + 1][0] in wanted]
    oci.put("\n".join([lines[0], *kept, ""]).encode("utf-8", "surrogateescape"))
    return 0


def _ps_output(arguments: list[str]) -> str:
    import subprocess

    program = next((path for path in _PS_PROGRAMS if states.exists(path)), "")
    if not program:
        raise KernelError("find ps", _PS_PROGRAMS[0], 2, hint="ps --format json needs no program")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, errors="surrogateescape", check=False
    )
    if done.returncode:
        raise InvalidError(f"ps: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _update(context: Context, options: Any, words: list[str]) -> int:
    from pycontain.cli import oci_update

    found = container.load(context.root, words[0])
    found.update(oci_update.resources(options), oci_update.resource_control(options))
    return 0


def _events(context: Context, options: Any, words: list[str]) -> int:
    interval_ms = events.duration_ms(options.interval or "5s")
    found = container.load(context.root, words[0])
    if found.status() == states.STOPPED:
        raise ConflictError(f"container with id {found.id} is not running")
    if options.stats:
        oci.put(codec.dumps(events.stats_event(found)) + b"\n")
        return 0
    for event in events.follow(found, interval_ms):
        oci.put(codec.dumps(event) + b"\n")
    return 0


def _spec(context: Context, options: Any, words: list[str]) -> int:
    from pycontain.cli import oci_spec

    path = (options.bundle or ".") + "/config.json"
    if states.exists(path):
        raise ConflictError(f"file {path} exists", hint="remove it first")
    rootless = options.rootless
    text = codec.dumps_indented(oci_spec.default(rootless=rootless), "\t")
    states.write_file(path, text, 0o644)
    return 0


def _features(context: Context, options: Any, words: list[str]) -> int:
    oci.put(codec.dumps_indented(features.features(), "\t"))
    return 0


VERBS: dict[str, Run] = {
    "version": _version,
    "help": _help,
    "list": _list,
    "delete --regex": _delete_matching,
    "ps": _ps,
    "update": _update,
    "events": _events,
    "spec": _spec,
    "features": _features,
}
