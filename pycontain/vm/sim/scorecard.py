"""The validation report: every row, the scores of each group and tag, the gates.

Owns the text and the command behind scripts/validate-sim; the scores are `validate`'s.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pycontain.errors import PycontainError
from pycontain.vm.sim.estimate import DRAWS, KIND
from pycontain.vm.sim.render import Table, number
from pycontain.vm.sim.validate import Row, Score, by, gates, load_rows, score

if TYPE_CHECKING:
    from collections.abc import Sequence

SCENARIOS = Path("tests/data/scenarios")
BEGIN, END = "<!-- scripts/validate-sim --update: begin -->", "<!-- end -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 1 when a gate fails and 2 when the rows cannot be read."""
    options = _parser().parse_args(arguments)
    try:
        rows = [
            row
            for directory in options.directories
            for row in load_rows(directory, draws=options.draws)
        ]
    except PycontainError as error:
        print(f"validate-sim: {error}", file=sys.stderr)
        return 2
    shown = tables(rows, every_row=options.rows or options.update is not None)
    if options.update is not None:
        update(options.update, "\n\n".join(f"### {t.title}\n\n{t.markdown()}" for t in shown))
    else:
        print("\n\n".join(table.plain() for table in shown))
    own = options.directories == [SCENARIOS]
    failed = [
        name
        for name, (found, _, passed) in gates(rows).items()
        # Rows of somebody else need not cover every gate; ours do.
        if not passed and (own or found is not None)
    ]
    for name in failed:
        print(f"validate-sim: gate failed: {name}", file=sys.stderr)
    return 1 if failed and not options.no_gates else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="validate-sim", description=main.__doc__)
    parser.add_argument(
        "directories",
        nargs="*",
        type=Path,
        default=[SCENARIOS],
        metavar="DIRECTORY",
        help="scenario files, or directories of them",
    )
    parser.add_argument("--rows", action="store_true", help="print every row, not the failed ones")
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="write every table into a Markdown file"
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help="Monte-Carlo draws")
    parser.add_argument("--no-gates", action="store_true", help="exit 0 whatever the scores are")
    return parser


def update(file: Path, text: str) -> None:
    """Replace what stands between the two marks of a Markdown file."""
    before, _, rest = file.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")


def tables(rows: Sequence[Row], *, every_row: bool) -> list[Table]:
    """Return the report: gates, groups, tags within groups, then rows (or the failed ones)."""
    shown = list(rows) if every_row else [row for row in rows if row.failed]
    title = f"{KIND}: all rows" if every_row else f"{KIND}: rows off by more than half"
    return [_gates(rows), _groups(rows), _tags(rows), _rows(title, shown)]


def _gates(rows: Sequence[Row]) -> Table:
    table = Table("gates (predict rows)", ("gate", "score", "limit", "verdict"))
    for name, (found, limit, passed) in gates(rows).items():
        shown = "no rows" if found is None else f"{found:.2f}"
        verdict = "pass" if passed else "-" if found is None else "FAIL"
        table.rows.append((name, shown, f"{limit:.2f}", verdict))
    return table


_SCORES = ("rows", "median |ln|", "bias", "in 5-95 %", "tau", "failed")


def _groups(rows: Sequence[Row]) -> Table:
    table = Table(f"{KIND}: predict rows by group", ("group", *_SCORES))
    predict = [row for row in rows if row.scenario.predicts]
    for name, group in by(predict, "group").items():
        table.rows.append((name, *_score_cells(score(group))))
    fit = [row for row in rows if not row.scenario.predicts]
    if fit:
        table.rows.append(("(fit rows, not scored)", *_score_cells(score(fit))))
    return table


def _tags(rows: Sequence[Row]) -> Table:
    table = Table(f"{KIND}: predict rows by evidence", ("tag", "group", *_SCORES))
    predict = [row for row in rows if row.scenario.predicts]
    for tag, tagged in sorted(by(predict, "tag").items()):
        table.rows.append((tag, "all", *_score_cells(score(tagged))))
        for name, group in by(tagged, "group").items():
            table.rows.append((tag, name, *_score_cells(score(group))))
    return table


def _score_cells(found: Score) -> tuple[str, ...]:
    return (
        str(found.rows),
        f"{found.error:.2f}",
        f"{found.bias:+.2f}",
        f"{found.coverage:.0%}",
        "-" if found.tau is None else f"{found.tau:.2f}",
        str(found.failed),
    )


def _rows(title: str, rows: Sequence[Row]) -> Table:
    headings = ("group", "row", "tag", "use", "unit", "published", "simulated", "5-95 %", "ln", "")
    table = Table(title, headings)
    for row in rows:
        scenario, found = row.scenario, row.predicted
        table.rows.append(
            (
                scenario.group,
                scenario.name,
                scenario.tag,
                "predict" if scenario.predicts else "fit",
                scenario.unit,
                f"{row.expected:g}",
                number(found.median),
                f"{number(found.low)} .. {number(found.high)}",
                f"{row.error:+.2f}",
                "FAILED" if row.failed else "" if row.covered else "outside",
            )
        )
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # The reader (head, less) has seen enough; the descriptor must not be flushed again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
