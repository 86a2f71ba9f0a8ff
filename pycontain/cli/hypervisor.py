"""`pycontain hypervisor`: simulated hypervisors, their constants, runs, calibration.

Owns options and printing; the model is `vm.sim`, the measuring `bench.counting`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pycontain.errors import UsageError
from pycontain.vm.sim import render
from pycontain.vm.sim.constants import Constants, load_constants
from pycontain.vm.sim.hardware import DEFAULT_CLASS, Hardware, hardware, host
from pycontain.vm.sim.predict import answer, predict
from pycontain.vm.sim.profiles import PATHS, TECHNIQUES, profile, profiles
from pycontain.vm.sim.scenario import load_scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.vm.sim.trace import WorkloadTrace

FORMAT = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="how to print",
)


def example(command: str) -> str:
    """Return the help text's last paragraph, its lines kept apart as click wants it."""
    return f"\b\nExample:\n  {command}"


@click.group(
    "hypervisor",
    short_help="Simulated hypervisors",
    epilog=example("pycontain hypervisor run kvm-qemu busybox true"),
)
def group() -> None:
    """Simulated hypervisors: what is modelled, and what a workload would cost under each."""


@group.command("list", epilog=example("pycontain hypervisor list"))
@FORMAT
def list_command(format_: str) -> None:
    """List the profiles."""
    table = render.profile_list(profiles().values())
    if format_ == "json":
        rows = [dict(zip(table.headings, row, strict=True)) for row in table.rows]
        _print_json({"kind": "SIMULATED", "profiles": rows})
    else:
        _print_tables([table])


@group.command("show", epilog=example("pycontain hypervisor show firecracker --all"))
@click.argument("name", metavar="PROFILE")
@click.option(
    "--hardware", "class_", default=DEFAULT_CLASS, show_default=True, help="hardware class"
)
@click.option(
    "--all", "every", is_flag=True, help="every constant, not only those the profile reads"
)
@FORMAT
def show_command(name: str, class_: str, every: bool, format_: str) -> None:
    """Show a profile and its constants with range, evidence and source."""
    found = profile(name)
    chip = hardware(class_)
    constants = load_constants(chip.name)
    chosen = list(constants) if every else render.profile_constants(found, chip, constants)
    table = render.constant_table(f"{found.name} on {chip.name}: {found.notes}", chosen)
    if format_ == "json":
        rows = [dict(zip(table.headings, row, strict=True)) for row in table.rows]
        _print_json({"kind": "SIMULATED", "profile": found.name, "constants": rows})
    else:
        _print_tables([render.profile_list([found]), table])


@group.command(
    "predict",
    epilog=example("pycontain hypervisor predict tests/data/scenarios/boot/fc20-qemu.json"),
)
@click.argument("file", metavar="SCENARIO.json", type=click.Path(path_type=Path))
@click.option("--draws", type=click.IntRange(100, 100_000), default=1000, show_default=True)
@FORMAT
def predict_command(file: Path, draws: int, format_: str) -> None:
    """Answer a scenario: counts in, the wanted quantity out."""
    found = answer(load_scenario(file), draws=draws)
    if format_ == "json":
        _print_json(found.to_json())
    else:
        _print_tables(render.answer_tables(found))


