"""Full, read-only and odd state roots, interruptions, and many commands at once."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostcheck import cgroups, leftovers, links, settled
from hostile import docker_archive, file, layer
from support import Cli

pytestmark = pytest.mark.root

SECONDS = 20
PARENT = f"/pycontain-faults-{os.getpid()}"
RUN = ("run", "--cgroup-parent", PARENT)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After every test: no cgroup of ours, the same network links."""
    before = links()
    yield
    deadline = time.monotonic() + 5
    while cgroups(PARENT) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cgroups(PARENT) == []
    assert links() == before
    for top in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
        if (home := Path(f"{top}{PARENT}")).is_dir():
            home.rmdir()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount small tmpfs file systems; unmounted afterwards."""
    made: list[Path] = []

    def mount(options: str) -> Path:
        path = tmp_path / f"disk{len(made)}"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "disk", str(path)], check=True)
        made.append(path)
        return path

    yield mount
    for path in reversed(made):
        subprocess.run(["umount", "-R", str(path)], check=True)


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """Assert that a command failed as it should: 125, one line; return the line."""
    assert done.returncode == 125, done
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert b"internal error" not in done.stderr, done.stderr
    return done.stderr.decode(errors="replace")


# full and read-only


def test_a_full_data_root_takes_no_half_image(
    tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("size=6m")
    cli = Cli(disk / "data", tmp_path / "state")
    large = docker_archive(tmp_path / "large.tar", [layer([file("x", os.urandom(20 << 20))])])
    used = shutil.disk_usage(disk).used
    for _ in range(3):
        assert "ENOSPC" in one_line(cli("load", "-i", large, status=None, timeout=SECONDS))
        assert cli.text("images", "-q") == ""
        assert shutil.disk_usage(disk).used < used + (1 << 20)
    small = docker_archive(tmp_path / "small.tar", [layer([file("x", b"x")])])
    cli("load", "-i", small)


@pytest.mark.parametrize("inodes", [4, 12, 20, 30])
def test_a_data_root_without_inodes(
    tmp_path: Path, small_disk: Callable[[str], Path], busybox_archive: Path, inodes: int
) -> None:
    disk = small_disk(f"size=64m,nr_inodes={inodes}")
    cli = Cli(disk / "data", tmp_path / "state")
    one_line(cli("load", "-i", busybox_archive, status=None, timeout=SECONDS))
    assert cli("images", "-q", status=None).stdout == b""


@pytest.mark.parametrize("which", ["data", "state", "both"])
def test_a_container_on_full_roots(
    tmp_path: Path, small_disk: Callable[[str], Path], busybox_archive: Path, which: str
) -> None:
    """Filled to the last byte after the load: what fails says so, and removal still works."""
    roots = {"data": tmp_path / "data", "state": tmp_path / "state"}
    disks = {}
    for name in roots if which == "both" else [which]:
        disks[name] = small_disk("size=24m")
        roots[name] = disks[name] / name
    cli = Cli(roots["data"], roots["state"])
    cli("load", "-i", busybox_archive)
    cli("run", "--rm", "busybox", "true")
    cli(*RUN, "-d", "--name", "before", "busybox", "sleep", "100")
    for disk in disks.values():
        with (disk / "fill").open("wb", buffering=0) as fill:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        fill.write(bytes(size))
                except OSError:
                    continue
    for words in (
        [*RUN, "--rm", "busybox", "true"],
        [*RUN, "-d", "--name", "full", "busybox", "sleep", "100"],
        ["create", "--name", "made", "busybox", "true"],
    ):
        done = cli(*words, status=None, timeout=SECONDS)
        if done.returncode:
            assert "ENOSPC" in one_line(done), words
    cli("ps", "-a", timeout=SECONDS)
    cli("rm", "-f", "before", timeout=SECONDS)
    cli("rm", "-f", "full", "made", status=None, timeout=SECONDS)
    for disk in disks.values():
        (disk / "fill").unlink()
    cli.remove_all()
    assert settled(cli.data / "containers", cli.state) == []
    cli("run", "--rm", "busybox", "true")


@pytest.mark.parametrize("verb", ["load", "run", "run -d", "create", "rmi", "tag"])
def test_a_read_only_data_root(box: Cli, tmp_path: Path, busybox_archive: Path, verb: str) -> None:
    home = tmp_path / "ro"
    home.mkdir()
    subprocess.run(["mount", "--bind", str(box.data), str(home)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
        cli = Cli(home, tmp_path / "state")
        words = {
            "load": ["load", "-i", busybox_archive, "-t", "other"],
            "run": [*RUN, "--rm", "busybox", "true"],
            "run -d": [*RUN, "-d", "busybox", "true"],
            "create": ["create", "busybox", "true"],
            "rmi": ["rmi", "busybox"],
            "tag": ["tag", "busybox", "other"],
        }[verb]
        done = cli(*words, status=None, timeout=SECONDS)
        if done.returncode:
            one_line(done)
        assert b"busybox" in cli("images").stdout
        cli("ps", "-a", timeout=SECONDS)
    finally:
        subprocess.run(["umount", str(home)], check=True)


# odd roots


def odd_roots(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("absent/deeper")
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    return {
        "link": tmp_path / "link",
        "space and quote": tmp_path / "a b'\"$x;y",
        "comma and colon": tmp_path / "a,b:c=d\\e",
        "long": tmp_path / ("d" * 200) / ("e" * 200),
        "newline": tmp_path / "a\nb",
        "dangling": tmp_path / "dangling",
        "file": tmp_path / "file",
        "fifo": tmp_path / "fifo",
        "loop": tmp_path / "loop",
        "null": Path("/dev/null"),
        "proc": Path("/proc/pycontain"),
    }


@pytest.mark.parametrize("which", ["data", "state"])
def test_odd_places_of_the_roots(tmp_path: Path, busybox_archive: Path, which: str) -> None:
    must_work = {"link", "space and quote", "comma and colon", "long", "newline"}
    for name, place in odd_roots(tmp_path).items():
        roots = {"data": tmp_path / f"d-{len(name)}", "state": tmp_path / f"s-{len(name)}"}
        roots[which] = place
        cli = Cli(roots["data"], roots["state"])
        done = cli("load", "-i", busybox_archive, status=None, timeout=SECONDS)
        if done.returncode == 0:
            done = cli(*RUN, "--rm", "busybox", "echo", "ran", status=None, timeout=SECONDS)
        if done.returncode == 0:
            assert done.stdout == b"ran\n"
            done = cli(*RUN, "-d", "--name", "back", "busybox", "sleep", "9", status=None)
            cli("exec", "back", "true")
            cli("rm", "-f", "back")
        if done.returncode:
            assert name not in must_work, (name, done.stderr)
            one_line(done)
        shutil.rmtree(tmp_path / f"d-{len(name)}", ignore_errors=True)
        if which == "data" and place.is_dir():
            shutil.rmtree(os.path.realpath(place))


def test_relative_and_empty_roots(tmp_path: Path, busybox_archive: Path) -> None:
    for root in ("rel", "./rel/../rel2", ""):
        argv = [Cli(tmp_path, tmp_path).argv()[0], "--root", root, "--state", "rels"]
        done = subprocess.run(
            [*argv, "load", "-i", str(busybox_archive)],
            cwd=tmp_path, capture_output=True, timeout=SECONDS,
        )  # fmt: skip
        if done.returncode:
            one_line(done)
            continue
        done = subprocess.run(
            [*argv, "run", "--rm", "busybox", "echo", "ran"],
            cwd=tmp_path, capture_output=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.stdout == b"ran\n", done.stderr
    assert settled(tmp_path / "rel", tmp_path / "rels") == []


def damage(kind: str, path: Path) -> None:
    """Put something else where a record stood."""
    content = path.read_bytes() if path.is_file() else b""
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "device":
        os.mknod(path, 0o20666, os.makedev(1, 5))
    elif kind == "list":
        path.write_bytes(b"[]")
    elif kind == "deep":
        path.write_bytes(b"[" * 200_000)
    elif kind == "binary":
        path.write_bytes(os.urandom(500))


DAMAGES = "gone empty cut fifo directory loop device list deep binary".split()


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_record(box: Cli, kind: str) -> None:
    """What a container's record became: the others live on, `rm -f` clears it, its name is free."""
    box(*RUN, "-d", "--name", "sound", "busybox", "sleep", "100")
    identity = box(*RUN, "-d", "--name", "hurt", "busybox", "sleep", "100").stdout.decode().strip()
    damage(kind, box.data / "containers" / identity / "record.json")
    assert b"sound" in box("ps", "-a").stdout
    for verb in (["inspect", "hurt"], ["exec", "hurt", "true"], ["stop", "-t", "0", "hurt"]):
        one_line(box(*verb, status=None, timeout=SECONDS))
    assert box("exec", "sound", "echo", "x").stdout == b"x\n"
    box("rm", "-f", "hurt", timeout=SECONDS)
    box(*RUN, "-d", "--name", "hurt", "busybox", "sleep", "100")
    box("rm", "-f", "hurt", "sound")
    assert settled(box.data, box.state) == []


