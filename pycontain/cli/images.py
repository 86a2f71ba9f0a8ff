"""The verbs on images: load, import, images, rmi, tag, history."""

from __future__ import annotations

import posix
import time

from pycontain.cli import context, output
from pycontain.cli.entry import enable_site_packages
from pycontain.errors import UsageError
from pycontain.image.store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontain.cli.options import Parsed
    from pycontain.image.store import Image

BAR_WIDTH = 30


def load(parsed: Parsed) -> int:
    """`pycontain load`: prints the references that were loaded."""
    # zstd comes from an installed package, and so does the faster gzip.
    enable_site_packages()
    from pycontain.engine import unpack

    source = parsed.text("input", "-")
    if source == "-" and posix.isatty(0):
        raise UsageError("load: no archive", hint="give one with -i FILE, or on standard input")
    _reconcile(parsed)
    loaded = unpack.load(
        context.data_root(parsed), source, name=parsed.text("tag"),
        progress=progress(quiet=parsed.flag("quiet")), notice=output.warning,
    )  # fmt: skip
    for image in loaded:
        output.line(f"Loaded image: {image.name}" if image.name else f"Loaded image ID: {image.id}")
    return 0


def import_(parsed: Parsed) -> int:
    """`pycontain import`: prints the new image's id."""
    enable_site_packages()
    from pycontain.engine import unpack

    root = context.data_root(parsed)
    _reconcile(parsed)
    if parsed.flag("from_host"):
        name, programs = parsed.arguments[0], parsed.arguments[1:]
        if not programs:
            raise UsageError("import --from-host: expected NAME PROGRAM...")
        image = unpack.import_from_host(root, name, programs, notice=output.warning)
    else:
        if len(parsed.arguments) != 2:
            raise UsageError("import: expected ROOTFS.tar NAME")
        source, name = parsed.arguments
        bar = progress(quiet=False)
        image = unpack.import_rootfs(root, source, name, progress=bar, notice=output.warning)
    output.line(image.id)
    return 0


def _reconcile(parsed: Parsed) -> None:
    from pycontain.engine import removal

    removal.reconcile(context.engine(parsed).store)


def progress(*, quiet: bool) -> Callable[[int, int, str], None] | None:
    """Return what draws a progress bar on a terminal, None where there is none."""
    if quiet or not posix.isatty(2):
        return None
    last = 0.0

    def draw(done: int, total: int, label: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 0.05 and done < total:
            return
        last = now
        posix.write(2, f"\r\033[K{_bar(done, total)} {output.clip(label, 40)}".encode())
        if total and done >= total:
            posix.write(2, b"\r\033[K")

    return draw


def _bar(done: int, total: int) -> str:
    if not total:
        return output.size(done)
    filled = min(BAR_WIDTH, BAR_WIDTH * done // total)
    return f"[{'=' * filled}{' ' * (BAR_WIDTH - filled)}] {output.size(done)}/{output.size(total)}"


def images(parsed: Parsed) -> int:
    """`pycontain images`."""
    found = _store(parsed).images(damaged=output.warning)
    rows = [row for image, names in found for row in _rows(image, names)]
    rows = [row for row in rows if _shown(row, parsed)]
    whole = parsed.flag("no_trunc")
    for row in rows:
        row["ID"] = row["ID"] if whole else output.short(row["ID"])
    if parsed.flag("quiet"):
        rows = list({row["ID"]: row for row in rows}.values())
    digests = ["Digest"] if parsed.flag("digests") else []
    columns = ["Repository", "Tag", *digests, "ID", "CreatedSince", "Size"]
    titles = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
    headings = {column: titles.get(column, column.upper()) for column in columns}
    output.rows(parsed, rows, headings, "ID")
    return 0


def _store(parsed: Parsed) -> ImageStore:
    return ImageStore(context.data_root(parsed))


def _rows(image: Image, names: list[str]) -> list[dict[str, str]]:
    age = output.age(image.created)
    base = {
        "ID": image.id, "Digest": image.digest, "CreatedAt": image.created, "CreatedSince": age,
        "Size": output.size(image.size), "Containers": "N/A",
    }  # fmt: skip
    found = []
    for name in names or ["<none>:<none>"]:
        repository, _, tag = name.rpartition(":")
        found.append({**base, "Repository": repository, "Tag": tag})
    return found


def _shown(row: dict[str, str], parsed: Parsed) -> bool:
    for key, value in parsed.values.get("filter", ()):  # type: ignore[attr-defined]
        if key == "dangling":
            if (row["Repository"] == "<none>") != (value in ("true", "1")):
                return False
        elif key == "reference":
            from fnmatch import fnmatchcase

            if not (fnmatchcase(row["Repository"], value)
                    or fnmatchcase(f"{row['Repository']}:{row['Tag']}", value)):  # fmt: skip
                return False
        else:
            raise UsageError(f"--filter {key}: expected dangling or reference")
    wanted = parsed.arguments[0] if parsed.arguments else ""
    return not wanted or wanted in (row["Repository"], f"{row['Repository']}:{row['Tag']}")


def rmi(parsed: Parsed) -> int:
    """`pycontain rmi`: with --force a missing one is told and no failure, as in docker."""
    from pycontain.engine import unpack

    root, force = context.data_root(parsed), parsed.flag("force")

    def remove(name: str) -> None:
        for line in unpack.remove(root, name, force=force):
            output.line(line)

    return context.each(parsed, remove, missing_ok=force)


def tag(parsed: Parsed) -> int:
    """`pycontain tag`."""
    _store(parsed).tag(*parsed.arguments)
    return 0


def history(parsed: Parsed) -> int:
    """`pycontain history`."""
    store = _store(parsed)
    image = store.resolve(parsed.arguments[0])
    rows = _history_rows(image, store.document(image.id), whole=parsed.flag("no_trunc"))
    columns = {
        "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE",
        "Comment": "COMMENT",
    }  # fmt: skip
    output.rows(parsed, rows, columns, "ID")
    return 0


def _history_rows(image: Image, document: Any, *, whole: bool) -> list[dict[str, str]]:
    entries = document.get("history") or [{} for _ in image.diff_ids]
    rows: list[dict[str, str]] = []
    for entry in reversed(entries):
        created = entry.get("created") or ""
        rows.append({
            "ID": output.short(image.id, whole=whole) if not rows else "<missing>",
            "CreatedAt": created,
            "CreatedSince": output.age(created),
            "CreatedBy": output.clip(entry.get("created_by") or "", 45, whole=whole),
            "Size": "0B" if entry.get("empty_layer") else "-",
            "Comment": entry.get("comment") or "",
        })  # fmt: skip
    if len(image.diff_ids) == 1 and rows:
        sized = next((row for row in rows if row["Size"] == "-"), rows[0])
        sized["Size"] = output.size(image.size)
    return rows
