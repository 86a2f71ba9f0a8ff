"""`pycontain run` end to end: its own world, exit statuses, files, users."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from support import Cli

pytestmark = pytest.mark.root


def test_a_container_sees_its_own_world(box: Cli) -> None:
    script = "hostname; id -u; ps | wc -l; cat /proc/self/cgroup; readlink /proc/self/ns/pid"
    lines = box.text(
        "run", "--rm", "--hostname", "inner", "busybox", "sh", "-c", script
    ).splitlines()
    assert lines[0] == "inner"
    assert lines[1] == "0"
    assert int(lines[2]) <= 4
    assert all(line.endswith(":/") for line in lines[3:-1])
    assert lines[-1] != os.readlink("/proc/self/ns/pid")


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 7", 7), ("exit 0", 0), ("sh -c 'kill -9 $$'", 137), ("sh -c 'kill -15 $$'", 143)],
)
def test_the_commands_exit_status_is_ours(box: Cli, script: str, status: int) -> None:
    box(
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        script + "; exit $?" if "kill" in script else script,
        status=status,
    )


def test_a_command_that_is_not_there_is_127(box: Cli) -> None:
    done = box("run", "--rm", "busybox", "nosuch", status=127)
    assert b"nosuch" in done.stderr


def test_a_command_that_cannot_be_executed_is_126(box: Cli) -> None:
    assert b"/etc/passwd" in box("run", "--rm", "busybox", "/etc/passwd", status=126).stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--workdir", "relative"],
        ["--user", "nosuch"],
        ["--mount", "type=bind,src=/no/such/place,dst=/x"],
        ["--memory", "1k"],
        ["--cap-add", "nosuch"],
        ["--network", "bridge"],
        ["-p", "80:80"],
        ["--sysctl", "kernel.hostname=x"],
        ["--device", "/dev/nosuch"],
        ["--security-opt", "seccomp=/no/such"],
        ["--runtime", "/no/such/runtime"],
    ],
)
def test_our_failures_are_125_with_one_line(box: Cli, options: list[str]) -> None:
    done = box("run", "--rm", *options, "busybox", "true", status=125)
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"pycontain: ")
    assert done.stdout == b""


def test_errors_are_json_on_request(box: Cli) -> None:
    done = box("--error-format", "json", "run", "nosuchimage", status=125)
    assert json.loads(done.stderr)["error"] == "NotFoundError"


def test_standard_input_is_passed_with_i_only(box: Cli) -> None:
    assert box("run", "--rm", "-i", "busybox", "cat", stdin=b"hello").stdout == b"hello"
    assert box("run", "--rm", "busybox", "cat", stdin=b"hello").stdout == b""


def test_a_named_user_is_the_images(box: Cli) -> None:
    text = box.text("run", "--rm", "--user", "1000:2000", "--group-add", "7", "busybox", "id")
    assert "uid=1000" in text
    assert "gid=2000" in text
    assert "7" in text.split("groups=")[1]


@pytest.mark.parametrize("user", ["-1", "4294967296", "2147483648", "", "0x0", "1000:-1", "\u0661"])
def test_no_odd_user_becomes_root(box: Cli, user: str) -> None:
    done = box("run", "--rm", f"--user={user}", "busybox", "id", "-u", status=None)
    assert done.returncode == 125
    assert done.stdout == b""


def test_the_callers_environment_does_not_leak(box: Cli) -> None:
    box.env["SECRET"] = "hunter2"
    assert "hunter2" not in box.text("run", "--rm", "busybox", "env")
    assert "SECRET=hunter2" in box.text("run", "--rm", "-e", "SECRET", "busybox", "env")
    del box.env["SECRET"]


@pytest.mark.parametrize("fd", range(3, 21))
def test_a_working_directory_under_proc_self_fd_stays_inside(box: Cli, fd: int) -> None:
    place = f"/proc/self/fd/{fd}"
    done = box("run", "--rm", "--workdir", place, "busybox", "ls", "../../../..", status=None)
    assert b"quickstart" not in done.stdout
    assert b"lost+found" not in done.stdout


def test_a_volume_keeps_what_was_written(box: Cli, tmp_path: Path) -> None:
    box("run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", "echo kept > /data/file")
    assert (tmp_path / "file").read_text() == "kept\n"
    read = box(
        "run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "touch", "/data/x", status=None
    )
    assert read.returncode != 0
    assert not (tmp_path / "x").exists()


def test_a_named_volume_is_filled_from_the_image_and_outlives_its_container(box: Cli) -> None:
    box("run", "--rm", "-v", "conf:/etc", "busybox", "sh", "-c", "echo more >> /etc/motd")
    text = box.text("run", "--rm", "-v", "conf:/etc", "busybox", "cat", "/etc/passwd", "/etc/motd")
    assert "root:" in text
    assert text.endswith("more\n")
    box("volume", "rm", "conf")


def test_a_read_only_root_refuses_writes(box: Cli) -> None:
    assert box("run", "--rm", "--read-only", "busybox", "touch", "/x", status=None).returncode != 0
    box("run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "touch", "/tmp/x")


def test_hosts_and_resolv_conf_are_the_containers(box: Cli) -> None:
    text = box.text(
        "run", "--rm", "--hostname", "inner", "--add-host", "db:10.0.0.9", "--dns", "10.0.0.1",
        "busybox", "cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
    )  # fmt: skip
    assert "10.0.0.9\tdb" in text
    assert "nameserver 10.0.0.1" in text
    assert "\ninner\n" in text


def test_loopback_is_up_and_nothing_else_is_there(box: Cli) -> None:
    text = box.text(
        "run", "--rm", "busybox", "sh", "-c", "ls /sys/class/net; cat /sys/class/net/lo/flags"
    )
    assert text.split()[0] == "lo"
    assert int(text.split()[-1], 16) & 1


def test_a_container_shares_anothers_network_on_request(box: Cli) -> None:
    box("run", "-d", "--name", "first", "busybox", "sleep", "60")
    first = box.text("exec", "first", "readlink", "/proc/self/ns/net")
    second = box.text(
        "run", "--rm", "--net", "container:first", "busybox", "readlink", "/proc/self/ns/net"
    )
    assert first == second


def test_explain_prints_the_plan_with_its_origins_and_runs_nothing(
    box: Cli, tmp_path: Path
) -> None:
    text = box.text(
        "run", "--explain", "--memory", "64m", "-v", f"{tmp_path}:/d", "busybox", "touch", "/d/x"
    )
    assert "[--memory 64m]" in text
    assert "pivot_root" in text
    assert "execve" in text
    assert not (tmp_path / "x").exists()
    assert box.text("ps", "-aq") == ""
    rows = json.loads(box.text("run", "--explain", "--format", "json", "busybox", "true"))
    assert {"parent", "child"} == {row["who"] for row in rows}


@pytest.mark.parametrize("options", [[], ["--userns=auto"]])
def test_explain_makes_nothing_that_a_run_would_make(
    box: Cli, tmp_path: Path, options: list[str]
) -> None:
    missing, id_file = tmp_path / "made/deep", tmp_path / "id"
    argv = ["--explain", *options, "--cidfile", id_file]
    argv += ["-v", f"{missing}:/bound", "-v", "dryvolume:/kept", "-v", "/nameless"]
    before = box.text("volume", "ls", "-q")
    text = box.text("run", *argv, "busybox", "true")
    assert f"[--volume {missing}:/bound]" in text
    assert "[--volume dryvolume:/kept]" in text
    assert "absent" not in text
    if not options:
        assert f'open_tree(-100, "{missing}"' in text
    assert list(tmp_path.iterdir()) == []
    assert box.text("volume", "ls", "-q") == before
    assert not list(box.data.glob("containers/*"))


def test_a_timeline_follows_the_run(box: Cli) -> None:
    done = box("run", "--rm", "--timeline", "--format", "json", "busybox", "echo", "hi")
    assert done.stdout == b"hi\n"
    events = json.loads(done.stderr)
    assert [event["at_us"] for event in events] == sorted(event["at_us"] for event in events)
    assert {"parent", "child"} == {event["who"] for event in events}


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_another_runtime_takes_the_same_bundle(box: Cli, name: str) -> None:
    import shutil

    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    script = "id -u; grep NoNewPrivs /proc/self/status; exit 4"
    done = box("run", "--rm", "--runtime", name, "busybox", "sh", "-c", script, status=None)
    if b"hybrid mode not supported" in done.stderr:
        pytest.skip(f"{name} refuses a hybrid cgroup hierarchy")
    assert done.returncode == 4
    assert done.stdout.split() == [b"0", b"NoNewPrivs:", b"1"]


def test_a_terminal_is_the_containers_own(box: Cli) -> None:
    master, slave = pty.openpty()
    argv = [
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "tty; stty size; read x; echo got $x; exit 5",
    ]
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    process = box.start(*argv, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    end = time.monotonic() + 20
    sent = False
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            seen += os.read(master, 4096)
        except OSError:
            break  # nobody holds the other side any more
        if b"31 97" in seen and not sent:
            os.write(master, b"typed\n")
            sent = True
    os.close(master)
    assert process.wait(5) == 5, seen
    assert b"/dev/pts/0" in seen
    assert b"got typed" in seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command(box: Cli, number: signal.Signals) -> None:
    script = f"trap 'exit 42' {number.name[3:]}; echo ready; while true; do sleep 0.05; done"
    process = box.start("run", "--rm", "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(10) == 42
    process.stdout.close()


def test_an_init_reaps_and_passes_the_exit_status_on(box: Cli) -> None:
    if b"no C compiler" in box("info").stdout:
        pytest.skip("the static program init is not built")
    done = box("run", "--rm", "--init", "busybox", "sh", "-c", "echo $$; exit 6", status=6)
    assert done.stdout.strip() != b"1"


def test_a_time_offset_moves_the_containers_clock(box: Cli) -> None:
    text = box.text(
        "run", "--rm", "--time-offset", "boottime=10000h", "busybox", "cat", "/proc/uptime"
    )
    assert float(text.split()[0]) > 36_000_000
