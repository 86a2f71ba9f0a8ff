"""The kernel tests once more, in a guest whose kernel mounts pure cgroup v2.

virtme-ng boots Debian's full kernel with the host's root file system over 9p. State roots lie on
the guest's tmpfs, since overlayfs takes no upper directory on 9p. The guest runs under emulation,
about ten times slower than the host, so a selection runs here: what differs between v1 and v2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from support import BIN, CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.qemu, pytest.mark.timeout(1900)]

SELECTION = [
    "tests/kernel/test_cgroup_limits.py",
    "tests/kernel/test_limits.py",
    "tests/conformance/test_oci_cgroups.py",
    "tests/conformance/test_oci_exec.py::test_a_cgroup_below_the_containers",
]
BOOT_AND_TESTS_S = 1700
"""Six minutes on a quiet machine; a neighbour on each CPU makes them twenty."""
TEMPORARY = ("/tmp/", "/var/tmp/", "/run/")


@pytest.fixture
def kernel() -> Path:
    """Debian's full kernel (the cloud kernel has no 9p), fetched by scripts/fetch-kernel."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "pycontain/kernel-full"
    if not list(place.glob("boot/vmlinuz-*")):
        fetch = [CHECKOUT / "scripts/fetch-kernel", "--full", place]
        done = subprocess.run(fetch, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"no full kernel: {done.stderr.strip()}")
    return sorted(place.glob("boot/vmlinuz-*"))[-1]


@pytest.fixture
def modules(kernel: Path) -> Iterator[None]:
    """virtme-ng looks for modules in /lib/modules only."""
    release = kernel.name.removeprefix("vmlinuz-")
    link = Path("/lib/modules") / release
    made = not link.exists()
    if made:
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(kernel.parent.parent / "lib/modules" / release)
        subprocess.run(["depmod", release], check=True)
    yield
    if made:
        link.unlink()


def boot(argv: list[str], console: BinaryIO, env: dict[str, str]) -> None:
    """Wait for the guest's end; no QEMU outlives the test, however it ends."""
    guest = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=env,
        start_new_session=True,
    )  # fmt: skip
    try:
        guest.wait(BOOT_AND_TESTS_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guest.pid, signal.SIGKILL)
        guest.wait()


@pytest.fixture
def guest(kernel: Path, modules: None, tmp_path: Path) -> Callable[..., None]:
    """Run test files in the guest, once more those that failed, and assert that all pass."""
    vng = shutil.which("vng", path=f"{BIN}:{os.environ['PATH']}")
    if not vng:
        pytest.skip("needs virtme-ng")

    def run(selection: list[str], *, wrapper: str = "sh") -> None:
        script = tmp_path / "run"
        script.write_text(
            f"cd {CHECKOUT}\n"
            "export CI=true HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
            "ip link set lo up\n"
            f"tests() {{ {sys.executable} -m pytest -q -ra -o timeout=600 -o cache_dir=/tmp/cache"
            f" --basetemp=/tmp/pytest --junitxml={tmp_path}/$1.xml $2 {' '.join(selection)}"
            f" >> {tmp_path}/log 2>&1; }}\n"
            # Emulation starves a guest at times: what failed is tried once more, the log says so.
            "tests first || tests again --last-failed\n"
        )
        argv = [
            vng, "-v", "-r", str(kernel), "--disable-kvm", "--disable-microvm", "--force-9p",
            "--memory", "3G", "--cpus", "2", "--rw",
        ]  # fmt: skip
        # /tmp and /var/tmp of the guest are its own; what lies there is shared by name.
        shared = {tmp_path, CHECKOUT, Path(sys.prefix)}
        argv += [f"--rwdir={path}" for path in sorted(shared) if str(path).startswith(TEMPORARY)]
        argv += ["--exec", f"{wrapper} {script}"]
        env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        with (tmp_path / "console").open("wb") as console:
            boot(argv, console, env)
        first, again = tmp_path / "first.xml", tmp_path / "again.xml"
        assert first.exists(), (tmp_path / "console").read_text(errors="replace")[-3000:]
        log = (tmp_path / "log").read_text(errors="replace")[-6000:]
        assert counts(first, "tests") > counts(first, "skipped") + 3, log
        last = again if again.exists() else first
        assert counts(last, "failures") + counts(last, "errors") == 0, log

    return run


def test_the_kernel_tests_pass_on_pure_cgroup_v2(guest: Callable[..., None]) -> None:
    guest(SELECTION)


def test_the_systemd_cgroup_manager_works_under_systemd(guest: Callable[..., None]) -> None:
    for program in ("/lib/systemd/systemd", "/usr/bin/dbus-daemon"):
        if not Path(program).exists():
            pytest.skip(f"needs {program}")
    init = CHECKOUT / "tests/vm/systemd-as-init"
    # runc proves the tests where they run at full speed.
    selection = ["tests/kernel/test_systemd_manager.py", "-k", "'not runc'"]
    guest(selection, wrapper=str(init))


def counts(report: Path, name: str) -> int:
    """Return one count of a JUnit report."""
    return int(next(ET.parse(report).getroot().iter("testsuite")).attrib[name])