class OptionsBeforeImage(click.Command):
    """A command whose options stand before or after PROFILE; from IMAGE on nothing is parsed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_value = {
            text
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for text in option.opts
        }
        before, rest = _leading(args, with_value)
        profile, rest = rest[:1], rest[1:]
        between, rest = _leading(rest, with_value)
        return super().parse_args(ctx, [*before, *between, *profile, *rest])


def _leading(args: list[str], with_value: set[str]) -> tuple[list[str], list[str]]:
    """Split off the options an argument list starts with, each with its value."""
    index = 0
    while index < len(args) and args[index].startswith("-") and args[index] != "--":
        index += 2 if args[index] in with_value else 1
    return args[:index], args[index:]


@group.command(
    "run",
    cls=OptionsBeforeImage,
    context_settings={"allow_interspersed_args": False},
    epilog=example(
        "pycontain hypervisor run xen-pv --memory 256m busybox sh -c 'ls -lR / | wc -l'"
    ),
)
@click.argument("name", metavar="PROFILE")
@click.argument("image")
@click.argument("argv", metavar="CMD", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--technique", type=click.Choice(TECHNIQUES), help="instead of the profile's own")
@click.option("--io", "io_path", type=click.Choice(PATHS), help="I/O path of disk and network")
@click.option("--memory", default="512m", show_default=True, help="memory of the guest")
@click.option("--vcpus", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("--draws", type=click.IntRange(100, 100_000), default=1000, show_default=True)
@FORMAT
def run_command(
    name: str,
    image: str,
    argv: tuple[str, ...],
    technique: str | None,
    io_path: str | None,
    memory: str,
    vcpus: int,
    draws: int,
    format_: str,
) -> None:
    """Run CMD natively, count what it does, explain one simulated VM run of it exit by exit."""
    profile(name)
    memory_bytes = parse_size(memory)
    chip = host()
    constants = calibrated(chip)
    trace = measured(image, argv)
    found = predict(
        name,
        trace,
        memory_bytes=memory_bytes,
        vcpus=vcpus,
        technique=technique,
        io_path=io_path,
        chip=chip,
        constants=constants,
        draws=draws,
    )
    if format_ == "json":
        _print_json({**found.to_json(), "trace": trace.to_json()})
        return
    _print_tables(render.prediction_tables(found))
    _print_notes(
        [f"events counted by {trace.rung}; estimated: {', '.join(found.estimated) or 'none'}"]
    )
    own = any(each.tag == "C" for each in constants)
    _print_notes(["exit costs calibrated on this host" if own else "exit costs from publications"])
    _print_notes(found.notes)


def measured(image: str, argv: Sequence[str]) -> WorkloadTrace:
    """Run the workload on this host and return its times and counts."""
    from pycontain.bench.counting import measure

    return measure(image, list(argv), data_root=data_root())


def data_root() -> str:
    """Return what --root chose, "" for the default."""
    options = click.get_current_context().meta.get("pycontain.globals", {})
    return str(options.get("root") or "")


def calibrated(chip: Hardware) -> Constants:
    """Return the constants of `chip`, with this host's own exit costs where they were measured."""
    from pycontain.vm.sim.calibrate import load

    constants = load_constants(chip.name)
    found = load(data_root())
    return found.constants(constants) if found else constants


@group.command("calibrate", epilog=example("pycontain hypervisor calibrate"))
@click.option(
    "--draws",
    "runs",
    type=click.IntRange(3, 1000),
    default=9,
    show_default=True,
    help="repetitions",
)
@FORMAT
def calibrate_command(runs: int, format_: str) -> None:
    """Measure exit costs of this host's KVM and keep them for its simulations."""
    from pycontain.vm.sim.calibrate import calibrate, save

    found = calibrate(runs=runs)
    path = save(found, data_root())
    if format_ == "json":
        _print_json({**found.to_json(), "file": str(path)})
    else:
        rows: list[tuple[str, ...]] = [
            (name, f"{cycles:.0f}", "cycles") for name, cycles in found.cycles.items()
        ]
        _print_tables(
            [render.Table(f"measured exit costs, kept in {path}", ("exit", "cost", "unit"), rows)]
        )


def parse_size(text: str) -> int:
    """Return bytes of `512m`, `1g`, `4096`; UsageError otherwise."""
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "b")
    factors = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    if not number.isascii() or not number.isdigit() or unit not in factors:
        raise UsageError(f"not a size: {text}", hint="like 512m or 1g")
    return int(number) * factors[unit]


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def _print_tables(tables: Sequence[render.Table]) -> None:
    if sys.stdout.isatty() and _print_rich(tables):
        return
    click.echo("\n\n".join(table.plain() for table in tables))


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}")


def _print_rich(tables: Sequence[render.Table]) -> bool:
    """Print on a terminal with rich; False where rich is not installed."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    console = Console()
    for table in tables:
        # Text, not markup: names and commands come from outside and may hold brackets.
        shown = Table(title=Text(table.title), title_justify="left")
        for heading in table.headings:
            shown.add_column(heading)
        for row in table.rows:
            shown.add_row(*(Text(cell) for cell in row))
        console.print(shown)
    return True