@pytest.mark.parametrize(
    ("which", "change"),
    [
        ("record.json", {"volumes": 5}), ("record.json", {"id": "x"}),
        ("record.json", {"name": []}), ("record.json", {"restart": ["no"]}),
        ("record.json", {"labels": {"a": None}}),
        ("record.json", {"created": "x"}), ("exit.json", {"finished": "x"}),
        ("exit.json", {"status": None}), ("config.json", {"root": 5}),
        ("config.json", {"mounts": [{}]}), ("config.json", {"process": None}),
        ("config.json", {"linux": []}),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_type(box: Cli, which: str, change: dict[str, object]) -> None:
    """What an editor or another version wrote: an error in words where it matters, no more."""
    identity = box(*RUN, "-d", "--name", "hurt", "busybox", "true").stdout.decode().strip()
    box("wait", "hurt")
    box(*RUN, "-d", "--name", "sound", "busybox", "sleep", "100")
    path = box.data / "containers" / identity / which
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    for words in (["ps", "-a"], ["info"], ["inspect", "hurt"], ["logs", "hurt"], ["start", "hurt"],
                  ["rename", "hurt", "hurt2"], ["rename", "hurt2", "hurt"]):  # fmt: skip
        done = box(*words, status=None, timeout=SECONDS)
        assert b"internal error" not in done.stderr, (words, done.stderr)
        assert done.stderr.count(b"\n") == (1 if done.returncode else 0), (words, done.stderr)
    assert "sound" in box.text("ps", "-a")
    box("rm", "-f", "hurt", "sound", timeout=SECONDS)
    assert settled(box.data, box.state) == []


@pytest.mark.parametrize("kind", [*DAMAGES, "directory gone"])
@pytest.mark.parametrize("verb", ["rm", "stop"])
def test_a_damaged_state(box: Cli, kind: str, verb: str) -> None:
    """Without its state a container is ended by what its config and its cgroup tell."""
    identity = box(*RUN, "-d", "--name", "hurt", "busybox", "sleep", "100").stdout.decode().strip()
    home = box.state / "containers" / identity
    if kind == "directory gone":
        shutil.rmtree(home)
    else:
        damage(kind, home / "state.json")
    box("ps", "-a")
    if verb == "stop":
        box("stop", "hurt", timeout=SECONDS)
        assert cgroups(PARENT) == []
    box("rm", "-f", "hurt", timeout=SECONDS)
    assert settled(box.data, box.state) == []


def test_a_wiped_state_root(box: Cli) -> None:
    """Its locks gone, nobody seems responsible for a container: what runs of it is ended."""
    box(*RUN, "-d", "--name", "hurt", "busybox", "sleep", "100")
    for part in ("containers", "locks"):
        shutil.rmtree(box.state / part)
    box("rm", "-f", "hurt", timeout=SECONDS)
    assert cgroups(PARENT) == []
    box(*RUN, "-d", "--name", "hurt", "busybox", "true")
    box("rm", "-f", "hurt")
    assert settled(box.data, box.state) == []


# interruptions


REAPER = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid, flush=True)
os.close(1)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
"""Starts a command and reaps all it leaves (PR_SET_CHILD_SUBREAPER): a dead process of an `exec`
that nobody reaps holds up the end of its container's pid namespace."""


def strike(argv: list[str], number: int, delay: float, stderr: Path, *, deaf: bool) -> None:
    """Start a command, send it a signal after `delay`, and wait for its end.

    `deaf`: it hands the signal on to a program that ignores it, and is killed a moment later.
    """
    with stderr.open("wb") as errors:
        reaper = subprocess.Popen(
            [sys.executable, "-c", REAPER, *argv], stdout=subprocess.PIPE, stderr=errors
        )
    assert reaper.stdout is not None
    pidfd = os.pidfd_open(int(reaper.stdout.readline()))
    time.sleep(delay)
    try:
        signal.pidfd_send_signal(pidfd, number)
        if deaf:
            time.sleep(0.1)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    assert select.select([pidfd], [], [], SECONDS)[0], f"{argv} does not end"
    os.close(pidfd)
    reaper.stdout.close()
    REAPERS.append(reaper)


REAPERS: list[subprocess.Popen[bytes]] = []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("words", ["run", "run -d", "exec", "create", "start", "rm"])
def test_a_signal_at_any_moment(
    box: Cli, tmp_path: Path, words: str, number: signal.Signals
) -> None:
    """STRIKES (1) and SEED of the environment make it more often, or once more."""
    seed = os.environ.get("SEED") or os.urandom(4).hex()
    print(f"SEED={seed}")
    randomness = random.Random(f"{seed}{words}{number}")
    for _ in range(int(os.environ.get("STRIKES", "1"))):
        if words in ("exec", "rm"):
            box(*RUN, "-d", "--name", "victim", "busybox", "sleep", "100")
        if words == "start":
            box("create", "--cgroup-parent", PARENT, "--name", "victim", "busybox", "sleep", "100")
        argv: list[str] = {
            "run": [*RUN, "--rm", "--name", "victim", "busybox", "sleep", "100"],
            "run -d": [*RUN, "-d", "--name", "victim", "busybox", "sleep", "100"],
            "exec": ["exec", "victim", "sleep", "100"],
            "create": ["create", "--cgroup-parent", PARENT, "--name", "victim", "busybox", "true"],
            "start": ["start", "victim"],
            "rm": ["rm", "-f", "victim"],
        }[words]
        stderr = tmp_path / "stderr"
        deaf = number != signal.SIGKILL and words in ("run", "exec")
        strike(box.argv(*argv), number, randomness.uniform(0, 0.2), stderr, deaf=deaf)
        error = stderr.read_bytes()
        assert b"Traceback" not in error, error
        assert b"internal error" not in error, error
        box("ps", "-a")
        box("rm", "-f", "victim", status=None, timeout=SECONDS)
        box(*RUN, "--rm", "--name", "victim", "busybox", "true", timeout=SECONDS)
    box("ps", "-a")
    assert settled(box.data, box.state) == []
    while REAPERS:
        assert REAPERS.pop().wait(SECONDS) == 0


def test_an_interruption_while_the_interpreter_starts(box: Cli) -> None:
    """Python would answer it with a traceback; here it waits, and ends the command then."""
    if Path(box.argv()[0]).read_bytes()[:2] == b"#!":
        pytest.skip("a shell script starts the command: no compiler built its program")

    def interrupt() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)

    done = subprocess.run(
        box.argv("run", "--rm", "busybox", "true"),
        capture_output=True, preexec_fn=interrupt, timeout=SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_a_reader_that_leaves(box: Cli) -> None:
    """`pycontain … | head -c0` and a full disk behind standard output end without noise."""
    for words in (
        ["ps", "-a"],
        ["images"],
        ["run", "--help"],
        ["info"],
        [*RUN, "--rm", "busybox", "yes"],
    ):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            box.argv(*words), stdout=writer, stderr=subprocess.PIPE, timeout=SECONDS
        )
        os.close(writer)
        assert b"Traceback" not in done.stderr
        assert b"internal error" not in done.stderr
    with open("/dev/full", "wb") as full:
        for words in (["ps", "-a"], ["images"], ["info"], ["run", "--help"], ["version"]):
            done = subprocess.run(
                box.argv(*words), stdout=full, stderr=subprocess.PIPE, timeout=SECONDS
            )
            assert done.returncode != 0, words
            assert done.stderr.count(b"\n") == 1, (words, done.stderr)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_closed_standard_streams(box: Cli, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    script = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done > /dev/null; exit 7"
    for words, status in (
        ([*RUN, "--rm", "busybox", "sh", "-c", script], 7),
        ([*RUN, "--rm", "-i", "busybox", "sh", "-c", "cat; exit 7"], 7),
        (["ps", "-a"], 0),
        ([*RUN, "-d", "--name", "closed", "busybox", "sleep", "100"], 0),
        (["exec", "closed", "sh", "-c", "echo x; exit 7"], 7),
        (["rm", "-f", "closed"], 0),
    ):
        done = subprocess.run(
            box.argv(*words), capture_output=True, preexec_fn=close, timeout=SECONDS
        )
        assert done.returncode == status, (words, done)
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("limit", [8, 11, 12, 17, 18, 20, 24, 28, 32, 40, 64])
def test_few_descriptors(box: Cli, busybox_archive: Path, limit: int) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    for words in (
        [*RUN, "--rm", "busybox", "echo", "x"],
        [*RUN, "-d", "--name", "few", "busybox", "sleep", "9"],
        ["exec", "few", "true"],
        ["ps", "-a"],
        ["load", "-i", str(busybox_archive)],
        ["rm", "-f", "few"],
    ):
        done = subprocess.run(
            box.argv(*words), capture_output=True, preexec_fn=lower, timeout=SECONDS
        )
        assert b"internal error" not in done.stderr, done.stderr
        assert done.stderr.count(b"\n") <= 1, (words, done.stderr)
    box("rm", "-f", "few", status=None)
    assert settled(box.data, box.state) == []


@pytest.mark.parametrize(
    ("which", "limit"),
    [
        (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_FSIZE, 1000), (resource.RLIMIT_FSIZE, 100_000),
        (resource.RLIMIT_AS, 24 << 20), (resource.RLIMIT_AS, 32 << 20), (resource.RLIMIT_AS,
            64 << 20),
        (resource.RLIMIT_STACK, 64 << 10), (resource.RLIMIT_MEMLOCK, 0), (resource.RLIMIT_CORE, 0),
    ],
)  # fmt: skip
def test_low_limits_of_the_caller(box: Cli, busybox_archive: Path, which: int, limit: int) -> None:
    def lower() -> None:
        resource.setrlimit(which, (limit, limit))

    for words in (
        [*RUN, "--rm", "busybox", "echo", "x"],
        [*RUN, "-d", "--name", "low", "busybox", "sleep", "9"],
        ["load", "-i", str(busybox_archive), "-t", "low"],
    ):
        done = subprocess.run(
            box.argv(*words), capture_output=True, preexec_fn=lower, timeout=SECONDS
        )
        assert b"internal error" not in done.stderr, done.stderr
        assert b"Traceback" not in done.stderr, done.stderr
    box("rm", "-f", "low", status=None)
    box("ps", "-a")
    assert settled(box.data, box.state) == []


def test_descriptors_of_the_caller_do_not_arrive(box: Cli) -> None:
    numbers = " ".join(f"{number}</etc/hostname" for number in (3, 4, 8, 9))
    for words in (
        [*RUN, "--rm", "busybox", "ls", "/proc/self/fd"],
        [*RUN, "--rm", "--init", "busybox", "ls", "/proc/1/fd"],
    ):
        # A shell of its own opens them: this process has others under these numbers.
        script = f'exec "$@" {numbers}'
        argv = ["sh", "-c", script, "sh", *box.argv(*words)]
        done = subprocess.run(argv, capture_output=True, timeout=SECONDS)
        # 3 is the directory ls itself has open.
        assert {int(n) for n in done.stdout.split()} <= {0, 1, 2, 3}, done
        assert {0, 1, 2} <= {int(n) for n in done.stdout.split()}, done


# at once


def test_every_verb_at_once_with_itself(box: Cli, busybox_archive: Path) -> None:
    def at_once(count: int, *words: str | Path) -> list[subprocess.CompletedProcess[bytes]]:
        with ThreadPoolExecutor(count) as pool:
            jobs = [pool.submit(box, *words, status=None, timeout=60) for _ in range(count)]
            done = [job.result() for job in jobs]
        for one in done:
            assert b"internal error" not in one.stderr, (words, one.stderr)
            assert one.returncode in (0, 1, 125), (words, one)
        return done

    box(*RUN, "-d", "--name", "shared", "busybox", "sleep", "100")
    for words in (
        ["pause", "shared"], ["unpause", "shared"], ["exec", "shared", "true"],
        ["rename", "shared", "shared2"], ["rename", "shared2", "shared"], ["kill", "shared"],
        ["start", "shared"], ["stop", "-t", "0", "shared"], ["start", "shared"],
        ["restart", "-t", "0", "shared"], ["rm", "-f", "shared"],
    ):  # fmt: skip
        done = at_once(4, *words)
        assert any(one.returncode == 0 for one in done), (words, done)
        if words[0] in ("start", "stop", "rm"):
            # Whoever comes second finds it as it was to be.
            assert all(one.returncode == 0 for one in done), (words, done)
    assert all(one.returncode == 0 for one in at_once(4, "load", "-i", busybox_archive))
    at_once(4, "tag", "busybox", "again")
    assert [one.returncode for one in at_once(4, "rmi", "again")].count(0) == 1
    assert settled(box.data, box.state) == []
    assert leftovers(box.data, box.state) == []
