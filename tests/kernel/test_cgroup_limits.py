"""Limits at work: what the kernel does to a process in the cgroup, on v1, hybrid and v2 alike."""

from __future__ import annotations

import os
import signal
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontain.cgroup import manager
from pycontain.cgroup.hierarchy import detect
from pycontain.errors import ConflictError, InvalidError, KernelError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.cgroup.group import Cgroup

pytestmark = pytest.mark.root

MIB = 1 << 20
COUNT = iter(range(10**6))


def has(controller: str) -> bool:
    hierarchy = detect()
    v2_name = {"devices": "", "freezer": "", "blkio": "io"}.get(controller, controller)
    if controller in hierarchy.v1:
        return True
    return bool(hierarchy.unified) and (not v2_name or v2_name in hierarchy.v2_controllers())


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    name = f"pycontain-test-{os.getpid()}-{next(COUNT)}"
    cgroup = manager.open("cgroupfs", name)
    cgroup.create()
    paths = cgroup.paths()
    yield cgroup
    # Not by the object under test: a test may have removed, or failed to remove, it.
    rest = manager.attach(paths)
    rest.kill()
    reap()
    rest.remove()


def reap() -> None:
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def inside(cgroup: Cgroup, body: Callable[[], int]) -> int:
    """Run `body` in a child that joins as a container's does; return its pid once it is in."""
    files = cgroup.join_files()
    v2 = cgroup.paths().get("")
    ready, done = os.pipe()
    pid = os.fork()
    if pid:
        os.close(done)
        os.read(ready, 1)
        os.close(ready)
        return pid
    code = 254
    try:
        for file in files + ([f"{v2}/cgroup.procs"] if v2 else []):
            fd = os.open(file, os.O_WRONLY)
            os.write(fd, b"0")
            os.close(fd)
        os.closerange(done, done + 1)
        os.close(ready)
        code = body()
    except OSError as error:
        code = error.errno or 255
    finally:
        os._exit(code)
    return 0


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forever() -> int:
    signal.pause()
    return 0


def spin() -> int:
    while True:
        pass


def use_memory(size: int) -> Callable[[], int]:
    return lambda: len(bytearray(size)) * 0


def test_memory_beyond_the_limit_is_killed_and_reported(cgroup):
    cgroup.apply({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}} if swap() else
                 {"memory": {"limit": 32 * MIB}})  # fmt: skip
    assert exit_code(inside(cgroup, use_memory(100 * MIB))) == -signal.SIGKILL
    struck, limit, peak = cgroup.oom()
    assert struck
    assert limit == 32 * MIB
    assert 24 * MIB < peak <= 33 * MIB


def swap() -> bool:
    probe = manager.open("cgroupfs", f"pycontain-probe-{os.getpid()}")
    probe.create()
    try:
        probe.apply({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}})
        return True
    except (KernelError, UnsupportedError):
        return False
    finally:
        probe.remove()


def test_memory_below_the_limit_is_left_alone(cgroup):
    cgroup.apply({"memory": {"limit": 128 * MIB}})
    assert exit_code(inside(cgroup, use_memory(40 * MIB))) == 0
    assert cgroup.oom()[0] is False


def cpu_share_of(pid: int, seconds: float) -> float:
    def used() -> int:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before, start = used(), time.monotonic()
    time.sleep(seconds)
    ticks = used() - before
    return ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - start)


@pytest.mark.skipif(not has("cpu"), reason="no cpu controller")
def test_a_tenth_of_a_cpu_is_all_a_loop_gets(cgroup):
    # A tenth, and not half: on a busy machine half may be more than anybody gets.
    cgroup.apply({"cpu": {"quota": 5000, "period": 50000}})
    assert cpu_share_of(inside(cgroup, spin), 1.0) < 0.25
    assert within(20, lambda: cgroup.stats()["cpu"]["throttling"]["throttledPeriods"] > 0)


