"""The suite every arm passes: same bytes, same words, same answer, nothing left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.bench.backend import Backend
from pycontain.bench.backends import arms, choose
from pycontain.bench.image import BenchImage, suite_image
from pycontain.bench.model import Kind, Limits, Workload
from pycontain.bench.place import Place
from pycontain.bench.suite import hold, startup
from pycontain.errors import UnsupportedError, UsageError

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

SIMULATED = ("sim:kvm-qemu", "sim:xen-pv", "sim:container")
NAMES = (
    *("native", "native-again", "pycontain", "runc", "crun", "bwrap", "podman", "docker"),
    *("gvisor", "qemu", "qemu-microvm", *SIMULATED),
)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Place() as place:
        yield place
    assert not place.path.exists()


@pytest.fixture(autouse=True)
def the_hosts_null_device_stays() -> Iterator[None]:
    before = Path("/dev/null").stat()
    yield
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip


@pytest.fixture(scope="module")
def image() -> BenchImage:
    return suite_image()


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backend]:
    return arms(str(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module", params=NAMES)
def arm(
    request: pytest.FixtureRequest, known: dict[str, Backend], image: BenchImage, place: Place
) -> Iterator[Backend]:
    found = known[request.param]
    reason = found.probe()
    if reason:
        pytest.skip(f"{found.name}: {reason}")
    if request.param in SIMULATED and not found.native._root:  # type: ignore[attr-defined]
        found.native.prepare(image, place)  # type: ignore[attr-defined]
    found.prepare(image, place)
    yield found
    found.close()
    found.close()


def workload(*words: str, **changes: object) -> Workload:
    return Workload(name=" ".join(words), argv=("/bin/bench", *words), **changes)  # type: ignore[arg-type]


def test_an_operation_gives_its_figures_and_the_same_result(arm):
    outcome = arm.run(workload("syscall", "3"))
    assert outcome.status == 0, outcome.errors
    assert outcome.output == b"check 0\n"
    assert outcome.metrics["syscall"].value > 0
    assert outcome.metrics["wall"].value > 0


def test_start_up_is_told_from_the_whole_run(arm):
    outcome = arm.run(startup())
    assert 0 < outcome.metrics["to_command"].value <= outcome.metrics["wall"].value


def test_the_exit_status_is_the_commands(arm):
    assert arm.run(workload("exit")).status == 1


def test_the_environment_is_the_workloads(arm):
    """BENCH_DIR names a directory that is not there, which only this variable can say."""
    broken = arm.run(workload("write", "1", env=("BENCH_DIR=/gone",)))
    assert broken.status == 1
    assert arm.run(workload("write", "1", env=("BENCH_DIR=/tmp",))).status == 0


def test_what_must_last_is_written_to_a_disk(arm):
    durable = workload("fdatasync", "1", durable=True)
    outcome = arm.run(durable)
    assert outcome.status == 0, outcome.errors
    assert outcome.metrics["fdatasync"].value > 0
    words = " ".join(arm.command_line(durable))
    if arm.name in ("pycontain", "podman", "docker"):
        assert f"{arm.name}-volume:/tmp" in words
    if arm.kind is Kind.EMULATED:
        assert f"{arm.name}-disk/tmp.ext4" in words


def test_an_arm_says_what_it_is(arm):
    assert arm.kind in Kind
    assert arm.includes
    assert arm.command_line(workload("syscall", "3"))


def test_simulated_figures_have_intervals(arm):
    if arm.kind is not Kind.SIMULATED:
        assert all(one.low is None for one in arm.run(workload("syscall", "3")).metrics.values())
        return
    wall = arm.run(workload("syscall", "3")).metrics["wall"]
    assert wall.low is not None and wall.high is not None
    assert wall.low <= wall.value <= wall.high


def test_a_workload_can_be_held_and_is_gone_afterwards(arm):
    if arm.kind is Kind.SIMULATED:
        with pytest.raises(UnsupportedError), arm.hold(hold()):
            pass
        return
    token = f"hold-{os.urandom(6).hex()}"
    held = workload("touch", "1", token)
    with arm.hold(held):
        # A process of another kernel is none of this host's.
        assert arm.kind is Kind.EMULATED or arm.name == "gvisor" or running(token)
    deadline = time.monotonic() + 5
    while running(token) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(token)


def running(token: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if token.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("name", ["native", "runc", "pycontain", "bwrap"])
def test_a_memory_limit_holds_in_the_arm(known, image, name):
    found = known[name]
    if reason := found.probe():
        pytest.skip(reason)
    with Place() as place:
        try:
            found.prepare(image, place)
            limits = Limits(memory_bytes=16 << 20)
            hog = workload("hog", "256", limits=limits)
            assert found.run(hog).status == 137
            assert found.run(workload("hog", "4", limits=limits)).status == 0
        finally:
            found.close()


def test_native_and_its_twin_always_run(known):
    assert [arm.name for arm in choose(known, "runc")] == ["native", "native-again", "runc"]


def test_all_profiles_can_be_asked_for_at_once(known):
    names = [arm.name for arm in choose(known, "sim:*")]
    assert len(names) > 10 and all(name.startswith(("native", "sim:")) for name in names)


def test_an_unknown_arm_is_refused(known):
    with pytest.raises(UsageError):
        choose(known, "vax")


def test_the_same_bytes_have_the_same_digest():
    assert suite_image().digest == suite_image().digest
