"""The verbs `bench` and `vm`, as a user calls them."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
from support import Cli

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

ARMS = "native,bwrap,sim:kvm-qemu,sim:xen-pv"
LOOP = ("sh", "-c", "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo $i")


@pytest.fixture
def compared(box: Cli, tmp_path):
    def compare(*options: str) -> str:
        out = str(tmp_path / "out")
        return box("bench", "compare", "--arms", ARMS, "--out", out, *options, "busybox", *LOOP,
                   timeout=200).stdout.decode()  # fmt: skip

    return compare


def test_every_arm_is_listed_and_an_absent_one_has_a_reason(box: Cli):
    lines = box.text("bench", "arms").splitlines()
    names = {line.split()[0] for line in lines}
    assert {"native", "pycontain", "runc", "docker", "gvisor", "qemu", "sim:kvm-qemu"} <= names
    for line in lines:
        assert "available" in line or "not here: " in line
        assert line.split()[1] in ("measured", "emulated", "simulated")


def test_a_comparison_prints_its_table_and_writes_every_report(compared, tmp_path):
    shown = compared("--runs", "3")
    assert "noise floor" in shown and "SIMULATED" in shown and "rootfs sha256:" in shown
    for name in ("report.html", "report.md", "report.csv", "report.json", "meta.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    document = json.loads((tmp_path / "out/report.json").read_text())
    rows = document["sections"][0]["rows"]
    assert all(row["same_output"] for row in rows), rows


def test_a_rerun_goes_on_where_the_first_stopped(compared, tmp_path):
    compared("--runs", "2")
    first = (tmp_path / "out/samples.jsonl").read_text()
    compared("--runs", "3")
    second = (tmp_path / "out/samples.jsonl").read_text()
    assert second.startswith(first)
    added = [json.loads(line)["arm"] for line in second[len(first) :].splitlines()]
    # A measured arm gets the one run it lacks; a simulated one has all it needs.
    assert "native" in added and len(set(added)) == len(added)


def test_another_command_does_not_mix_in(compared, box: Cli, tmp_path):
    compared("--runs", "1")
    done = box("bench", "compare", "--arms", "native", "--out", str(tmp_path / "out"), "busybox",
               "true", status=125)  # fmt: skip
    assert b"another comparison" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_the_samples_and_leaves_nothing(
    box: Cli, tmp_path, monkeypatch, number
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    out = str(tmp_path / "out")
    arguments = ("bench", "compare", "--arms", "native", "--runs", "1000", "--out", out)
    with box.start(
        *arguments, "busybox", *LOOP, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as run:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not samples(out):
            time.sleep(0.1)
        run.send_signal(number)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"samples kept" in errors and b"Traceback" not in errors
    assert samples(out)
    assert not list(scratch.iterdir())


def samples(out: str) -> int:
    try:
        with open(f"{out}/samples.jsonl") as file:
            return len(file.readlines())
    except FileNotFoundError:
        return 0


def test_reports_and_differences_come_from_the_directory_alone(compared, box: Cli, tmp_path):
    compared("--runs", "2")
    out, page = str(tmp_path / "out"), str(tmp_path / "page.html")
    assert "native-again" in box.text("bench", "report", out)
    box("bench", "report", out, "--html", page)
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert "too few runs" in box.text("bench", "diff", out, out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "no-such-image", "true"), b"not found"),
        (("compare", "--arms", "vax", "busybox", "true"), b"no arm vax"),
        (("suite", "nonsense"), b"no suite"),
        (("report", "/nowhere"), b"no results"),
        (("compare", "--memory", "lots", "busybox", "true"), b"--memory"),
    ],
)
def test_mistakes_are_said_in_one_line(box: Cli, words, said):
    done = box("bench", *words, status=125)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.qemu
def test_vm_run_shows_the_guests_kernel_and_returns_the_commands_status(box: Cli):
    done = box("vm", "run", "busybox", "sh", "-c", "uname -a; exit 9", status=None, timeout=150)
    if b"no guest kernel" in done.stderr:
        pytest.skip("needs a guest kernel: scripts/fetch-kernel")
    assert done.returncode == 9
    assert done.stdout.startswith(b"Linux guest ")


@pytest.mark.qemu
def test_vm_run_tells_the_stages_on_standard_error(box: Cli):
    done = box("vm", "run", "--timeline", "busybox", "true", status=None, timeout=150)
    if b"no guest kernel" in done.stderr:
        pytest.skip("needs a guest kernel: scripts/fetch-kernel")
    words = done.stderr.decode().split()
    assert [one for one in words if one in ("vmm", "kernel", "init", "command", "gone")] == [
        *("vmm", "kernel", "init", "command", "gone")
    ]
    assert done.stdout == b""


@pytest.mark.qemu
@pytest.mark.parametrize(
    "words",
    [
        ("--memory", "1m", "busybox", "true"),
        ("--kernel", "/nowhere", "busybox", "true"),
        ("--user", "nobody-here", "busybox", "true"),
        ("no-such-image", "true"),
    ],
)
def test_what_cannot_run_in_a_guest_is_said_in_one_line(box: Cli, words):
    done = box("vm", "run", *words, status=125)
    assert len(done.stderr.splitlines()) == 1
