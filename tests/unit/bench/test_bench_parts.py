"""The small pure parts: figures in output, noise, counting, users, OCI configuration, memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontain.bench import counting, noise
from pycontain.bench.backend import environment, split_figures
from pycontain.bench.backends.engines import limit_options
from pycontain.bench.backends.native import strace_total
from pycontain.bench.bundle import oci_config, resources
from pycontain.bench.image import BenchImage, from_directory, tree_digest
from pycontain.bench.launch import Launch, Setting, launch_argv
from pycontain.bench.memory import descendants, pss_bytes
from pycontain.bench.model import Limits, Workload
from pycontain.bench.suite import GROUPS, workloads
from pycontain.bench.user import user_of
from pycontain.errors import NotFoundError, UsageError

IMAGE = BenchImage(name="x", rootfs=Path("/nowhere"), digest="0" * 64, env=("A=1", "B=2"))


def launched(**changes: object) -> Launch:
    zeros = dict.fromkeys(Launch.__dataclass_fields__, 0)
    return Launch(**{**zeros, "events": (), "stdout": b"", "stderr": b"", **changes})  # type: ignore[arg-type]


def test_figures_are_taken_out_of_what_is_compared():
    figures, rest = split_figures(b"figure fork 12.50 ns\ncheck 1\nfigure broken x ns\n")
    assert figures["fork"].value == 12.5 and figures["fork"].unit == "ns"
    assert rest == b"check 1\nfigure broken x ns\n"


def test_output_without_figures_is_untouched():
    assert split_figures(b"no newline")[1] == b"no newline"


def test_the_workload_overrides_the_image_environment():
    found = environment(IMAGE, Workload(name="w", argv=("x",), env=("B=3",)))
    assert found == {"A": "1", "B": "3"}


def test_steal_and_pressure_are_shares_of_the_time_between_readings():
    before = noise.Reading(at_s=10.0, steal_ticks=5, all_ticks=1000, pressure_us=0)
    after = noise.Reading(at_s=12.0, steal_ticks=15, all_ticks=1400, pressure_us=500_000)
    assert noise.between(before, after) == (2.5, 25.0)
    assert noise.contended(2.5, 0.0)
    assert noise.contended(0.0, 25.0)
    assert not noise.contended(2.0, 10.0)


def test_two_readings_at_once_are_no_error():
    reading = noise.Reading(at_s=1.0, steal_ticks=1, all_ticks=1, pressure_us=1)
    assert noise.between(reading, reading) == (0.0, 0.0)


def test_this_host_can_be_read():
    assert noise.read().all_ticks > 0


def test_times_come_from_the_untraced_runs():
    runs: list[tuple[str, ...]] = []

    def run(events: tuple[str, ...]) -> Launch:
        runs.append(events)
        end_ns = 10**9 if events else 10**7
        counts = tuple(-1 for _ in events)
        return launched(end_ns=end_ns, user_us=5000, minor_faults=30, events=counts)

    trace = counting.trace_workload(run, name="w", class_tags=(), repetitions=3)
    assert trace.wall_s == pytest.approx(0.01)
    assert trace.minor_faults == 30
    assert runs[:3] == [(), (), ()]


def test_an_event_that_did_not_open_is_unknown_and_not_zero():
    trace = counting.times_of(launched(), "w", ())
    found = counting.with_counts(trace, ["syscalls", "forks"], (12, -1))
    assert (found.syscalls, found.forks, found.rung) == (12, None, "tracepoints")


def test_counts_of_one_field_are_added():
    trace = counting.times_of(launched(), "w", ())
    assert counting.with_counts(trace, ["disk_flushes", "disk_flushes"], (2, 3)).disk_flushes == 5


def test_the_periodic_tick_is_not_counted_as_a_timer_too():
    trace = counting.times_of(launched(), "w", ())
    found = counting.with_counts(trace, ["ticks", "timer_programs"], (10, 12))
    assert (found.ticks, found.timer_programs) == (10, 2)


def test_without_any_event_the_rung_says_so():
    trace = counting.times_of(launched(), "w", ())
    assert counting.with_counts(trace, ["syscalls"], (-1,)).rung == "rusage"


def test_the_total_of_strace_is_read():
    table = (
        "% time     seconds  usecs/call     calls    errors syscall\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        " 60.00    0.000030           1        20           read\n"
        "100.00    0.000050           1        29         1 total\n"
    )
    assert strace_total(table) == 29
    assert strace_total("") is None


def test_without_tracepoints_the_calls_come_from_strace(monkeypatch):
    monkeypatch.setattr(counting, "tracepoint_ids", dict)
    trace = counting.trace_workload(
        lambda events: launched(), name="w", class_tags=(), count_syscalls=lambda: 17
    )
    assert (trace.rung, trace.syscalls, trace.forks) == ("strace", 17, None)


def test_a_user_namespace_comes_after_the_root_it_fills():
    argv = launch_argv(Setting(root="/r", uid=0, user_namespace=True), ["true"])
    assert argv.index("-r") < argv.index("-U")
    assert "-u" not in argv


def test_the_stopwatch_is_told_everything():
    setting = Setting(root="/r", cwd="/", uid=5, gid=6, cpuset="0,1", join=("/f",), events=("1:2",))
    argv = launch_argv(setting, ["true"], 9)
    assert argv[1:] == [
        *("-c", "0,1", "-r", "/r", "-d", "/", "-u", "5:6", "-p", "/f", "-e", "1:2"),
        *("-o", "9", "--", "true"),
    ]


def test_limits_become_options():
    assert limit_options(Limits(memory_bytes=1 << 20, cpus=0.5, pids=7, cpuset="0")) == [
        *("--memory", "1048576", "--cpus", "0.5", "--pids-limit", "7", "--cpuset-cpus", "0"),
    ]
    assert limit_options(Limits()) == []


def test_a_limit_of_zero_is_a_limit():
    assert resources(Limits(pids=0)) == {"pids": {"limit": 0}}
    assert "--pids-limit" in limit_options(Limits(pids=0))


def test_the_peers_get_the_command_and_the_limits():
    workload = Workload(name="w", argv=("a", "b"), cwd="/c", uid=3, limits=Limits(cpus=0.25))
    config = oci_config(IMAGE, workload, Path("/root"))
    assert config["process"]["args"] == ["a", "b"]
    assert config["process"]["cwd"] == "/c"
    assert config["process"]["user"]["uid"] == 3
    assert config["linux"]["resources"]["cpu"] == {"quota": 25000, "period": 100000}
    assert config["linux"]["seccomp"]["syscalls"]


def test_every_group_of_the_suite_is_known():
    for group in (*GROUPS, "all"):
        workloads(group)
    with pytest.raises(UsageError):
        workloads("nonsense")


def test_names_in_the_suite_are_unique():
    names = [workload.name for workload in workloads("all")]
    assert len(names) == len(set(names))


def test_the_digest_of_a_tree_sees_content_mode_and_links(tmp_path):
    def tree(name: str, content: str, mode: int, target: str) -> str:
        root = tmp_path / name
        root.mkdir()
        (root / "file").write_text(content)
        (root / "file").chmod(mode)
        (root / "link").symlink_to(target)
        return tree_digest(root)

    first = tree("a", "x", 0o644, "t")
    assert first == tree("b", "x", 0o644, "t")
    assert first != tree("c", "y", 0o644, "t")
    assert first != tree("d", "x", 0o600, "t")
    assert first != tree("e", "x", 0o644, "u")


def test_a_directory_that_is_not_there_is_no_image(tmp_path):
    with pytest.raises(NotFoundError):
        from_directory("x", tmp_path / "gone")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc").mkdir()
    users = "root:x:0:0::/root:/bin/sh\nann:x:7:8::/home/ann:/bin/sh\n"
    (tmp_path / "etc/passwd").write_text(users)
    (tmp_path / "etc/group").write_text("staff:x:50:ann,bob\nwheel:x:10:\n")
    return tmp_path


def test_a_user_is_looked_up_in_the_image(root):
    found = user_of(root, "ann")
    assert (found.uid, found.gid, found.groups, found.home) == (7, 8, (50,), "/home/ann")


def test_a_group_replaces_the_users_own(root):
    found = user_of(root, "ann:wheel")
    assert (found.gid, found.groups) == (10, ())


def test_nobody_named_is_root(root, tmp_path):
    assert user_of(root, "").uid == 0
    assert user_of(tmp_path / "etc", "12:34").gid == 34


@pytest.mark.parametrize("wanted", ["nobody-here", "ann:none", "-1", "99999999999", "4294967295"])
def test_an_unknown_user_or_group_is_refused(root, wanted):
    with pytest.raises(NotFoundError):
        user_of(root, wanted)


def test_a_link_in_the_image_is_not_followed(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "passwd"
    outside.write_text("ann:x:99:99::/:\n")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to(outside)
    with pytest.raises(NotFoundError):
        user_of(root, "ann")


def test_pss_is_summed_over_processes(tmp_path):
    for pid, kib in ((1, 100), (2, 23)):
        (tmp_path / str(pid)).mkdir()
        rollup = f"Rss: 9 kB\nPss: {kib} kB\nPss_Anon: 1 kB\n"
        (tmp_path / str(pid) / "smaps_rollup").write_text(rollup)
    assert pss_bytes([1, 2, 3], tmp_path) == 123 << 10


def test_descendants_are_found_whatever_they_are_called(tmp_path):
    for pid, parent, name in ((10, 1, "a"), (11, 10, "b) S 99 ("), (12, 11, "c"), (13, 1, "d")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 0 0")
    assert descendants(10, tmp_path) == [10, 11, 12]