@pytest.mark.skipif(not has("cpu"), reason="no cpu controller")
def test_a_quota_added_later_takes_the_running_process_in(cgroup):
    pid = inside(cgroup, spin)
    time.sleep(0.1)
    cgroup.apply({"cpu": {"quota": 10000, "period": 50000}})
    assert cpu_share_of(pid, 1.0) < 0.4
    assert within(20, lambda: cgroup.stats()["cpu"]["usage"]["total"] > 5_000_000)


@pytest.mark.skipif(not has("pids"), reason="no pids controller")
def test_a_fork_bomb_stops_at_the_limit(cgroup):
    cgroup.apply({"pids": {"limit": 10}})

    def bomb() -> int:
        children = 0
        while children < 100:
            try:
                if os.fork() == 0:
                    signal.pause()
                children += 1
            except BlockingIOError:
                return children
        return 200

    assert exit_code(inside(cgroup, bomb)) == 9
    cgroup.kill()
    # What the bomb left is the host's init process to wait for.
    assert within(10, lambda: cgroup.procs() == [])


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def opened(path: str, flags: int) -> Callable[[], int]:
    def body() -> int:
        os.close(os.open(path, flags))
        return 0

    return body


RULES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"},
    {"allow": True, "type": "c", "access": "m"},
]


def test_devices_not_allowed_do_not_open(cgroup):
    cgroup.apply({"devices": RULES})
    assert exit_code(inside(cgroup, opened("/dev/null", os.O_RDWR))) == 0
    assert exit_code(inside(cgroup, opened("/dev/zero", os.O_RDONLY))) == 0
    assert exit_code(inside(cgroup, opened("/dev/zero", os.O_RDWR))) == 1
    assert exit_code(inside(cgroup, opened("/dev/urandom", os.O_RDONLY))) == 1


def test_a_self_made_node_of_a_disk_does_not_open(cgroup, tmp_path):
    cgroup.apply({"devices": RULES})
    os.mknod(tmp_path / "disk", 0o60666, os.makedev(254, 0))
    os.mknod(tmp_path / "mem", 0o20666, os.makedev(1, 1))
    assert exit_code(inside(cgroup, opened(str(tmp_path / "disk"), os.O_RDONLY))) == 1
    assert exit_code(inside(cgroup, opened(str(tmp_path / "mem"), os.O_RDONLY))) == 1


def test_updated_device_rules_replace_the_old_ones(cgroup):
    cgroup.apply({"devices": RULES})
    pid = inside(cgroup, forever)
    cgroup.apply({"devices": [{"allow": True, "type": "c", "major": 1, "minor": 9}]
                  if not detect().pure_v2 else [{"allow": True}]})  # fmt: skip
    assert exit_code(inside(cgroup, opened("/dev/urandom", os.O_RDONLY))) == 0
    os.kill(pid, signal.SIGKILL)


def ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[11])


def test_freeze_stops_and_thaw_goes_on(cgroup):
    pid = inside(cgroup, spin)
    time.sleep(0.05)
    assert cgroup.frozen() is False
    cgroup.freeze()
    assert cgroup.frozen() is True
    before = ticks(pid)
    time.sleep(0.3)
    assert ticks(pid) == before
    cgroup.thaw()
    assert cgroup.frozen() is False
    assert within(20, lambda: ticks(pid) > before)


def test_kill_reaches_frozen_processes(cgroup):
    pid = inside(cgroup, spin)
    time.sleep(0.05)
    cgroup.freeze()
    cgroup.kill()
    assert exit_code(pid) == -signal.SIGKILL
    assert cgroup.procs() == []


def test_kill_stops_processes_that_fork_without_end(cgroup):
    cgroup.apply({"pids": {"limit": 200}})

    def hydra() -> int:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            try:
                if os.fork() == 0:
                    continue
                time.sleep(0.001)
            except BlockingIOError:
                time.sleep(0.001)

    inside(cgroup, hydra)
    assert within(20, lambda: len(cgroup.procs()) > 3)
    cgroup.kill()
    assert within(10, lambda: cgroup.procs() == [])


