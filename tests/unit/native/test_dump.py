"""The startup dump: a command that starts from it is what it would be without."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import CHECKOUT

from pycontain import dump

LAUNCHER = CHECKOUT / "pycontain/native/launcher.c"
FLAGS = ["-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-stack-protector",
         "-fPIC", "-Wl,-Ttext-segment=0x600000000000"]  # fmt: skip
ASKED = """
def run(argv):
    import _signal, posix, sys, time
    if argv == ["--version"]:
        return 0
    print(argv)
    print(sorted(posix.environ.items()))
    print([n for n in range(1, 65) if _signal.getsignal(n) is _signal.SIG_IGN])
    print([n for n in range(1, 65) if _signal.getsignal(n) not in (0, 1, None)])
    print(sorted(_signal.pthread_sigmask(_signal.SIG_BLOCK, ())))
    print(time.localtime(0)[:5], time.tzname)
    print(sys.stdout.line_buffering, posix.getcwd())
    print(sys.stdin.buffer.read() if not posix.isatty(0) else b"")
    print(len([bytearray(100) for n in range(200_000)]))
    if "long" in argv:
        print("ready", flush=True)
        _signal.pause()
    return 7


def run_and_flush(argv):
    status = run(argv)
    sys.stdout.flush()
    return status
"""

WIPED = """
import mmap
wiped = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
wiped.madvise(18)  # MADV_WIPEONFORK
wiped[:4] = b"seed"


def run(argv):
    import posix, sys
    if argv == ["--version"]:
        return 0
    found = wiped[:4]
    wiped[:4] = b"seed"
    read, write = posix.pipe()
    if not posix.fork():
        posix.write(write, wiped[:4])
        posix._exit(0)
    posix.wait()
    sys.stdout.buffer.write(found + b" " + posix.read(read, 4) + b"\\n")
    return 7
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    """A command of its own that prints what it sees; return the command."""
    if not LAUNCHER.exists():
        pytest.skip("an installation has no sources of native programs")
    if not hasattr(pytest.importorskip("pycontain.native._dump"), "dump"):
        pytest.skip("no startup dumps on this machine or with this libc")
    base = tmp_path_factory.mktemp("copy")
    shutil.copytree(
        CHECKOUT / "pycontain",
        base / "pycontain",
        ignore=shutil.ignore_patterns("__pycache__", "bin", "vm", "bench"),
    )
    with open(base / "pycontain/cli/entry.py", "a") as entry:
        entry.write(ASKED)
    (base / "python3").symlink_to(sys.executable)
    command = base / "command"
    source = f'-DSOURCE="{base}"'
    subprocess.run([compiler, *FLAGS, source, "-o", str(command), LAUNCHER], check=True)
    return command


@pytest.fixture
def written(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The dump of `copy`, as its first start left it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = Path(said_place(copy))
    path.unlink(missing_ok=True)
    assert start(copy).returncode == 7
    assert path.stat().st_size > 1_000_000
    yield path
    path.unlink(missing_ok=True)


def start(
    command: Path, *argv: str, dump: str = "", **options: object
) -> subprocess.CompletedProcess:
    if not options.pop("locked", False):
        _wait_for_others(command)
    # Without a locale an interpreter sets LC_CTYPE in its own environment.
    environment = {"LC_ALL": "C.UTF-8", **options.pop("env", {})}
    environment["XDG_RUNTIME_DIR"] = os.environ["XDG_RUNTIME_DIR"]
    if dump:
        environment["PYCONTAIN_DUMP"] = dump
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [command, *argv], capture_output=True, timeout=60, env=environment, **options
    )


def _wait_for_others(command: Path) -> None:
    """Let who writes another installation's dump come to its end: meanwhile none is written."""
    directory = Path(said_place(command)).parent
    if directory == Path(".") or not directory.exists():
        return
    fd = os.open(directory, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)


def said_place(command: Path) -> str:
    """The path that a command names which may not start without a dump, "" if it does."""
    runtime = os.environ["XDG_RUNTIME_DIR"]
    environment = {"PYCONTAIN_DUMP": "1", "XDG_RUNTIME_DIR": runtime}
    done = subprocess.run([command, "--version"], capture_output=True, env=environment, timeout=60)
    return done.stderr.decode().rpartition(": ")[2].strip()


def starts_from_it(command: Path) -> bool:
    return start(command, dump="1").returncode == 7


def same(command: Path, *argv: str, **options: object) -> bytes:
    """What a command printed that started from the dump, and just so without it."""
    outputs = []
    for value in ("1", "0"):
        done = start(command, *argv, dump=value, **options)
        assert (done.returncode, done.stderr) == (7, b"")
        outputs.append(done.stdout.replace(b"b'PYCONTAIN_DUMP', b'" + value.encode(), b"D"))
    assert outputs[0] == outputs[1]
    return outputs[0]


