"""Both executors, without privilege: the same programs give the same results and errors."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pycontain.native
from pycontain.native.prebuilt import stub as prebuilt_stub
from pycontain.syscalls import constants as c
from pycontain.syscalls import executor, kernel
from pycontain.syscalls.ops import ANY, Program

Spawn = Callable[..., executor.Running]
BUILT_STUB = Path(pycontain.native.__file__).parent / "bin" / "stub"


@pytest.fixture(params=["native", "python"])
def spawn(request: pytest.FixtureRequest) -> Spawn:
    if request.param == "native" and not kernel.HAVE_NATIVE:
        pytest.skip("the native module is not built")
    return lambda program, **options: executor.spawn(program, executor=request.param, **options)


@pytest.fixture(params=["built", "prebuilt"])
def stub(request: pytest.FixtureRequest, tmp_path: Path) -> int:
    place = BUILT_STUB
    if request.param == "prebuilt":
        place = tmp_path / "stub"
        place.write_bytes(prebuilt_stub(os.uname().machine))
        place.chmod(0o755)
    elif not place.exists():
        pytest.skip("the stub is not built")
    fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    request.addfinalizer(lambda: os.close(fd))
    return fd


@pytest.fixture(autouse=True)
def nothing_leaks() -> object:
    """Every test gives back its descriptors and children and leaves this process dumpable."""
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert kernel.prctl(c.PR_GET_DUMPABLE) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


class Output:
    """A pipe whose write end a program gets as its standard output."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def text(self) -> str:
        os.close(self.write_end)
        with open(self.read_end, "rb") as stream:
            return stream.read().decode()


def python_program(code: str, output: Output | None = None, stub: int | None = None) -> Program:
    program = Program()
    program.step("exec")
    if output is not None:
        program.call("dup3", output.write_end, 1, 0)
    if stub is not None:
        program.exec_stub(stub)
    argv = program.pointers([sys.executable, "-I", "-S", "-c", code])
    program.call("execve", sys.executable, argv, program.pointers(["A=1"]), target="python")
    return program


def finish(running: executor.Running) -> int:
    running.wait_exec(30)
    status = os.waitstatus_to_exitcode(os.waitpid(running.pid, 0)[1])
    running.close()
    return status


@pytest.mark.parametrize("vfork", [True, False])
def test_the_command_runs(spawn: Spawn, vfork: bool) -> None:
    output = Output()
    running = spawn(python_program("print(6 * 7); raise SystemExit(5)", output), vfork=vfork)
    assert finish(running) == 5
    assert output.text() == "42\n"


@pytest.mark.parametrize("vfork", [True, False])
def test_the_command_runs_behind_the_stub(spawn: Spawn, stub: int, vfork: bool) -> None:
    output = Output()
    program = python_program("print(open('/proc/self/environ').read())", output, stub)
    assert finish(spawn(program, vfork=vfork)) == 0
    assert output.text() == "A=1\0\n"


def test_nothing_but_stdio_reaches_the_command(spawn: Spawn, stub: int) -> None:
    output, inside = (
        Output(),
        "import posix; print(sorted(map(int, posix.listdir('/proc/self/fd'))))",
    )
    program = Program()
    program.call("dup3", output.write_end, 1, 0)
    program.call("close_range", 3, c.UINT_MAX, c.CLOSE_RANGE_CLOEXEC)
    program.exec_stub(stub)
    argv = program.pointers([sys.executable, "-I", "-S", "-c", inside])
    program.call("execve", sys.executable, argv, program.pointers([]))
    assert finish(spawn(program)) == 0
    assert output.text() == "[0, 1, 2, 3]\n"  # 3 is the listing itself


def test_kept_descriptors_reach_the_stub_and_not_the_command(spawn: Spawn, stub: int) -> None:
    output, kept = Output(), Output()
    os.set_inheritable(kept.write_end, False)
    program = Program()
    program.call("dup3", output.write_end, 1, 0)
    program.exec_stub(stub, [kept.write_end])
    program.call("write", kept.write_end, b"from the stub", 13)
    code = f"import posix\ntry: posix.fstat({kept.write_end})\nexcept OSError as e: print(e.errno)"
    argv = program.pointers([sys.executable, "-I", "-S", "-c", code])
    program.call("execve", sys.executable, argv, program.pointers([]))
    assert finish(spawn(program)) == 0
    assert kept.text() == "from the stub"
    assert output.text() == f"{errno.EBADF}\n"


def test_signals_are_reset_for_the_command(spawn: Spawn, stub: int) -> None:
    output = Output()
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        program = Program()
        program.call("dup3", output.write_end, 1, 0)
        program.exec_stub(stub)
        argv = program.pointers(["/bin/cat", "/proc/self/status"])
        program.call("execve", "/bin/cat", argv, program.pointers([]))
        assert finish(spawn(program)) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    lines = dict(line.split(":\t") for line in output.text().splitlines() if "Sig" in line)
    assert int(lines["SigIgn"], 16) == 0
    assert int(lines["SigBlk"], 16) == 0


