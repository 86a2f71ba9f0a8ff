"""Fixtures of every tier: fresh state roots, the command line as a subprocess, a loaded image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import CHECKOUT, Cli


def pytest_configure() -> None:
    # A shell's `&` starts its commands with two of them ignored, nohup with the third; some tests
    # send them, or look at what a command ignores.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How fast the machine is, is no property of the code.
    settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this user cannot run; say which lack it is."""
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if item.get_closest_marker("qemu") and not shutil.which("qemu-system-x86_64"):
            item.add_marker(pytest.mark.skip(reason="needs qemu-system-x86_64"))


@pytest.fixture(scope="session")
def busybox_archive() -> Path:
    """The busybox image as an OCI archive, built by scripts/build-images."""
    archive = CHECKOUT / "images/out/busybox.tar"
    if not archive.exists():
        subprocess.run([CHECKOUT / "scripts/build-images", "busybox"], check=True, timeout=300)
    return archive


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command with fresh, empty roots; every container is removed at the end."""
    cli = Cli(tmp_path / "data", tmp_path / "state")
    yield cli
    cli.remove_all()


@pytest.fixture(scope="session")
def loaded_roots(tmp_path_factory: pytest.TempPathFactory, busybox_archive: Path) -> Iterator[Cli]:
    base = tmp_path_factory.mktemp("roots")
    cli = Cli(base / "data", base / "state")
    cli("load", "-i", busybox_archive, timeout=120)
    yield cli
    cli.remove_all()


@pytest.fixture
def box(loaded_roots: Cli) -> Iterator[Cli]:
    """The command with the busybox image loaded; containers are removed after the test."""
    yield loaded_roots
    loaded_roots.remove_all()


@pytest.fixture(scope="session")
def compiler() -> str:
    """A C compiler; tests that need one are skipped without it."""
    found = shutil.which("cc") or shutil.which("gcc")
    if not found:
        pytest.skip("needs a C compiler")
    return found
