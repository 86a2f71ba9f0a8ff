"""Hostile root file systems and image configurations: refused with one line, or contained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hostcheck import Canary
from hostile import Entry, busybox_entries, directory, docker_archive, file, layer, symlink
from support import Cli

pytestmark = pytest.mark.root


def load(
    cli: Cli, tmp_path: Path, entries: list[Entry], config: dict[str, Any] | None = None
) -> None:
    base = [
        entry for entry in busybox_entries() if entry[0].name not in {e[0].name for e in entries}
    ]
    first = {e[0].name for e in entries if e[0].issym()}
    base = [entry for entry in base if entry[0].name.split("/")[0] not in first]
    cli("load", "-i", docker_archive(tmp_path / "image.tar", [layer([*base, *entries])], config))


def hostile_run(cli: Cli, *command: str, options: tuple[str, ...] = ()) -> tuple[int, bytes, bytes]:
    done = cli("run", "--rm", *options, "hostile", *command, status=None, timeout=20)
    if done.returncode == 125:
        assert done.stderr.count(b"\n") == 1, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_control_the_plain_image_runs(cli: Cli, tmp_path: Path) -> None:
    load(cli, tmp_path, [])
    assert hostile_run(cli, "echo", "hello")[:2] == (0, b"hello\n")


@pytest.mark.parametrize("name", ["hosts", "resolv.conf", "hostname"])
def test_generated_files_follow_no_link_out(
    cli: Cli, tmp_path: Path, canary: Canary, name: str
) -> None:
    load(cli, tmp_path, [symlink(f"etc/{name}", f"{canary.path}/victim")])
    hostile_run(cli, "true")
    assert canary.untouched()


def test_etc_as_a_link_to_the_host(cli: Cli, tmp_path: Path, canary: Canary) -> None:
    load(cli, tmp_path, [symlink("etc", str(canary.path))])
    _, out, _ = hostile_run(cli, "cat", "/etc/victim")
    assert b"canary-content" not in out
    assert canary.untouched()


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("style", ["absolute", "relative", "inside"])
def test_standard_mount_point_as_a_link(
    cli: Cli, tmp_path: Path, canary: Canary, name: str, style: str
) -> None:
    target = {
        "absolute": f"{canary.path}/vdir",
        "relative": "../" * 20 + f"{canary.path}/vdir".lstrip("/"),
        "inside": "tmp",
    }[style]
    load(cli, tmp_path, [symlink(name, target)])
    status, out, _ = hostile_run(cli, "sh", "-c", "echo ran; echo x > /proc/sys/kernel/domainname")
    assert canary.untouched()
    assert status != 0 or b"ran" in out


def test_volume_through_a_link_to_the_host(cli: Cli, tmp_path: Path, canary: Canary) -> None:
    load(cli, tmp_path, [symlink("data", str(canary.path))])
    source = tmp_path / "source"
    source.mkdir()
    hostile_run(cli, "touch", "/data/x/new", options=("-v", f"{source}:/data/x"))
    assert canary.untouched()


@pytest.mark.parametrize("where", ["/proc", "/proc/sys", "/proc/self", "/proc/../proc/self/attr"])
def test_volume_over_proc_is_refused(cli: Cli, tmp_path: Path, where: str) -> None:
    load(cli, tmp_path, [])
    source = tmp_path / "source"
    source.mkdir()
    status, _, error = hostile_run(cli, "true", options=("-v", f"{source}:{where}"))
    assert status == 125
    assert b"/proc" in error


def test_command_is_proc_self_exe(cli: Cli, tmp_path: Path) -> None:
    python = Path("/proc/self/exe").resolve().read_bytes()[:64]
    load(cli, tmp_path, [file("evil", b"#!/proc/self/exe\n", mode=0o755)])
    for command in ("/proc/self/exe", "/evil"):
        # The stub, for that is what the name stands for, ends by itself without a program.
        done = cli("run", "--rm", "hostile", command, status=None, timeout=20)
        assert done.returncode != 0
        assert python not in done.stdout
        assert b"ython" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "workdir",
    [
        "../../../../{canary}",
        "/proc/self/fd/7",
        "/proc/self/fd/8",
        "/proc/1/cwd",
        "/proc/self/root/..",
    ],
)
def test_working_directory_stays_inside(
    cli: Cli, tmp_path: Path, canary: Canary, workdir: str
) -> None:
    load(cli, tmp_path, [], {"WorkingDir": workdir.format(canary=canary.path)})
    _, out, _ = hostile_run(cli, "sh", "-c", "ls -a; cat victim; cat ../victim; ls /; pwd")
    assert b"canary-content" not in out
    assert b"lost+found" not in out
    assert canary.untouched()


def test_workdir_option_through_descriptors(cli: Cli, tmp_path: Path) -> None:
    load(cli, tmp_path, [])
    for number in range(3, 21):
        script = "ls ../../../../ 2>/dev/null"
        options = ("--workdir", f"/proc/self/fd/{number}")
        _, out, _ = hostile_run(cli, "sh", "-c", script, options=options)
        assert b"boot" not in out.split()


@pytest.mark.parametrize(
    "user", ["nosuchuser", "4294967296", "-1", "root:nosuchgroup", "1000:4294967295"]
)
def test_unknown_or_overflowing_user_is_refused(cli: Cli, tmp_path: Path, user: str) -> None:
    load(cli, tmp_path, [], {"User": user})
    status, out, error = hostile_run(cli, "id", "-u")
    assert status == 125, (out, error)
    assert out == b""


@pytest.mark.parametrize(
    "user", ["-1", "4294967296", "2147483648", "0x0", "1000:-1", "\u0661", " 0", "+0", "1_0"]
)
def test_user_option_never_becomes_root(cli: Cli, tmp_path: Path, user: str) -> None:
    load(cli, tmp_path, [], {"User": "1000"})
    _, out, _ = hostile_run(cli, "id", "-u", options=(f"--user={user}",))
    assert out.strip() != b"0"


def test_passwd_as_a_link_to_the_host(cli: Cli, tmp_path: Path, canary: Canary) -> None:
    load(cli, tmp_path, [symlink("etc/passwd", f"{canary.path}/passwd")], {"User": "canary"})
    status, out, _ = hostile_run(cli, "id")
    assert (status, out) == (125, b"")


def test_passwd_as_a_fifo_does_not_hang(cli: Cli, tmp_path: Path) -> None:
    import tarfile

    load(cli, tmp_path, [file("etc/passwd", type=tarfile.FIFOTYPE)], {"User": "someone"})
    assert hostile_run(cli, "id")[0] == 125


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["A=b\0c"]},
        {"Cmd": ["echo", "a\0b"]},
        {"Entrypoint": ["ec\0ho"]},
        {"WorkingDir": "/a\0b"},
    ],
)
def test_a_nul_byte_is_refused(cli: Cli, tmp_path: Path, config: dict[str, Any]) -> None:
    archive = docker_archive(tmp_path / "image.tar", [layer(busybox_entries())], config)
    loaded = cli("load", "-i", archive, status=None)
    if loaded.returncode == 0:
        status, _, error = hostile_run(cli)
        assert status == 125
        assert b"NUL" in error


@pytest.mark.parametrize(
    "config",
    [
        {"Env": "PATH=/bin"},
        {"Env": [1]},
        {"Cmd": {"a": 1}},
        {"User": 7},
        {"WorkingDir": ["x"]},
        {"Volumes": ["/x"]},
        {"Labels": "x"},
        {"Entrypoint": [["x"]]},
        {"ExposedPorts": 3},
        {"StopSignal": "SIGNOPE"},
    ],
)
def test_wrong_types_in_the_config(cli: Cli, tmp_path: Path, config: dict[str, Any]) -> None:
    archive = docker_archive(tmp_path / "image.tar", [layer(busybox_entries())], config)
    if cli("load", "-i", archive, status=None).returncode == 0:
        hostile_run(cli, "true")


def test_environment_of_the_image_does_not_reach_the_runtime(
    cli: Cli, tmp_path: Path, canary: Canary
) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "sitecustomize.py").write_text(f"open({str(canary.path / 'pwned')!r}, 'w')\n")
    names = ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_LIBRARY_PATH"]
    config = {"Env": [f"{name}={evil}" for name in names] + [f"LD_PRELOAD={evil}/x.so"]}
    load(cli, tmp_path, [], config)
    hostile_run(cli, "true")
    assert canary.untouched()


@pytest.mark.parametrize(
    "volume", ["/../../../..{canary}", "/proc/self/fd/5", "/", "relative", "/a/../.."]
)
def test_image_volumes_show_no_host_content(
    cli: Cli, tmp_path: Path, canary: Canary, volume: str
) -> None:
    load(cli, tmp_path, [], {"Volumes": {volume.format(canary=canary.path): {}}})
    _, out, _ = hostile_run(
        cli, "sh", "-c", f"cat {canary.path}/victim; echo x > {canary.path}/new"
    )
    assert b"canary-content" not in out
    assert canary.untouched()


def test_deeply_nested_config_is_refused(cli: Cli, tmp_path: Path) -> None:
    raw = b'{"config":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    data = layer(busybox_entries())
    archive = docker_archive(tmp_path / "image.tar", [data], raw_config=raw)
    done = cli("load", "-i", archive, status=None)
    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1


def test_nothing_is_left_after_refusals(cli: Cli, tmp_path: Path) -> None:
    load(cli, tmp_path, [directory("data")])
    mounts = Path("/proc/self/mountinfo").read_text()
    for options in (
        ("--user", "nosuch"),
        ("--workdir", "relative"),
        ("-v", "/nonexistent-x/y:relative"),
    ):
        assert hostile_run(cli, "true", options=options)[0] == 125
    assert hostile_run(cli, "/nonexistent")[0] == 127
    assert hostile_run(cli, "/etc/passwd")[0] == 126
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert os.listdir(cli.data / "containers") == []
    assert cli.text("ps", "-a", "-q") == ""
