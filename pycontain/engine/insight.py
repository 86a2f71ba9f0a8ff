"""`--explain` and `--timeline`: the plan of a container with its origins, and what each part took.

Explaining makes the container like a run does, writes its plan, and removes it again without a
process having started. A timeline is one run with marks of the parent and of every op on one clock.
"""

from __future__ import annotations

import os
import time

from pycontain.cgroup import manager
from pycontain.engine import removal
from pycontain.runtime import gather, namespaces, plan
from pycontain.runtime.foreground import Foreground
from pycontain.runtime.launch import LaunchOptions
from pycontain.syscalls import executor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from pycontain.engine.draft import Draft
    from pycontain.engine.engine import Engine, Outcome
    from pycontain.engine.record import Record
    from pycontain.runtime.launch import Init
    from pycontain.spec.options import RunOptions


class Row:
    """One line of an explanation: who does it, in which step, the call, why."""

    __slots__ = ("call", "index", "origin", "path", "step", "who")

    def __init__(self, who: str, step: str, call: str, path: str, origin: str, index: int) -> None:
        self.who = who
        self.step = step
        self.call = call
        self.path = path
        self.origin = origin
        self.index = index

    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in Row.__slots__}


def explain(engine: Engine, options: RunOptions, image: str, command: Sequence[str]) -> list[Row]:
    """Return what a run would do, parent first, then every op of the child; run nothing."""
    removal.reconcile(engine.store)
    draft = engine.maker.make(options, image, command)
    try:
        return [*_parent_rows(draft), *_child_rows(draft)]
    finally:
        removal.remove(engine.store, draft.record, draft.lock, volumes=True)


def _parent_rows(draft: Draft) -> Iterator[Row]:
    resources = draft.spec.get("linux", {}).get("resources", {})
    for path, value in _leaves(resources, "linux.resources"):
        yield Row(
            "parent", "set limit", f"{path} = {value}", path, origin_of(draft.origins, path), -1
        )
    spaces = namespaces.asked(draft.spec.get("linux", {}))
    names = [kind for kind, path in spaces.items() if not path]
    flags = namespaces.clone_flags(spaces)
    call = f"clone3(flags={flags:#x})  # new namespaces: {' '.join(names)}"
    where = "linux.namespaces"
    yield Row("parent", "make first process", call, where, origin_of(draft.origins, where), -1)


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}")
    elif isinstance(value, list):
        for at, child in enumerate(value):
            if isinstance(child, dict):
                words = " ".join(f"{key}={part}" for key, part in child.items())
                yield f"{path}[{at}]", words
    else:
        yield path, value


def _child_rows(draft: Draft) -> Iterator[Row]:
    how = LaunchOptions()
    how.bundle = draft.directory
    how.rootfs_mounts = draft.rootfs_mounts
    path = draft.spec["linux"].get("cgroupsPath", "")
    how.cgroup = manager.open(draft.record.cgroup_manager, path, id=draft.record.id)
    absent = _stand_in(draft)
    with gather.Gathered() as held:
        program = plan.init(draft.spec, gather.for_init(draft.spec, how, held))
        for index, op in enumerate(program.ops):
            origin = origin_of(draft.origins, op.path)
            op.args = tuple(
                absent.get(arg, arg) if isinstance(arg, str) else arg for arg in op.args
            )
            yield Row("child", op.step, executor.describe(program, op), op.path, origin, index)


def _stand_in(draft: Draft) -> dict[str, str]:
    """Let an empty directory be the source of each bind whose own a run would make.

    Returns stand-in -> source. They lie in the container's directory and go with it.
    """
    found: dict[str, str] = {}
    for index, mount in enumerate(draft.spec.get("mounts", [])):
        source = mount.get("source", "")
        if mount.get("type") == "bind" and not os.path.exists(source):
            directory = f"{draft.directory}/absent-{index}"
            os.mkdir(directory)
            mount["source"] = directory
            found[directory] = source
    return found


def origin_of(origins: Mapping[str, str], path: str) -> str:
    """Return where the part of config.json at `path` comes from: its own entry or its parent's."""
    while path and path not in origins:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return origins.get(path) or "default"


class Timeline:
    """One run: `marks` (phase, end) and `ops` (step, call, end), ns of CLOCK_MONOTONIC."""

    __slots__ = ("marks", "ops", "started")

    def __init__(self) -> None:
        self.started = time.monotonic_ns()
        self.marks: list[tuple[str, int]] = []
        self.ops: list[tuple[str, str, int]] = []

    def mark(self, phase: str) -> None:
        self.marks.append((phase, time.monotonic_ns()))


def run_timed(
    engine: Engine, options: RunOptions, image: str, command: Sequence[str]
) -> tuple[Record, Outcome, Timeline]:
    """Run a container in the foreground and time each phase and op."""
    from pycontain.engine.engine import Outcome

    line = Timeline()
    removal.reconcile(engine.store)
    line.mark("reconcile")
    with Foreground(sig_proxy=options.sig_proxy) as foreground:
        draft = engine.maker.make(options, image, command)
        line.mark("make container")
        started = time.time()
        try:
            container, init, console = engine.launch(draft, timeline=True)
        except BaseException as error:
            engine.abandon(draft, error)
            raise
        line.mark("launch")
        try:
            status = foreground.attend(init.pidfd, console, typing=draft.record.open_stdin)
            outcome = Outcome(status)
            line.mark("run")
            engine.finish(draft.record, draft.lock, container, outcome, started)
        except BaseException:
            engine.cut_short(draft, container, init.pidfd, started)
            raise
        line.mark("remove" if draft.record.auto_remove else "record the end")
    line.ops = _op_times(init)
    return draft.record, outcome, line


def _op_times(init: Init) -> list[tuple[str, str, int]]:
    program: Any = init.running._program
    times = init.running.timings()
    return [
        (op.step, f"{op.call} {op.target}".rstrip(), end)
        for op, end in zip(program.ops, times, strict=False)
        if end
    ]
