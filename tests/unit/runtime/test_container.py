"""Steps of a container's life that need no container."""

from __future__ import annotations

import os
import resource

import pytest

from pycontain.errors import KernelError
from pycontain.runtime import container


def test_a_release_without_a_free_descriptor_says_so() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(KernelError, match=r"pidfd_open: .*EMFILE"):
            container._release("/nowhere/exec.fifo", os.getpid(), until_exec=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_release_without_its_fifo_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KernelError, match="ENOENT"):
        container._release("/nowhere/exec.fifo", os.getpid(), until_exec=True)
    assert len(os.listdir("/proc/self/fd")) == before
