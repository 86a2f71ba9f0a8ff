"""Predictions, answers, profiles and scores as tables of text.

Owns the words and the two significant digits; `cli.hypervisor` decides where a table goes.
Every table with a simulated number carries SIMULATED in its title.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pycontain.vm.sim import memory, startup
from pycontain.vm.sim.constants import Constant, Constants, Costs
from pycontain.vm.sim.estimate import KIND, Contribution, Interval, rounded
from pycontain.vm.sim.exits import Op
from pycontain.vm.sim.machine import Configuration, Machine
from pycontain.vm.sim.profiles import NEEDS, TYPES, Profile
from pycontain.vm.sim.trace import COUNTS, WorkloadTrace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.vm.sim.hardware import Hardware
    from pycontain.vm.sim.predict import Answer, Prediction

_TIME_STEPS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "ns"))
_TIME_FACTORS = {"s": 1.0, "ms": 1e3, "µs": 1e6, "ns": 1e9}
_BYTE_STEPS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (0, "B"))


@dataclass(frozen=True)
class Table:
    """A title, headings and rows of text."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def plain(self) -> str:
        """Return the table as aligned text."""
        cells = [self.headings, *self.rows]
        widths = [max(len(row[index]) for row in cells) for index in range(len(self.headings))]
        lines = [self.title] + [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the table in Markdown, without its title."""
        head = "| " + " | ".join(self.headings) + " |"
        rule = "|" + "---|" * len(self.headings)
        return "\n".join([head, rule, *("| " + " | ".join(row) + " |" for row in self.rows)])


def number(value: float) -> str:
    """Return a simulated number with its two significant digits, without an exponent below 1e6."""
    short = rounded(value)
    if short == int(short) and abs(short) < 1e15:
        return str(int(short))
    return f"{short:.10f}".rstrip("0") if abs(short) >= 1e-6 else f"{short:.1e}"


def seconds(value: float) -> str:
    """Return seconds in the unit a reader expects."""
    unit = next(unit for step, unit in _TIME_STEPS if abs(value) >= step)
    return f"{number(value * _TIME_FACTORS[unit])} {unit}" if value else "0"


def size(value: float) -> str:
    """Return bytes in binary units."""
    step, unit = next((step, unit) for step, unit in _BYTE_STEPS if abs(value) >= step)
    return f"{number(value / (step or 1))} {unit}"


def percent(value: float) -> str:
    """Return a share as per cent."""
    return f"{number(value * 100)} %"


def spread(interval: Interval) -> tuple[str, str]:
    """Return median and 5-95 % of an interval as two cells."""
    show = {"s": seconds, "bytes": size, "share": percent}.get(interval.unit, number)
    return show(interval.median), f"{show(interval.low)} .. {show(interval.high)}"


def profile_list(profiles: Iterable[Profile]) -> Table:
    """Return one row per profile."""
    table = Table(
        f"hypervisor profiles ({KIND})",
        ("profile", "product", "type", "techniques", "network", "disk", "parameters"),
    )
    for each in profiles:
        evidence = "assumed" if each.assumed else "published"
        techniques = ", ".join(each.techniques)
        row = (each.name, each.product, TYPES[each.type], techniques, each.net_path)
        table.rows.append((*row, each.disk_path, evidence))
    return table


def constant_table(title: str, constants: Iterable[Constant]) -> Table:
    """Return constants with range, unit, evidence and source."""
    table = Table(title, ("constant", "value", "5-95 %", "unit", "tag", "source"))
    for each in constants:
        spread_text = f"{each.low:g} .. {each.high:g}"
        table.rows.append(
            (each.name, f"{each.value:g}", spread_text, each.unit, each.tag, each.source)
        )
    return table


def prediction_tables(found: Prediction) -> list[Table]:
    """Return a prediction: times, exits, memory, tornado."""
    return [_times(found), _exits(found), _memory(found), tornado_table(found.tornado, "s")]


def _times(found: Prediction) -> Table:
    title = (
        f"{KIND}: {found.profile} ({found.technique}; network {found.net_path}, "
        f"disk {found.disk_path}, {found.drivers} drivers; {found.hardware}, "
        f"{found.clock_hz / 1e9:.2g} GHz)"
    )
    table = Table(title, ("time", "median", "5-95 %"))
    for name, interval in found.stages.items():
        table.rows.append((f"start: {name}", *spread(interval)))
    table.rows.append(("start-up", *spread(found.startup)))
    for name, interval in found.parts.items():
        shown = "native (measured)" if name == "native" else name
        table.rows.append((f"run: {shown}", *spread(interval)))
    table.rows.append(("run", *spread(found.run)))
    table.rows.append(("total", *spread(found.total)))
    table.rows.append(("run over native run", *spread(found.overhead)))
    return table


def _exits(found: Prediction) -> Table:
    headings = ("event", "part", "reason", "caused by", "count", "time", "5-95 %")
    table = Table(f"{KIND}: exit by exit", headings)
    for row in found.exits:
        count = number(row.count)
        table.rows.append(
            (row.kind, row.part, row.reason, row.operation, count, *spread(row.seconds))
        )
    return table


def _memory(found: Prediction) -> Table:
    table = Table(f"{KIND}: memory of one guest", ("definition", "median", "5-95 %"))
    for name, interval in found.memory.items():
        table.rows.append((name, *spread(interval)))
    return table


def tornado_table(found: Iterable[Contribution], unit: str) -> Table:
    """Return the constants that move the result most."""
    table = Table(f"{KIND}: what moves the result most", ("constant", "tag", "at low", "at high"))
    for each in found:
        ends = [
            spread(Interval(median=v, low=v, high=v, unit=unit))[0] for v in (each.low, each.high)
        ]
        table.rows.append((each.constant, each.tag, *ends))
    return table


def answer_tables(found: Answer) -> list[Table]:
    """Return the answer to a scenario in its own unit."""
    scenario = found.scenario
    config = scenario.configuration
    where = f"{config.profile.name}, {config.technique}, {config.hardware.name}"
    title = f"{KIND}: {scenario.name} ({where})"
    table = Table(title, ("quantity", "unit", "median", "5-95 %", "published"))
    plain = Interval(median=found.value.median, low=found.value.low, high=found.value.high)
    expected = "" if scenario.expected is None else f"{scenario.expected:g} [{scenario.tag}]"
    table.rows.append((scenario.quantity, scenario.unit, *spread(plain), expected))
    return [table, tornado_table(found.tornado, "")]


def profile_constants(profile: Profile, hardware: Hardware, constants: Constants) -> list[Constant]:
    """Return every constant a profile reads on this hardware: any event, any device, its start."""
    costs = Costs(constants)
    for technique in possible_techniques(profile, hardware):
        configuration = Configuration(
            profile=profile,
            technique=technique,
            hardware=hardware,
            net_path=profile.net_path,
            disk_path=profile.disk_path,
            fresh=True,
        )
        Machine(configuration).run(EVERYTHING, costs, dict.fromkeys(Op, 1.0))
    startup.stages(profile, startup.Boot(network=True, until="command"), costs, hardware)
    foot = memory.Footprint(memory_bytes=2**30)
    for definition in memory.DEFINITIONS if profile.type != "os" else ("host",):
        memory.memory_bytes(profile, foot, definition, costs)
    memory.density(profile, foot, memory.Host(memory_bytes=2**36), costs)
    return [each for each in constants if each.name in costs.used]


def possible_techniques(profile: Profile, hardware: Hardware) -> list[str]:
    """Return the techniques of a profile this hardware can run."""
    return [name for name in profile.techniques if name not in NEEDS or hardware.has(NEEDS[name])]


EVERYTHING = WorkloadTrace(
    t_user_s=1.0,
    t_sys_s=1.0,
    wall_s=2.0,
    **dict.fromkeys(COUNTS, 1.0),  # type: ignore[arg-type]
)
"""A trace in which everything happens once."""
