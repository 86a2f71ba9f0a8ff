"""The groups `pycontain bench` and `pycontain vm`: parse, call one function, print.

Imported only when one of them is used; everything here may cost time.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pycontain import paths
from pycontain.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType

IMAGE_WORDS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def _data_root(context: click.Context) -> str:
    """Return the data root: the top command's --root, or the default."""
    given = context.find_root().meta.get("pycontain.globals", {})
    return paths.data_root(str(given.get("root") or ""))


def _size(value: str | None) -> int | None:
    from pycontain.spec.values import size_bytes

    return None if value is None else size_bytes(value, "--memory")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Take SIGTERM as Ctrl-C: mounts, daemons and guests are undone on the way out."""
    raise KeyboardInterrupt


@click.group("bench")
def bench_group() -> None:
    """Compare one workload in containers, guests and simulated hypervisors."""
    signal.signal(signal.SIGTERM, _interrupt)


@bench_group.command("arms")
@click.pass_context
def arms_command(context: click.Context) -> None:
    """List the arms: which can run here, and why the others cannot."""
    from pycontain.bench.backends import arms

    known = arms(_data_root(context))
    width = max(map(len, known))
    for arm in known.values():
        reason = arm.probe()
        state = "available" if not reason else f"not here: {reason}"
        click.echo(f"{arm.name:<{width}}  {arm.kind.value:<9}  {state}")


@bench_group.command("compare", context_settings=IMAGE_WORDS)
@click.argument("image")
@click.argument("command", nargs=-1)
@click.option(
    "--arms",
    default="",
    help="Comma-separated; sim:* is every profile. Default: all real, five simulated.",
)
@click.option(
    "--runs",
    default=10,
    type=click.IntRange(1, 10000),
    show_default=True,
    help="Counted runs of each arm.",
)
@click.option(
    "--guest-runs",
    default=5,
    type=click.IntRange(1, 10000),
    show_default=True,
    help="At most so many boots.",
)
@click.option("--memory", default=None, help="Memory limit of every arm (64m, 1g).")
@click.option("--cpus", default=None, type=float, help="CPU quota of every arm.")
@click.option(
    "--pids-limit", default=None, type=int, help="Process limit of every arm that has one."
)
@click.option("--cpuset-cpus", default="", help="CPUs of every arm, as 0,1.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds one run may take.")
@click.option("--out", default="", help="Directory of the results; a rerun goes on in it.")
@click.pass_context
def compare_command(
    context: click.Context, /, image: str, command: tuple[str, ...], **options: Any
) -> None:
    """Run COMMAND of IMAGE in every arm and write the report."""
    from pycontain.bench.compare import compare
    from pycontain.bench.model import Limits

    limits = Limits(
        memory_bytes=_size(options["memory"]),
        cpus=options["cpus"],
        pids=options["pids_limit"],
        cpuset=options["cpuset_cpus"],
    )
    status = compare(
        _data_root(context),
        image,
        command,
        arms_asked=options["arms"],
        runs=options["runs"],
        guest_runs=options["guest_runs"],
        limits=limits,
        timeout_s=options["timeout"],
        out=options["out"],
    )
    context.exit(status)


@bench_group.command("suite")
@click.argument("group", default="all")
@click.option("--arms", default="", help="Comma-separated; default: all real, five simulated.")
@click.option("--runs", default=10, type=click.IntRange(1, 10000), show_default=True)
@click.option("--guest-runs", default=3, type=click.IntRange(1, 10000), show_default=True)
@click.option("--out", default="", help="Directory of the results; a rerun goes on in it.")
@click.pass_context
def suite_command(
    context: click.Context, group: str, arms: str, runs: int, guest_runs: int, out: str
) -> None:
    """Run the standard workloads: startup ops cpu io net memory density all."""
    from pycontain.bench.compare import suite

    context.exit(
        suite(
            _data_root(context), group, arms_asked=arms, runs=runs, guest_runs=guest_runs, out=out
        )
    )


@bench_group.command("report")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--html", default=None, type=click.Path(path_type=Path))
@click.option("--csv", default=None, type=click.Path(path_type=Path))
@click.option("--markdown", default=None, type=click.Path(path_type=Path))
@click.option("--json", default=None, type=click.Path(path_type=Path))
def report_command(directory: Path, **targets: Path | None) -> None:
    """Show the results of DIRECTORY; write them in other forms."""
    from pycontain.bench import report
    from pycontain.bench.store import Results

    results = Results(directory).load()
    for form, target in targets.items():
        if target is not None:
            target.write_text(report.render(results, form))
    if not any(targets.values()):
        click.echo(report.render(results, "text"), nl=False)


@bench_group.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def diff_command(before: Path, after: Path) -> None:
    """Say what changed between two directories of results, arm by arm."""
    from pycontain.bench.diff import difference
    from pycontain.bench.store import Results

    click.echo(difference(Results(before).load(), Results(after).load()), nl=False)


@bench_group.command("claims")
@click.option("--lang", default="en", type=click.Choice(["en", "ko"]), show_default=True)
@click.option("--runs", default=10, type=click.IntRange(3, 10000), show_default=True)
@click.option("--out", default="", help="Directory of the results; a rerun goes on in it.")
@click.pass_context
def claims_command(context: click.Context, lang: str, runs: int, out: str) -> None:
    """Test nine textbook claims about containers and VMs on this host."""
    from pycontain.bench.claims import run_claims

    click.echo(run_claims(_data_root(context), lang=lang, runs=runs, out=out), nl=False)


@click.group("vm")
def vm_group() -> None:
    """A real guest under QEMU."""
    signal.signal(signal.SIGTERM, _interrupt)


@vm_group.command("run", context_settings=IMAGE_WORDS)
@click.argument("image")
@click.argument("command", nargs=-1)
@click.option(
    "--accel", default="auto", type=click.Choice(["auto", "kvm", "tcg"]), show_default=True
)
@click.option(
    "--machine", default="q35", type=click.Choice(["q35", "pc", "microvm"]), show_default=True
)
@click.option("--memory", default="256m", show_default=True, help="Memory of the guest.")
@click.option("--vcpus", default=1, type=click.IntRange(1, 255), show_default=True)
@click.option("--kernel", default="", help="A kernel image, or a directory one was unpacked into.")
@click.option("--env", "-e", multiple=True, help="NAME=VALUE for the command.")
@click.option("--user", "-u", default="", help="User of the command: name or uid[:gid].")
@click.option("--workdir", "-w", default="", help="Working directory of the command.")
@click.option("--interactive", "-i", is_flag=True, help="Pass standard input on.")
@click.option("--timeout", default=0.0, help="Seconds the command may take; 0: no limit.")
@click.option("--timeline", is_flag=True, help="Print the stages by the host's clock, to stderr.")
@click.pass_context
def vm_run_command(
    context: click.Context, /, image: str, command: tuple[str, ...], **options: Any
) -> None:
    """Boot IMAGE in a guest, run COMMAND in it, exit with its status."""
    from pycontain.bench.vmrun import VmOptions, vm_run

    memory = _size(options.pop("memory"))
    if memory is None:
        raise UsageError("--memory needs a size")
    context.exit(
        vm_run(_data_root(context), image, command, VmOptions(memory_bytes=memory, **options))
    )


bench, vm = bench_group, vm_group
"""The names the top command mounts them by."""
