"""Fixtures of the tests that need root."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostcheck import Canary, leftovers
from launching import (
    APPLETS,
    BUSYBOX,
    Start,
    children,
    descriptors,
)
from support import Cli


@pytest.fixture(params=["native", "python"])
def executor(request: pytest.FixtureRequest) -> str:
    from pycontain.syscalls import kernel

    if request.param == "native" and not kernel.HAVE_NATIVE:
        pytest.skip("the native module is not built")
    return str(request.param)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    if not BUSYBOX:
        pytest.skip("needs busybox-static")
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in APPLETS.split():
        (root / "bin" / name).symlink_to("busybox")
    (root / "tmp").mkdir()
    return root


@pytest.fixture
def start(executor: str, rootfs: Path) -> Iterator[Start]:
    before = children(), descriptors()
    yield Start(executor)
    assert (children(), descriptors()) == before
    assert str(rootfs.parent) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path / "canary")


@pytest.fixture
def host_is_untouched(cli: Cli, canary: Canary) -> Iterator[None]:
    """After every case: the canary as it was, nothing mounted, running or lying about."""
    yield
    assert canary.untouched()
    assert leftovers(cli.data, cli.state) == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"