def test_words_variables_and_directory_are_the_callers(copy: Path, written: Path, tmp_path) -> None:
    variables = {"A": "1", "EMPTY": "", "ODD": "\udcff=x", "LC_ALL": "de_DE.UTF-8"}
    output = same(copy, "a b", "\udcfe", "", "-x", env=variables, cwd=tmp_path)
    assert b"'a b', '\\udcfe', '', '-x'" in output
    assert b"(b'ODD', b'\\xff=x')" in output and str(tmp_path).encode() in output


def test_input_and_ignored_signals_are_the_callers(copy: Path, written: Path) -> None:
    def ignore() -> None:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)

    read, write = os.pipe()
    os.write(write, b"from the pipe")
    os.close(write)
    done = start(copy, dump="1", stdin=read, preexec_fn=ignore)
    os.close(read)
    assert b"from the pipe" in done.stdout
    expected = sorted(
        [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ]
    )
    assert str([int(n) for n in expected]).encode() in done.stdout
    assert str([int(signal.SIGPIPE), int(signal.SIGXFSZ)]).encode() in same(copy)


def test_what_the_first_caller_ignored_is_not_ignored_later(copy: Path, written: Path) -> None:
    written.unlink()
    start(copy, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert starts_from_it(copy)
    same(copy)


def test_the_time_zone_is_the_callers(copy: Path, written: Path) -> None:
    assert b"(1970, 1, 1, 5, 30) ('IST', 'IST')" in same(copy, env={"TZ": "IST-5:30"})


def test_memory_a_fork_wipes_is_wiped(copy: Path, written: Path) -> None:
    """Where libc keeps random numbers; two commands must not get the same."""
    entry, builder = copy.parent / "pycontain/cli/entry.py", copy.parent / "pycontain/dump.py"
    texts = entry.read_text(), builder.read_text()
    entry.write_text(texts[0] + WIPED)
    builder.write_text(texts[1].replace('"_json"', '"_json", "mmap"'))
    try:
        assert start(copy).stdout == b"seed \0\0\0\0\n"
        assert start(copy, dump="1").stdout == b"\0\0\0\0 \0\0\0\0\n"
    finally:
        entry.write_text(texts[0])
        builder.write_text(texts[1])


def test_two_first_starts_leave_one(copy: Path, written: Path) -> None:
    """The second finds the directory locked, and leaves the first one's draft alone."""
    draft = Path(f"{written}.new")
    written.unlink()
    draft.write_bytes(b"draft")
    held = os.open(written.parent, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        assert start(copy, locked=True).returncode == 7
        assert draft.read_bytes() == b"draft"
    finally:
        os.close(held)
    assert start(copy).returncode == 7
    assert not draft.exists() and starts_from_it(copy)


def test_a_terminal_gets_whole_lines(copy: Path, written: Path) -> None:
    for value in ("1", "0"):
        parent, child = pty.openpty()
        environment = {**os.environ, "PYCONTAIN_DUMP": value}
        subprocess.run([copy], stdin=child, stdout=child, stderr=child, env=environment, timeout=60)
        os.close(child)
        output = os.read(parent, 65536)
        os.close(parent)
        assert b"True " in output


def test_an_interrupt_ends_it(copy: Path, written: Path) -> None:
    environment = {**os.environ, "PYCONTAIN_DUMP": "1"}
    argv = [copy, "long"]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment
    ) as run:
        assert run.stdout is not None
        while b"ready" not in run.stdout.readline():
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=60) == -signal.SIGINT


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_opened(copy: Path, written: Path, closed: tuple[int, ...]) -> None:
    script = f'"$0" {" ".join(f"{n}>&-" for n in closed)}; [ $? = 7 ]'
    for value in ("1", "0"):
        environment = {**os.environ, "PYCONTAIN_DUMP": value}
        subprocess.run(["sh", "-c", script, copy], env=environment, check=True, timeout=60,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip


def test_a_changed_source_writes_it_anew(copy: Path, written: Path) -> None:
    assert starts_from_it(copy)
    os.utime(copy.parent / "pycontain/errors.py")
    assert not starts_from_it(copy)
    before = written.stat().st_ino
    assert start(copy).returncode == 7
    assert starts_from_it(copy)
    assert written.stat().st_ino != before


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_one_that_others_may_write_is_not_taken(copy: Path, written: Path, mode: int) -> None:
    written.chmod(mode)
    assert not starts_from_it(copy)
    assert start(copy).returncode == 7
    assert written.stat().st_mode & 0o777 == 0o600


def test_one_of_another_user_or_behind_a_link_is_not_taken(copy: Path, written: Path) -> None:
    if os.geteuid() == 0:
        os.chown(written, 65534, 65534)
        assert not starts_from_it(copy)
        os.chown(written, 0, 0)
        assert starts_from_it(copy)
    aside = written.with_suffix(".aside")
    written.rename(aside)
    written.symlink_to(aside)
    assert not starts_from_it(copy)
    aside.unlink()


@pytest.mark.parametrize("size", [0, 1, 4000, 20_000])
def test_a_part_of_one_is_not_taken(copy: Path, written: Path, size: int) -> None:
    os.truncate(written, size)
    assert not starts_from_it(copy)
    assert start(copy).returncode == 7
    assert starts_from_it(copy)


def test_one_of_another_boot_is_not_taken(copy: Path, written: Path) -> None:
    boot = Path(dump.BOOT_ID).read_bytes()[: dump.BOOT_BYTES]
    content = written.read_bytes()
    assert content.count(boot) >= 1
    written.write_bytes(content.replace(boot, boot[::-1], 1))
    assert not starts_from_it(copy)


def test_what_cannot_be_written_is_not_tried_again(copy: Path, written: Path) -> None:
    source = copy.parent / "pycontain/dump.py"
    text = source.read_text()
    broken = text.replace("    gc.disable()\n", "    gc.disable()\n    raise OSError\n")
    assert broken != text
    source.write_text(broken)
    assert start(copy).returncode == 7
    assert written.read_bytes() == Path(dump.BOOT_ID).read_bytes()[: dump.BOOT_BYTES]
    source.write_text(text)
    assert start(copy).returncode == 7
    assert not starts_from_it(copy)


def test_a_source_that_changes_meanwhile_is_not_taken_for_what_was_read(
    copy: Path, written: Path
) -> None:
    written.unlink()
    source = copy.parent / "pycontain/dump.py"
    text = source.read_text()
    changing = "    posix.utime(__file__)\n    sources = _sources()\n"
    source.write_text(text.replace("    sources = _sources()\n", changing))
    assert source.read_text() != text
    assert start(copy).returncode == 7
    assert written.read_bytes() == Path(dump.BOOT_ID).read_bytes()[: dump.BOOT_BYTES]
    source.write_text(text)


def test_whoever_loads_a_library_gets_the_ordinary_start(copy: Path, written: Path) -> None:
    written.unlink()
    assert start(copy, env={"LD_BIND_NOW": "1"}).returncode == 7
    assert start(copy, dump="0").returncode == 7
    assert not written.exists()


def test_a_directory_that_others_may_enter_is_not_used(copy: Path, written: Path) -> None:
    written.unlink()
    written.parent.chmod(0o755)
    assert start(copy).returncode == 7
    assert not written.exists()
    written.parent.chmod(0o700)


def test_one_in_a_directory_others_may_write_is_not_taken(copy: Path, written: Path) -> None:
    written.parent.chmod(0o770)
    assert not starts_from_it(copy)
    written.parent.chmod(0o700)
    assert starts_from_it(copy)


@pytest.mark.skipif(os.geteuid() == 0, reason="root's lies in /run")
@pytest.mark.parametrize("up", [1, 2])
def test_one_behind_a_linked_directory_is_not_taken(copy: Path, written: Path, up: int) -> None:
    place = Path(os.environ["XDG_RUNTIME_DIR"], *["pycontain.start"][: 2 - up])
    aside = place.with_name("aside")
    place.rename(aside)
    place.symlink_to(aside)
    assert not starts_from_it(copy)
    place.unlink()
    aside.rename(place)
    assert starts_from_it(copy)


@pytest.mark.parametrize("stem", ["launcher", "oci_verbs"])
def test_launchers_of_machines_without_dumps_need_no_libc(stem: str, tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    source = LAUNCHER.with_name(f"{stem}.c")
    if not compiler or not source.exists():
        pytest.skip("needs a compiler for aarch64 and the sources of native programs")
    subprocess.run([compiler, *FLAGS[:-2], "-o", str(tmp_path / stem), str(source)], check=True)


def test_the_oldest_goes_when_there_are_many(copy: Path, written: Path) -> None:
    others = [written.with_name(f"old{n}") for n in range(dump.KEPT + 2)]
    for age, other in enumerate(others):
        other.touch(0o600)
        os.utime(other, (age, age))
    written.unlink()
    assert start(copy).returncode == 7
    assert starts_from_it(copy)
    assert len(list(written.parent.iterdir())) == dump.KEPT
    assert not others[0].exists() and not others[1].exists()
    for other in others:
        other.unlink(missing_ok=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_writing_it_changes_no_exit_status(copy: Path, written: Path, number: int) -> None:
    written.unlink()
    argv = [copy, "x"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        while not written.with_name(f"{written.name}.new").exists():
            assert run.poll() is None
        run.send_signal(number)
        assert run.wait(timeout=60) == 7
    assert starts_from_it(copy)
