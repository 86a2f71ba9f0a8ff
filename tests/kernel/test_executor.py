"""Both executors as root: namespaces, cgroup, identity, and what the container sees of the host."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pycontain.native
from pycontain.syscalls import constants as c
from pycontain.syscalls import executor, kernel
from pycontain.syscalls.ops import Program

pytestmark = pytest.mark.root

Spawn = Callable[..., executor.Running]
STUB = Path(pycontain.native.__file__).parent / "bin" / "stub"
NAMESPACES = {
    "mnt": c.CLONE_NEWNS,
    "uts": c.CLONE_NEWUTS,
    "ipc": c.CLONE_NEWIPC,
    "net": c.CLONE_NEWNET,
    "cgroup": c.CLONE_NEWCGROUP,
    "time": c.CLONE_NEWTIME,
    "user": c.CLONE_NEWUSER,
}


@pytest.fixture(params=["native", "python"])
def spawn(request: pytest.FixtureRequest) -> Spawn:
    if request.param == "native" and not kernel.HAVE_NATIVE:
        pytest.skip("the native module is not built")
    return lambda program, **options: executor.spawn(program, executor=request.param, **options)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[int]:
    """The stub on a read-only mount of its own; a copy that no other container executes."""
    place = shutil.copy(STUB, tmp_path / "stub")
    fd = kernel.open_tree(c.AT_FDCWD, str(place), c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC)
    kernel.mount_setattr(fd, "", c.AT_EMPTY_PATH, c.MOUNT_ATTR_RDONLY)
    yield fd
    os.close(fd)


def shell(script: str, output: int, stub: int = -1) -> Program:
    program = Program()
    program.step("exec")
    program.call("dup3", output, 1, 0)
    if stub >= 0:
        program.exec_stub(stub)
    argv = program.pointers(["/bin/sh", "-c", script])
    program.call("execve", "/bin/sh", argv, program.pointers(["PATH=/usr/bin:/bin"]))
    return program


def output_of(spawn: Spawn, script: str, stub: int = -1, **options: object) -> str:
    read_end, write_end = os.pipe()
    running = spawn(shell(script, write_end, stub), **options)
    os.close(write_end)
    running.wait_exec(30)
    with open(read_end, "rb") as stream:
        text = stream.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(running.pid, 0)[1]) == 0
    running.close()
    return text


@pytest.mark.parametrize("vfork", [True, False])
@pytest.mark.parametrize("name", NAMESPACES)
def test_the_child_has_its_own_namespace(spawn: Spawn, stub: int, name: str, vfork: bool) -> None:
    script = f"readlink /proc/self/ns/{name}"
    inside = output_of(spawn, script, stub, clone_flags=NAMESPACES[name], vfork=vfork)
    assert inside.startswith(f"{name}:[")
    assert inside.strip() != os.readlink(f"/proc/self/ns/{name}")


def test_the_init_process_is_number_one(spawn: Spawn, stub: int) -> None:
    assert output_of(spawn, "echo $$", stub, clone_flags=c.CLONE_NEWPID) == "1\n"


def test_the_pid_is_ours_and_not_the_containers(spawn: Spawn, stub: int) -> None:
    read_end, write_end = os.pipe()
    running = spawn(shell("echo $$; sleep 60", write_end, stub), clone_flags=c.CLONE_NEWPID)
    os.close(write_end)
    running.wait_exec(30)
    assert os.read(read_end, 10) == b"1\n"
    assert os.readlink(f"/proc/{running.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    kernel.pidfd_send_signal(running.pidfd, signal.SIGKILL)
    assert os.waitpid(running.pid, 0)[1] == signal.SIGKILL
    running.close()
    os.close(read_end)


def test_the_parent_maps_ids_while_the_child_waits(spawn: Spawn, stub: int) -> None:
    read_end, write_end = os.pipe()
    near, far = os.pipe()
    program = Program()
    buffer = program.block(bytes(8))
    program.call("read", near, buffer, 1, minimum=1)
    program.call("setresgid", 0, 0, 0)
    program.call("setresuid", 0, 0, 0)
    program.call("dup3", write_end, 1, 0)
    program.exec_stub(stub)
    argv = program.pointers(["/usr/bin/id", "-u"])
    program.call("execve", "/usr/bin/id", argv, program.pointers([]))
    running = spawn(program, clone_flags=c.CLONE_NEWUSER, vfork=False)
    for kind in ("uid", "gid"):
        Path(f"/proc/{running.pid}/{kind}_map").write_text("0 100000 65536\n")
    os.write(far, b"x")
    running.wait_exec(30)
    os.close(write_end)
    assert os.waitpid(running.pid, 0)[1] == 0
    running.close()
    with open(read_end, "rb") as stream:
        assert stream.read() == b"0\n"
    os.close(near)
    os.close(far)
    assert kernel.prctl(c.PR_GET_DUMPABLE) == 1


@pytest.mark.parametrize("vfork", [True, False])
def test_a_change_of_identity_leaves_the_parent_as_it_was(
    spawn: Spawn, stub: int, vfork: bool
) -> None:
    program = Program()
    program.call("setgroups", 0, None)
    program.call("setresgid", 65534, 65534, 65534)
    program.call("setresuid", 65534, 65534, 65534)
    program.exec_stub(stub)
    argv = program.pointers(["/bin/true"])
    program.call("execve", "/bin/true", argv, program.pointers([]))
    running = spawn(program, vfork=vfork)
    running.wait_exec(30)
    assert os.waitpid(running.pid, 0)[1] == 0
    running.close()
    assert kernel.prctl(c.PR_GET_DUMPABLE) == 1
    assert os.getuid() == 0
    assert os.listdir("/proc/self/fd")


def test_the_command_never_sees_the_interpreter(spawn: Spawn, stub: int) -> None:
    """CVE-2019-5736: what execs /proc/self/exe from inside gets the stub, and that is read-only."""
    program = Program()
    program.exec_stub(stub)
    program.call("pause")
    running = spawn(program)
    time.sleep(0.1)
    assert os.readlink(f"/proc/{running.pid}/exe") == "/"  # a mount that is attached nowhere
    shown = os.open(f"/proc/{running.pid}/exe", os.O_PATH)
    kernel.pidfd_send_signal(running.pidfd, signal.SIGKILL)
    os.waitpid(running.pid, 0)
    running.close()
    # While it runs the answer is ETXTBSY; an attacker waits for its end.
    with pytest.raises(OSError) as caught:
        os.open(f"/proc/self/fd/{shown}", os.O_RDWR)
    os.close(shown)
    assert caught.value.errno == errno.EROFS


def test_the_stub_cannot_be_traced_before_the_command(spawn: Spawn, stub: int) -> None:
    program = Program()
    program.exec_stub(stub)
    program.call("prctl", c.PR_GET_DUMPABLE, minimum=1, target="dumpable")
    running = spawn(program)
    with pytest.raises(executor.OpFailed) as caught:
        running.wait_exec(30)
    assert caught.value.number == errno.EPIPE


def test_many_threads_spawn_at_once(spawn: Spawn, stub: int) -> None:
    seen: list[str] = []

    def work() -> None:
        options = {"clone_flags": c.CLONE_NEWPID}
        seen.extend(output_of(spawn, "echo $$", stub, **options) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["1\n"] * 20
    assert kernel.prctl(c.PR_GET_DUMPABLE) == 1


def test_the_child_starts_in_the_cgroup(spawn: Spawn, stub: int) -> None:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    roots = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    if not roots:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    group = Path(roots[0]) / f"test-executor-{os.getpid()}"
    group.mkdir()
    fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    try:
        inside = output_of(spawn, "grep ^0: /proc/self/cgroup", stub, cgroup_fd=fd)
    finally:
        os.close(fd)
        group.rmdir()
    assert inside.strip().endswith(group.name)