def test_attach_finds_the_same_cgroup_and_removes_what_was_added_later(cgroup):
    pid = inside(cgroup, spin)
    again = manager.attach(cgroup.paths())
    assert again.procs() == [pid]
    again.freeze()
    # A third process, which knows state.json only, sees and undoes it.
    third = manager.attach(cgroup.paths())
    assert third.frozen()
    third.kill()
    os.waitpid(pid, 0)
    third.remove()
    hierarchy = detect()
    tops = [*hierarchy.v1.values(), hierarchy.unified]
    assert [top for top in tops if top and os.path.exists(top + cgroup.path)] == []


def test_a_cgroup_in_use_is_refused_and_survives(cgroup):
    pid = inside(cgroup, forever)
    other = manager.open("cgroupfs", cgroup.path)
    with pytest.raises(ConflictError, match="is not empty"):
        other.create()
    other.kill()
    other.remove()
    os.kill(pid, 0)
    assert cgroup.procs() == [pid]


def in_child(body):
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = body()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return exit_code(pid)


def test_an_ordinary_user_runs_without_a_cgroup_until_a_limit_is_asked_for():
    def body() -> int:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        cgroup = manager.open("cgroupfs", f"pycontain-test-{os.getpid()}")
        cgroup.create()
        cgroup.apply({"devices": RULES})
        if cgroup.paths() or cgroup.join_files() or cgroup.fd_for_clone() != -1:
            return 1
        try:
            cgroup.apply({"pids": {"limit": 5}})
        except UnsupportedError as error:
            return 0 if "delegate" in str(error) and "no permission" in str(error) else 2
        return 3

    assert in_child(body) == 0


@pytest.mark.skipif(not detect().pure_v2, reason="delegation is cgroup v2's")
def test_an_ordinary_user_limits_below_a_delegated_cgroup():
    home = f"{detect().unified}/pycontain-delegated-{os.getpid()}"
    os.mkdir(home)
    with open(f"{detect().unified}/cgroup.subtree_control", "w") as file:
        file.write("+memory +pids")
    for path in (home, f"{home}/cgroup.procs", f"{home}/cgroup.subtree_control"):
        os.chown(path, 65534, 65534)

    def body() -> int:
        with open(f"{home}/cgroup.procs", "w") as file:
            file.write("0")
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        # A relative path lies below a directory of our own: two levels pass the controllers on.
        cgroup = manager.open("cgroupfs", "box")
        cgroup.create()
        cgroup.apply({"memory": {"limit": 32 * MIB}, "pids": {"limit": 5}})
        pid = inside(cgroup, use_memory(100 * MIB))
        killed = exit_code(pid) == -signal.SIGKILL and cgroup.oom()[0]
        cgroup.remove()
        return 0 if killed else 1

    assert in_child(body) == 0
    os.rmdir(f"{home}/supervisor")
    os.rmdir(home)


def test_what_a_crash_left_is_killed_and_removed_by_name(cgroup):
    pid = inside(cgroup, forever)
    claimed = manager.open("cgroupfs", cgroup.path)
    claimed.owned = True
    claimed.kill()
    assert exit_code(pid) == -signal.SIGKILL
    paths = cgroup.paths()
    claimed.remove()
    assert [path for path in paths.values() if os.path.exists(path)] == []


def test_directories_of_relative_paths_go_with_the_last_container_in_them():
    first, second = (manager.open("cgroupfs", f"p{os.getpid()}/{name}") for name in "ab")
    first.create()
    second.create()
    parents = {os.path.dirname(path) for path in first.paths().values()}
    assert all(parent.endswith(f"/pycontain/p{os.getpid()}") for parent in parents)
    first.remove()
    assert all(os.path.isdir(parent) for parent in parents)
    second.remove()
    assert not any(os.path.exists(parent) for parent in parents)


def test_remove_takes_the_cgroups_below_with_it(cgroup):
    for directory in cgroup.paths().values():
        os.makedirs(f"{directory}/a/b")
    cgroup.remove()
    assert cgroup.paths() == {}


