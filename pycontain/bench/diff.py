"""What changed between two directories of results, and whether it is noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.bench import stats
from pycontain.bench.model import Kind
from pycontain.bench.summary import judged, sections
from pycontain.bench.text import digits_of, figure

if TYPE_CHECKING:
    from pycontain.bench.store import Results
    from pycontain.bench.summary import Row

HEADER = ("workload", "arm", "kind", "before", "after", "after/before", "verdict")


def difference(before: Results, after: Results) -> str:
    """Return one line for each workload and arm both directories have, as a table.

    The noise floor is the larger of both A/A arms. A different host is said first: the medians of
    two hosts are two facts, not a change.
    """
    old, new = (
        {
            (section.workload, row.arm): (row, section.floor)
            for section in found
            for row in section.rows
        }
        for found in (sections(one.meta, one.samples) for one in (before, after))
    )
    shared = [key for key in new if key in old]
    rows = [_cells(*old[key], *new[key]) for key in shared]
    lines = _warnings(before, after) + _table([HEADER, *rows])
    lines += [
        f"only before: {arm}, {workload}" for workload, arm in old if (workload, arm) not in new
    ]
    lines += [
        f"only after: {arm}, {workload}" for workload, arm in new if (workload, arm) not in old
    ]
    return "\n".join(lines) + "\n"


def _warnings(before: Results, after: Results) -> list[str]:
    keys = ("kernel", "cpu", "cpus", "memory", "host is")
    old, new = before.meta["environment"], after.meta["environment"]
    lines = [
        f"another host: {key} {old.get(key)} → {new.get(key)}"
        for key in keys
        if old.get(key) != new.get(key)
    ]
    if before.meta["image_digest"] != after.meta["image_digest"]:
        lines.append("another image: the workloads are not the same bytes")
    return lines


def _cells(old: Row, old_floor: float, new: Row, new_floor: float) -> tuple[str, ...]:
    floor = max(old_floor, new_floor)
    names = (new.workload[:30], new.arm, new.kind.value)
    if old.summary is None or new.summary is None or old.kind is not new.kind:
        return (*names, "", "", "", "not comparable")
    digits = digits_of(new.kind)
    medians = [figure(row.summary.median, row.unit, digits) for row in (old, new) if row.summary]
    ratio = stats.ratio_of_medians(new.values, old.values)
    if new.kind is Kind.SIMULATED or ratio is None:
        return (*names, *medians, "", "simulated: no interval to judge by")
    text = f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"
    return (*names, *medians, text, judged(ratio, floor, new.metric, old.values, new.values))


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
