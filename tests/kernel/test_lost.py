"""Containers whose state was deleted and that have no cgroup: found by /proc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import Cli, processes

from pycontain.engine import lost
from pycontain.engine.store import Store
from pycontain.errors import ConflictError

pytestmark = pytest.mark.root

NO_CGROUP = ("--cgroup-manager", "disabled")


def detached(box: Cli, name: str, *script: str) -> str:
    box(*NO_CGROUP, "run", "-d", "--name", name, "busybox", *script)
    return str(json.loads(box.text("inspect", name))[0]["Id"])


@pytest.mark.parametrize("verb", [("rm", "-f"), ("stop", "-t", "0")], ids=" ".join)
def test_every_process_of_it_is_found_and_killed(box: Cli, verb: tuple[str, ...]) -> None:
    other = detached(box, "other", "sleep", "86301")
    identity = detached(box, "lost", "sh", "-c", "sleep 86302 & exec sleep 86303")
    shutil.rmtree(box.state / "containers" / identity)
    box(*verb, "lost")
    assert processes("86302") == processes("86303") == []
    assert os.listdir(box.state / "locks") == [other]
    assert len(processes("86301")) == 1


def test_a_process_that_only_sees_the_directory_is_left_alone(box: Cli) -> None:
    """A mount namespace of the host in which the root file system is mounted somewhere below."""
    identity = detached(box, "lost", "sleep", "86304")
    place = box.data / "containers" / identity / "rootfs"
    script = f"mkdir -p {place} && mount --bind {box.data}/containers/{identity} {place} && sleep 9"
    bystander = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], process_group=0)
    try:
        while identity not in Path(f"/proc/{bystander.pid}/mountinfo").read_text():
            assert bystander.poll() is None
        lost.kill(identity)
        assert processes("86304") == []
        assert bystander.poll() is None
    finally:
        os.killpg(bystander.pid, 9)
        bystander.wait()


def test_who_holds_the_lock_is_told(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "data"), str(tmp_path / "state"))
    lock = store.lock("a" * 64, "mine")
    assert lock is not None
    os.set_inheritable(lock.fd, True)
    holder = subprocess.Popen(["sleep", "86305"], close_fds=False)
    try:
        with pytest.raises(ConflictError) as caught:
            store.lock_now("a" * 64, wait=0.01)
    finally:
        holder.kill()
        holder.wait()
        lock.release()
    path = tmp_path / "state/locks" / ("a" * 64)
    assert caught.value.hint == f"its lock {path} is held by process {holder.pid} (sleep 86305)"