def test_remove_of_a_cgroup_in_use_names_the_processes(cgroup, monkeypatch):
    from pycontain.cgroup import tree

    monkeypatch.setattr(tree, "REMOVE_SECONDS", 0.05)
    pid = inside(cgroup, forever)
    with pytest.raises(KernelError, match=rf"EBUSY.*{pid}"):
        cgroup.remove()


def test_limits_are_raised_and_lowered_in_any_order(cgroup):
    for limit in (64, 256, 32):
        memory = {"limit": limit * MIB, "swap": 2 * limit * MIB} if swap() else {
            "limit": limit * MIB}  # fmt: skip
        cgroup.apply({"memory": memory})
        assert {row["asked"] == row["got"] for row in cgroup.applied({"memory": memory})} == {True}


def test_check_before_update_refuses_a_limit_below_use(cgroup):
    ready, done = os.pipe()

    def hold() -> int:
        block = bytearray(40 * MIB)
        os.write(done, b"x")
        signal.pause()
        return len(block)

    inside(cgroup, hold)
    os.read(ready, 1)
    with pytest.raises(ConflictError, match="in use"):
        cgroup.apply({"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True}})
    os.close(ready)
    os.close(done)


@pytest.mark.skipif(not has("cpuset"), reason="no cpuset controller")
def test_cpuset_pins(cgroup):
    cgroup.apply({"cpu": {"cpus": "0", "mems": "0"}})
    assert exit_code(inside(cgroup, lambda: len(os.sched_getaffinity(0)))) == 1


def passes_on(controller: str) -> bool:
    """Whether cgroups below may have it: with processes in it, only the root of v2 passes on."""
    hierarchy = detect()
    top = Path(hierarchy.unified)
    full = (top / "cgroup.type").exists() and (top / "cgroup.procs").read_text()
    return has(controller) and (controller in hierarchy.v1 or not full)


@pytest.mark.skipif(not passes_on("hugetlb"), reason="no hugetlb controller for us to pass on")
def test_huge_pages_are_limited(cgroup):
    sizes = os.listdir("/sys/kernel/mm/hugepages")
    if "hugepages-2048kB" not in sizes:
        pytest.skip("no 2 MB huge pages")
    resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}
    cgroup.apply(resources)
    assert {row["got"] for row in cgroup.applied(resources)} == {str(4 * MIB)}


def test_a_limit_that_cannot_be_is_an_error_with_file_and_controller(cgroup):
    with pytest.raises((InvalidError, KernelError, UnsupportedError)) as caught:
        cgroup.apply({"unified": {"memory.no_such_limit": "1"}})
    assert "memory" in str(caught.value)


def test_stats_count(cgroup):
    pid = inside(cgroup, spin)
    assert within(20, lambda: cgroup.stats()["cpu"]["usage"]["total"] > 5_000_000)
    stats = cgroup.stats()
    assert stats["memory"]["usage"]["usage"] > 0
    assert stats["pids"]["current"] == 1
    os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not detect().unified, reason="no cgroup v2 mounted")
def test_clone_into_cgroup_descriptor():
    cgroup = manager.open("cgroupfs", f"pycontain-test-{os.getpid()}-clone")
    cgroup.create()
    fd = cgroup.fd_for_clone()
    if detect().pure_v2:
        assert os.fstat(fd).st_ino == os.stat(cgroup.paths()[""]).st_ino
    else:
        assert fd == -1
    cgroup.remove()


def test_a_child_joins_every_directory_by_the_cheap_file(cgroup):
    pid = inside(cgroup, forever)
    for directory in cgroup.paths().values():
        with open(f"{directory}/cgroup.procs") as file:
            assert file.read().split() == [str(pid)]
    # cgroup.procs would wait for an RCU grace period on every start.
    assert {file.rpartition("/")[2] for file in cgroup.join_files()} <= {"tasks"}
