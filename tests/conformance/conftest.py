"""Fixtures of the conformance suite; `--runtime PATH` chooses what is tested."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from oci_driver import Bundle, Oci, launcher, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Iterator

PR_SET_CHILD_SUBREAPER = 36


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runtime", default="", help="OCI runtime to test (default: this checkout's)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lacks(runc=, crun=): why that runtime does not have this")


@pytest.fixture(scope="session")
def runtime_program(request: pytest.FixtureRequest) -> Path:
    chosen = request.config.getoption("--runtime", default="")
    if not chosen:
        return launcher()
    found = shutil.which(chosen)
    if not found:
        pytest.fail(f"--runtime {chosen}: not found")
    return Path(found)


@pytest.fixture(scope="session")
def busybox_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("busybox") / "rootfs"
    make_rootfs(path)
    return path


@pytest.fixture(scope="module", autouse=True)
def subreaper() -> Iterator[None]:
    """Inits outlive the runtime: they become our children, as they are the engine's."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    # Other tests wait until what they started is gone, and nobody reaps it here.
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def oci(
    request: pytest.FixtureRequest, runtime_program: Path, busybox_rootfs: Path, tmp_path: Path
) -> Iterator[Oci]:
    oci = Oci(runtime_program, tmp_path, busybox_rootfs)
    if oci.name == "crun" and Path("/sys/fs/cgroup/unified").exists():
        pytest.skip("crun refuses a host with cgroup v1 and v2 side by side")
    for marker in request.node.iter_markers("lacks"):
        if oci.name in marker.kwargs:
            pytest.skip(f"{oci.name}: {marker.kwargs[oci.name]}")
    yield oci
    oci.clean()


@pytest.fixture
def bundle(oci: Oci) -> Bundle:
    return oci.bundle()
