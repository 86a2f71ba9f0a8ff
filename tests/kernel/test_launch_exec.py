"""A second process in a container that runs: what it joins, what it may, what it hides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launching import make_spec

from pycontain.errors import CommandNotFoundError, KernelError, PycontainError
from pycontain.runtime import container as containers
from pycontain.runtime import launch
from pycontain.runtime.container import Container

pytestmark = pytest.mark.root


CAPABILITIES = ["CAP_CHOWN", "CAP_KILL"]
SETS = ("bounding", "effective", "permitted")


def filtered_spec(rootfs: Path, *args: str) -> dict[str, Any]:
    """Return the spec of a container whose processes may make no directory."""
    spec = make_spec(rootfs, *args, capabilities=dict.fromkeys(SETS, CAPABILITIES))
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    return spec


def run(
    tmp_path: Path, spec: dict[str, Any], executor: str, output: int = 2
) -> tuple[Container, launch.Init]:
    options = launch.LaunchOptions()
    options.executor = executor
    options.stdio = (0, output, output)
    return containers.run(
        str(tmp_path / "run"), f"x{os.getpid()}", str(tmp_path), spec, options  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def sleeper(tmp_path: Path, rootfs: Path, executor: str) -> Iterator[Container]:
    (tmp_path / "run").mkdir()
    made, init = run(tmp_path, filtered_spec(rootfs, "sleep", "60"), executor)
    yield made
    made.delete(force=True)
    os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    os.close(init.pidfd)


def execute(inside: Container, executor: str, script: str, **process: Any) -> tuple[int, list[str]]:
    output = os.memfd_create("output")
    options = launch.LaunchOptions()
    options.executor = executor
    options.stdio = (0, output, output)
    wanted = {**inside.config()["process"], "args": ["sh", "-c", script], **process}
    try:
        init = inside.exec(wanted, options)  # type: ignore[arg-type]
        result = os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
        os.close(init.pidfd)
        assert result is not None
        return result.si_status, os.pread(output, 1 << 16, 0).decode().splitlines()
    finally:
        os.close(output)


def test_it_joins_every_namespace_and_the_root(sleeper: Container, executor: str) -> None:
    kinds = ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"]
    script = "hostname; for n in {}; do readlink /proc/self/ns/$n; done; ls /"
    status, lines = execute(sleeper, executor, script.format(" ".join(kinds)))
    assert status == 0
    assert lines[0] == "box"
    assert lines[1:8] == [os.readlink(f"/proc/{sleeper.pid}/ns/{kind}") for kind in kinds]
    assert set(lines[8:]) == {"bin", "dev", "proc", "sys", "tmp"}


def test_it_is_as_confined_as_init(sleeper: Container, executor: str) -> None:
    fields = "^(Cap...|NoNewPrivs|Seccomp|SigIgn|SigBlk):"
    _, lines = execute(sleeper, executor, f"grep -E '{fields}' /proc/self/status; ls /proc/self/fd")
    there = Path(f"/proc/{sleeper.pid}/status").read_text().splitlines()
    names = {line.split(":")[0] for line in lines[:9]}
    assert sorted(lines[:9]) == sorted(line for line in there if line.split(":")[0] in names)
    assert lines[9:] == ["0", "1", "2", "3"]


def test_it_is_in_the_cgroup(sleeper: Container, executor: str) -> None:
    output = os.memfd_create("output")
    options = launch.LaunchOptions()
    options.executor = executor
    options.stdio = (0, output, output)
    wanted = {**sleeper.config()["process"], "args": ["sleep", "60"]}
    init = sleeper.exec(wanted, options)  # type: ignore[arg-type]
    assert set(sleeper.processes()) >= {sleeper.pid, init.pid}
    os.kill(init.pid, 9)
    os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    os.close(init.pidfd)
    os.close(output)


def test_a_user_of_its_own(sleeper: Container, executor: str) -> None:
    user = {"uid": 7, "gid": 8, "additionalGids": [9]}
    status, lines = execute(sleeper, executor, "id; grep CapEff /proc/self/status", user=user)
    assert lines == ["uid=7 gid=8 groups=9", "CapEff:\t" + "0" * 16]
    assert status == 0


@pytest.mark.parametrize("number", range(3, 15))
def test_the_directory_is_never_outside(sleeper: Container, executor: str, number: int) -> None:
    with pytest.raises(KernelError, match="working directory"):
        execute(sleeper, executor, "pwd", cwd=f"/proc/self/fd/{number}")


def test_a_missing_program(sleeper: Container, executor: str) -> None:
    with pytest.raises(CommandNotFoundError, match=r"executable file not found in \$PATH"):
        execute(sleeper, executor, "", args=["nothing"])


def test_a_stopped_container_takes_nobody(tmp_path: Path, rootfs: Path, executor: str) -> None:
    (tmp_path / "run").mkdir()
    made, init = run(tmp_path, filtered_spec(rootfs, "sh", "-c", ":"), executor)
    os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    os.close(init.pidfd)
    with pytest.raises(PycontainError):
        execute(made, executor, "id")
    made.delete()


def test_the_own_namespace_is_the_same_afterwards(sleeper: Container, executor: str) -> None:
    execute(sleeper, executor, ":")
    assert os.readlink("/proc/self/ns/pid") == os.readlink("/proc/self/ns/pid_for_children")
    assert Path("/proc/self/mem").stat().st_uid == os.geteuid()


def test_no_binary_of_the_host_can_be_written(tmp_path: Path, rootfs: Path, executor: str) -> None:
    # CVE-2019-5736: the container tries to open every new process's binary, while we exec into it.
    (tmp_path / "run").mkdir()
    script = (
        "while :; do for p in /proc/[0-9]*; do"
        ' case ${p#/proc/} in 1|$$) ;; *) (: >> "$p/exe") 2>/dev/null && readlink "$p/exe";'
        " for f in $p/fd/*; do readlink $f; done;; esac; done; done"
    )
    spec = filtered_spec(rootfs, "sh", "-c", script)
    every = [f"CAP_{name}" for name in ("CHOWN", "DAC_OVERRIDE", "SETUID", "SETGID", "KILL")]
    spec["process"]["capabilities"] = dict.fromkeys(SETS, every)
    output = os.memfd_create("output")
    made, init = run(tmp_path, spec, executor, output)
    try:
        for _ in range(25):
            execute(made, executor, ":")
    finally:
        made.delete(force=True)
        os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    seen = os.pread(output, 1 << 20, 0).decode()
    os.close(init.pidfd)
    os.close(output)
    assert "python" not in seen
    assert str(tmp_path) not in seen