@pytest.mark.parametrize("vfork", [True, False])
@pytest.mark.parametrize("use_stub", [True, False])
def test_a_failing_op_is_named_with_its_errno(
    spawn: Spawn, stub: int, vfork: bool, use_stub: bool
) -> None:
    program = Program()
    program.step("first")
    if use_stub:
        program.exec_stub(stub)
    program.step("second", "root.path")
    failing = program.call("chdir", "/nonexistent", target="/nonexistent")
    program.call("exit_group", 0)
    running = spawn(program, vfork=vfork)
    with pytest.raises(executor.OpFailed) as caught:
        running.wait_exec(30)
    assert (caught.value.index, caught.value.number) == (failing, errno.ENOENT)
    assert caught.value.op.path == "root.path"
    assert str(caught.value) == f"chdir /nonexistent: ENOENT (step 'second', op {failing})"


def test_a_missing_command_is_the_last_ops_failure(spawn: Spawn, stub: int) -> None:
    program = Program()
    program.exec_stub(stub)
    argv = program.pointers(["/nonexistent"])
    last = program.call("execve", "/nonexistent", argv, program.pointers([]))
    running = spawn(program)
    with pytest.raises(executor.OpFailed) as caught:
        running.wait_exec(30)
    assert (caught.value.index, caught.value.number) == (last, errno.ENOENT)


def test_tolerated_errors_jump_and_results_are_kept(spawn: Spawn, tmp_path: Path) -> None:
    program = Program()
    number = program.block(bytes(8))
    text = program.block(b"skipped")
    register, skip, end = program.register(), program.label(), program.label()
    target = str(tmp_path / "out")
    program.call("openat", c.AT_FDCWD, target, c.O_WRONLY, 0, ok=(errno.ENOENT,), on_error=skip)
    program.call("exit_group", 9)
    program.place(skip)
    out = program.fd("openat", c.AT_FDCWD, target, c.O_WRONLY | c.O_CREAT, 0o600)
    program.call("getppid", into=register, on_success=end)
    program.call("write", out, text, 7)
    program.place(end)
    program.store(register, number, 8)
    program.call("chdir", "/nonexistent", ok=(ANY,))
    program.call("write", out, number, 8)
    running = spawn(program)
    assert finish(running) == 0
    assert int.from_bytes((tmp_path / "out").read_bytes(), "little") == os.getpid()


def test_a_result_below_the_minimum_is_a_failure(spawn: Spawn) -> None:
    program = Program()
    buffer = program.block(bytes(8))
    fd = program.fd("openat", c.AT_FDCWD, "/dev/null", c.O_RDONLY, 0)
    index = program.call("read", fd, buffer, 8, minimum=1)
    running = spawn(program)
    with pytest.raises(executor.OpFailed) as caught:
        running.wait_exec(30)
    assert (caught.value.index, caught.value.number) == (index, errno.EPIPE)


def test_a_killed_child_is_told(spawn: Spawn) -> None:
    program = Program()
    index = program.call("pause")
    running = spawn(program, vfork=False)
    with pytest.raises(TimeoutError):
        running.wait_exec(0.1)
    os.kill(running.pid, signal.SIGKILL)
    with pytest.raises(executor.OpFailed) as caught:
        running.wait_exec(30)
    assert (caught.value.index, caught.value.number) == (index, errno.EOWNERDEAD)


def test_ops_are_timed_in_order_on_one_clock(spawn: Spawn, stub: int) -> None:
    program = python_program("pass", None, stub)
    running = spawn(program, timeline=True)
    assert finish(running) == 0
    times = running.timings()
    assert len(times) == len(program.ops)
    assert times == sorted(times)
    assert running.started < times[0] < times[-1] < time.monotonic_ns()


def test_the_childs_data_survives_close(spawn: Spawn) -> None:
    running = spawn(python_program("pass"), timeline=True)
    assert finish(running) == 0
    running.close()
    assert len(running.timings()) == 1
    assert running.detach() == -1


def test_spawn_from_a_thread_while_others_run(spawn: Spawn) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: finish(spawn(python_program("pass"))), range(12)))
    assert results == [0] * 12


def test_a_clone_that_is_refused_is_an_oserror(spawn: Spawn) -> None:
    with pytest.raises(OSError) as caught:
        # Threads and new user namespaces exclude each other; so do these two.
        spawn(python_program("pass"), clone_flags=c.CLONE_NEWNS | c.CLONE_FS)
    assert caught.value.errno == errno.EINVAL


def test_an_image_that_is_no_program_is_refused() -> None:
    if not kernel.HAVE_NATIVE:
        pytest.skip("the native module is not built")
    with pytest.raises(ValueError, match="not an encoded program"):
        kernel.native.spawn(bytes(400), 0, -1, True)


def test_the_stub_alone_says_that_it_is_no_command(stub: int) -> None:
    for argv in (["stub"], ["stub", "0"], ["stub", "999999"], ["stub", "x"]):
        done = subprocess.run(
            argv, executable=f"/proc/self/fd/{stub}", pass_fds=[stub], stdin=subprocess.DEVNULL,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 126
        assert done.stderr.count(b"\n") == 1
