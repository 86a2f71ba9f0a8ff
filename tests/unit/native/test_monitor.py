"""The detached monitor and the container's init: what they log, reap and exit with."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import pycontain.native
from pycontain.engine import logs

BIN = Path(pycontain.native.__file__).parent / "bin"
MONITOR, INIT = BIN / "monitor", BIN / "init"

pytestmark = pytest.mark.skipif(
    not MONITOR.exists() or not INIT.exists(), reason="the native programs are not built"
)


def monitored(tmp_path: Path, command: list[str], *options: str) -> int:
    """Run `command` under the monitor as an engine does; return the wait status it hands over."""
    status = tmp_path / "status"
    middle = os.fork()
    if middle == 0:
        try:
            (out, out_end), (err, err_end) = os.pipe(), os.pipe()
            pid = os.fork()
            if pid == 0:
                os.dup2(out_end, 1)
                os.dup2(err_end, 2)
                os.execvp(command[0], command)
            os.close(out_end)
            os.close(err_end)
            argv = ["monitor", "--pid", str(pid), "--stdout", str(out), "--stderr", str(err)]
            argv += ["--log", str(tmp_path / "log"), *options, "--"]
            argv += ["/bin/sh", "-c", f'echo "$1" > {status}', "next"]
            for fd in (out, err):
                os.set_inheritable(fd, True)
            os.execv(MONITOR, argv)
        finally:
            os._exit(99)
    assert os.waitpid(middle, 0)[1] == 0
    return int(status.read_text())


def entries(*logs: Path) -> list[dict[str, str]]:
    return [json.loads(line) for log in logs for line in log.read_bytes().split(b"\n") if line]


def test_lines_streams_and_times_are_logged(tmp_path: Path) -> None:
    script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three; exit 3"
    before = time.strftime("%Y-%m-%dT%H:%M", time.gmtime())
    assert os.waitstatus_to_exitcode(monitored(tmp_path, ["sh", "-c", script])) == 3
    found = entries(tmp_path / "log")
    assert [(e["log"], e["stream"]) for e in found] == [
        ("one\n", "stdout"),
        ("two\n", "stderr"),
        ("three", "stdout"),
    ]
    times = [e["time"] for e in found]
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", t) for t in times)
    assert times[0][:13] == before[:13]


def test_any_bytes_become_valid_json(tmp_path: Path) -> None:
    octets = (
        bytes(range(1, 256)) + "é€😀".encode() + b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf\xe2\x82"
    )
    (tmp_path / "data").write_bytes(octets)
    monitored(tmp_path, ["cat", str(tmp_path / "data")])
    text = "".join(entry["log"] for entry in entries(tmp_path / "log"))
    assert text[:127] == octets[:127].decode()
    assert "é€😀" in text
    assert "\ufffd" in text
    assert not any("\ud800" <= letter <= "\udfff" for letter in text)


def test_long_lines_are_cut_between_characters(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("€" * 20000 + "\n")
    monitored(tmp_path, ["cat", str(tmp_path / "data")])
    found = entries(tmp_path / "log")
    assert len(found) > 1
    assert "".join(e["log"] for e in found) == "€" * 20000 + "\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"one\ntwo\n\nthree",
        bytes(range(256)) * 3,
        "é€😀".encode() + b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf\xe0\x80\xe2\x82",
        b"\xe2\x82\n\xf0\x9f\x98",
        b"a" + "€".encode() * 20000 + b"\nend\n",
        b"a" * 16381 + "😀".encode() + b"\n",
        b"a" * 16382 + b"\xe2\x82\xff\n",
        *(
            b"a" * size + end
            for size in (16382, 16383, 16384, 16385, 32768)
            for end in (b"", b"\n")
        ),
    ],
    ids=lambda octets: f"{octets[:2]!r}-{len(octets)}",
)
def test_the_log_written_without_it_is_the_same(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "data").write_bytes(octets)
    monitored(tmp_path, ["cat", str(tmp_path / "data")])
    log = logs.Log(str(tmp_path), "json-file", {})
    fd = os.open(tmp_path / "data", os.O_RDONLY)
    while log.copy(fd, "stdout"):
        pass
    os.close(fd)
    log.close()
    ours, theirs = tmp_path / logs.NAME, tmp_path / "log"
    texts = [[(e["log"], e["stream"]) for e in entries(path)] for path in (ours, theirs)]
    assert texts[0] == texts[1]
    assert ours.stat().st_mode == theirs.stat().st_mode
    assert "".join(text for text, _ in texts[0]) == "".join(
        "\ufffd" if "\udc80" <= c <= "\udcff" else c
        for c in octets.decode("utf-8", "surrogateescape")
    )


def test_logs_are_rotated_and_lines_stay_whole(tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done"
    monitored(tmp_path, ["sh", "-c", script], "--max-size", "9000", "--max-files", "3")
    names = ["log.2", "log.1", "log"]
    assert sorted(p.name for p in tmp_path.glob("log*")) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 9000 for name in names)
    numbers = [int(e["log"].split()[1]) for e in entries(*(tmp_path / n for n in names))]
    assert numbers == list(range(numbers[0], 500))


def test_a_single_log_file_starts_again(tmp_path: Path) -> None:
    monitored(tmp_path, ["seq", "500"], "--max-size", "5000")
    assert [p.name for p in tmp_path.glob("log*")] == ["log"]
    assert entries(tmp_path / "log")[-1]["log"] == "500\n"


def test_a_signal_is_handed_over_raw(tmp_path: Path) -> None:
    assert monitored(tmp_path, ["sh", "-c", "kill -9 $$"]) == signal.SIGKILL


def test_who_holds_the_pipe_does_not_hold_the_record(tmp_path: Path) -> None:
    started = time.monotonic()
    assert monitored(tmp_path, ["sh", "-c", "sleep 20 & echo $!"]) == 0
    assert time.monotonic() - started < 10
    os.kill(int(entries(tmp_path / "log")[0]["log"]), signal.SIGKILL)


def test_a_log_that_cannot_be_opened_does_not_stop_the_container(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert os.waitstatus_to_exitcode(monitored(tmp_path, ["sh", "-c", "seq 9999; exit 4"])) == 4


@pytest.mark.parametrize("argv", [["--pid"], ["--pid", "0", "--", "x"], ["--what", "1", "--", "x"]])
def test_a_wrong_command_line_is_refused(argv: list[str]) -> None:
    assert subprocess.run([MONITOR, *argv]).returncode == 125


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["--", "sh", "-c", "kill -9 $$"], 137),
        (["nonexistent-command"], 127),
        (["/nonexistent/command"], 127),
        (["/etc/passwd"], 126),
        ([], 127),
    ],
)
def test_init_exits_as_its_command_did(argv: list[str], status: int) -> None:
    assert subprocess.run([INIT, *argv], stdin=subprocess.DEVNULL).returncode == status


def test_init_passes_signals_on() -> None:
    script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([INIT, "sh", "-c", script], stdout=subprocess.PIPE) as init:
        assert init.stdout is not None
        assert init.stdout.readline() == b"ready\n"
        init.terminate()
        assert init.stdout.read() == b"told\n"
        assert init.wait() == 5


def test_inits_command_owns_the_terminal() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(INIT, ["init", "sh", "-c", "ps -o pgid=,tpgid= -p $$; exit 6"])
    text = b""
    while True:
        try:
            text += os.read(terminal, 1000)
        except OSError:
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    group, foreground = text.split()
    assert group == foreground
