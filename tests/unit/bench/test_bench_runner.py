"""The order of runs, with arms that only note that they ran."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import pytest

from pycontain.bench.backend import Outcome
from pycontain.bench.model import Kind, Metric, Workload
from pycontain.bench.runner import Plan, run_all, run_once, usable
from pycontain.bench.store import Results
from pycontain.errors import UnsupportedError

if TYPE_CHECKING:
    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place

META = {"image_digest": "", "workloads": []}
WORKLOAD = Workload(name="w", argv=("true",))


class Arm:
    """An arm that runs nothing: the order of runs is what is tested."""

    includes = ""

    def __init__(self, name: str, log: list[str], *, kind: Kind = Kind.MEASURED, reason: str = ""):
        self.name = name
        self.kind = kind
        self.repeats = kind is not Kind.SIMULATED
        self.log = log
        self.reason = reason
        self.broken = False

    def probe(self) -> str:
        return self.reason

    def prepare(self, image: BenchImage, place: Place) -> None:
        return None

    def command_line(self, workload: Workload) -> list[str]:
        return list(workload.argv)

    def run(self, workload: Workload) -> Outcome:
        self.log.append(self.name)
        if self.broken:
            raise UnsupportedError("broken")
        return Outcome(status=0, metrics={"wall": Metric(value=1.0, unit="s")}, output=b"x")

    def hold(self, workload: Workload) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        return None


@pytest.fixture
def results(tmp_path):
    found = Results(tmp_path)
    found.open(META)
    return found


def test_every_round_runs_every_arm_once(results):
    log: list[str] = []
    arms = [Arm(name, log) for name in "abcd"]
    run_all(arms, [WORKLOAD], Plan(runs=5, warmups=1), results)
    rounds = [log[at : at + 4] for at in range(0, len(log), 4)]
    assert len(rounds) == 6
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_the_first_run_of_each_arm_is_warm_up(results):
    arms = [Arm("a", []), Arm("b", [])]
    run_all(arms, [WORKLOAD], Plan(runs=2, warmups=1), results)
    assert [one.warmup for one in results.samples] == [True, True, False, False, False, False]


def test_a_second_call_makes_only_what_is_missing(results):
    log: list[str] = []
    run_all([Arm("a", log)], [WORKLOAD], Plan(runs=3), results)
    assert len(log) == 4
    run_all([Arm("a", log), Arm("b", log)], [WORKLOAD], Plan(runs=5), results)
    assert log.count("a") == 6
    assert log.count("b") == 6


def test_a_simulated_arm_runs_once(results):
    log: list[str] = []
    run_all([Arm("sim:x", log, kind=Kind.SIMULATED)], [WORKLOAD], Plan(runs=9), results)
    assert log == ["sim:x"]


def test_guests_boot_less_often(results):
    log: list[str] = []
    run_all([Arm("qemu", log)], [WORKLOAD], Plan(runs=9, guest_runs=2), results)
    assert len(log) == 3


def test_a_failing_arm_ends_and_the_others_go_on(results):
    log: list[str] = []
    bad, good = Arm("bad", log), Arm("good", log)
    bad.broken = True
    run_all([bad, good], [WORKLOAD], Plan(runs=3), results)
    assert log.count("bad") == 1
    assert log.count("good") == 4
    (failed,) = [one for one in results.samples if one.arm == "bad"]
    assert (failed.status, failed.note) == (-1, "broken")


def test_an_interruption_keeps_what_was_measured(results):
    arm = Arm("a", [])

    def stop(workload: str, name: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([arm], [WORKLOAD], Plan(runs=9), results, stop)
    assert len(Results(results.directory).load().samples) == 2


def test_an_absent_arm_keeps_its_reason():
    there, gone = usable([Arm("a", []), Arm("b", [], reason="not installed")])
    assert [arm.name for arm in there] == ["a"]
    assert gone == {"b": "not installed"}


def test_a_sample_holds_the_hash_of_the_output_and_what_disturbed_it():
    sample = run_once(Arm("a", []), WORKLOAD, False, 0)
    assert len(sample.output_sha256) == 64
    assert sample.steal_percent >= 0 and sample.pressure_percent >= 0
