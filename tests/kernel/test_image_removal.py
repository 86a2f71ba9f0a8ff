"""rmi against containers: one that is being made keeps its layers, one that stands on them too."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import Cli

from pycontain.engine.draft import Maker
from pycontain.engine.store import Store
from pycontain.image.store import ImageStore
from pycontain.spec.options import RunOptions

pytestmark = pytest.mark.root


@pytest.fixture
def own(cli: Cli, busybox_archive: Path) -> Cli:
    """The command with an image that may be removed."""
    cli("load", "-i", busybox_archive, timeout=120)
    return cli


@contextmanager
def locked(cli: Cli, operation: int) -> Iterator[None]:
    fd = os.open(cli.data / "images", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, operation)
        yield
    finally:
        os.close(fd)


def waits(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a command came to wait for a lock; False when it ended without."""
    while process.poll() is None:
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "->" and words[5] == str(process.pid):
                return True
        time.sleep(0.01)
    return False


def test_rmi_waits_for_a_container_that_is_being_made(own: Cli) -> None:
    with locked(own, fcntl.LOCK_SH):
        removal = own.start("rmi", "busybox", stderr=subprocess.PIPE)
        assert waits(removal)
        own("create", "--name", "late", "busybox", "echo", "whole")
    _, told = removal.communicate(timeout=20)
    assert removal.returncode != 0
    assert b"used by container late" in told
    assert own.text("start", "-a", "late") == "whole\n"


def test_a_container_is_not_made_of_an_image_that_is_being_removed(own: Cli) -> None:
    with locked(own, fcntl.LOCK_EX):
        run = own.start("run", "--rm", "busybox", "true", stderr=subprocess.PIPE)
        assert waits(run)
        ImageStore(str(own.data)).remove("busybox")
    _, told = run.communicate(timeout=20)
    assert (run.returncode, b'"busybox": not found' in told) == (125, True), told
    assert not [*(own.data / "containers").glob("*")]


def test_the_image_is_held_until_the_record_names_its_layers(own: Cli) -> None:
    class Looking(Maker):
        free: list[bool]

        def _remember(self, *what: Any) -> None:
            try:
                with locked(own, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    self.free.append(True)
            except BlockingIOError:
                self.free.append(False)
            super()._remember(*what)

    maker = Looking(Store(str(own.data), str(own.state)))
    maker.free = []
    draft = maker.make(RunOptions({}), "busybox", ["true"], start=False)
    draft.lock.release()
    assert maker.free == [False]
    with locked(own, fcntl.LOCK_EX | fcntl.LOCK_NB):
        pass


def test_a_container_keeps_the_layers_of_an_image_that_was_damaged(own: Cli) -> None:
    own("create", "--name", "kept", "busybox", "echo", "whole")
    (record,) = (own.data / "images").iterdir()
    record.write_text("{")
    own("rmi", "busybox")
    assert own.text("images", "-q") == ""
    assert own.text("start", "-a", "kept") == "whole\n"
