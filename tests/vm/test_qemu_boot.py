"""Guests that really boot: the command's world, its exit, and that no QEMU outlives anything."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pycontain.errors import CommandNotFoundError, KernelError, NotFoundError
from pycontain.vm.qemu import accel, boot
from pycontain.vm.qemu.guest import GuestCommand
from pycontain.vm.qemu.machine import GuestError, GuestRun, Machine, run_guest

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(180)]

MEMORY = 256 << 20
ENV = ("PATH=/bin",)
STARTER = """
import sys
from pathlib import Path
from pycontain.vm.qemu import boot
from pycontain.vm.qemu.guest import GuestCommand
from pycontain.vm.qemu.machine import Machine
files = boot.prepare(Path(sys.argv[1]), "leak-test", "q35")
with Machine(files.config(accelerator="tcg", memory_bytes=256 << 20)) as machine:
    print(machine.pid, flush=True)
    machine.run(GuestCommand(argv=("sleep", "1000"), env=("PATH=/bin",)), stdout=len, stderr=len)
"""


@pytest.fixture(scope="module", autouse=True)
def _kernel():
    try:
        boot.find_kernel()
    except NotFoundError as error:
        pytest.skip(f"needs a guest kernel: {error}")


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of busybox alone."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs a static busybox")
    root = tmp_path_factory.mktemp("rootfs")
    (root / "bin").mkdir()
    (root / "data").mkdir()
    (root / "data/note").write_text("kept\n")
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "cat", "echo", "id", "true", "sleep", "uname", "hostname", "head", "wc"):
        (root / "bin" / name).symlink_to("busybox")
    return root


class Ran:
    """One run with its output."""

    def __init__(self, files: boot.GuestFiles, command: GuestCommand, **options: object) -> None:
        out, err = bytearray(), bytearray()
        config = files.config(accelerator="tcg", memory_bytes=MEMORY)
        self.run: GuestRun = run_guest(
            config,
            command,
            root_type=files.root_type,
            stdout=out.extend,
            stderr=err.extend,
            **options,  # type: ignore[arg-type]
        )
        self.out, self.err = bytes(out), bytes(err)


@pytest.fixture(scope="module")
def files(rootfs: Path) -> boot.GuestFiles:
    return boot.prepare(rootfs, f"boot-test-{os.getpid()}", "q35")


def shell(files: boot.GuestFiles, script: str, **command: object) -> Ran:
    arguments: dict[str, object] = {"argv": ("sh", "-c", script), "env": ENV, **command}
    return Ran(files, GuestCommand(**arguments))  # type: ignore[arg-type]


def test_the_kernel_is_the_guests_and_the_status_the_commands(files):
    ran = shell(files, "uname -r; exit 7")
    assert ran.out.decode().strip() == files.kernel.release
    assert ran.out.decode().strip() != os.uname().release
    assert ran.run.status == 7


def test_the_streams_stay_apart_and_whole(files):
    ran = shell(files, "head -c 300000 /dev/zero; echo wrong >&2")
    assert ran.out == bytes(300_000)
    assert ran.err == b"wrong\n"


def test_identity_directory_and_environment_reach_the_command(files):
    ran = shell(files, "id; pwd; cat note; echo $WORD", uid=7, gid=8, groups=(9,), cwd="/data",
                env=(*ENV, "WORD=a b"))  # fmt: skip
    lines = ran.out.decode().splitlines()
    assert lines[0].startswith("uid=7 gid=8 groups=9")
    assert lines[1:] == ["/data", "kept", "a b"]


def test_a_signal_is_reported_as_a_shell_does(files):
    assert shell(files, "kill -KILL $$").run.status == 137


def test_stages_are_reached_in_order_by_the_hosts_clock(files):
    run = shell(files, "sleep 0.2").run
    names = [mark.name for mark in run.marks]
    assert names == [*("start", "vmm", "firmware", "init", "ports", "command", "exited", "gone")]
    times = [mark.at_s for mark in run.marks]
    assert times == sorted(times)
    command, exited = run.at("command"), run.at("exited")
    assert command is not None and exited is not None and exited - command > 0.15


def test_the_guests_kernel_counted_what_the_command_used(files):
    assert shell(files, "true").run.usage["minflt"] > 0


def test_standard_input_reaches_the_command(files, tmp_path):
    (tmp_path / "in").write_bytes(b"x" * 200_000)
    with open(tmp_path / "in", "rb") as source:
        command = GuestCommand(argv=("wc", "-c"), env=ENV, stdin=True)
        ran = Ran(files, command, stdin_fd=source.fileno())
    assert ran.out.split() == [b"200000"]


def test_a_missing_command_is_told_from_a_failing_one(files):
    with pytest.raises(CommandNotFoundError, match="no-such"):
        Ran(files, GuestCommand(argv=("no-such",), env=ENV))
    with pytest.raises(KernelError, match="chdir"):
        shell(files, "true", cwd="/gone")


def test_a_large_root_is_a_read_only_image_under_an_overlay(rootfs, tmp_path, monkeypatch):
    monkeypatch.setattr(boot, "INITRAMFS_MAX_BYTES", 0)
    monkeypatch.setenv("PYCONTAIN_KERNEL", str(boot.find_kernel().image))
    monkeypatch.setenv("PYCONTAIN_CACHE", str(tmp_path))
    files = boot.prepare(rootfs, "block-test", "q35")
    assert files.block_image is not None
    before = files.block_image.read_bytes()
    ran = shell(files, "cat /data/note; echo new > /data/note; cat /data/note")
    assert ran.out == b"kept\nnew\n"
    assert files.block_image.read_bytes() == before


def test_a_microvm_boots_too(rootfs):
    files = boot.prepare(rootfs, f"boot-test-{os.getpid()}", "microvm")
    ran = shell(files, "echo up")
    assert ran.out == b"up\n"
    assert ran.run.retries in (0, 1)


def test_a_command_that_does_not_end_is_ended(files):
    with pytest.raises(GuestError, match="did not end within"):
        Ran(files, GuestCommand(argv=("sleep", "1000"), env=ENV), timeout_s=6)


def test_a_kernel_that_cannot_boot_is_reported_with_everything(files, tmp_path):
    config = files.config(accelerator="tcg", memory_bytes=MEMORY)
    broken = tmp_path / "kernel"
    broken.write_bytes(b"\0" * 8192)
    object.__setattr__(config, "kernel", broken)
    with pytest.raises(GuestError) as caught:
        run_guest(config, GuestCommand(argv=("true",)), stdout=len, stderr=len, boot_timeout_s=5)
    fields = caught.value.fields()
    assert str(broken) in fields["argv"]  # type: ignore[operator]
    assert fields["status"] is not None or fields["console"] is not None


def test_a_guest_that_panics_is_reported_with_its_kernels_last_words(files):
    crash = GuestCommand(argv=("sh", "-c", "echo c > /proc/sysrq-trigger; sleep 60"), env=ENV)
    with pytest.raises(GuestError, match="Kernel panic"):
        Ran(files, crash)


def test_a_block_left_by_an_error_leaves_no_process(files):
    with (
        pytest.raises(ZeroDivisionError),
        Machine(files.config(accelerator="tcg", memory_bytes=MEMORY)) as machine,
    ):
        pid = machine.pid
        raise ZeroDivisionError
    assert gone(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_qemu_dies_with_whoever_started_it(rootfs, number):
    """Even SIGKILL, after which nothing of ours runs, leaves no QEMU behind."""
    argv = [sys.executable, "-c", STARTER, str(rootfs)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        time.sleep(0.5)
        assert not gone(pid)
        starter.send_signal(number)
        starter.wait(20)
    deadline = time.monotonic() + 10
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(pid)


def gone(pid: int) -> bool:
    """True when no process of this id is QEMU any more."""
    try:
        return b"qemu" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def test_software_kvm_is_never_chosen_by_itself():
    chosen, _ = accel.choose("auto")
    assert chosen == ("tcg" if accel.kvm_reason() else "kvm")
