"""Two dockerd nodes, each in a network namespace of its own, joined as one swarm."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dockerd import Docker, dockerd

pytestmark = pytest.mark.root

MANAGER, WORKER = "10.97.41.1", "10.97.41.2"


def ip(*args: object) -> None:
    subprocess.run(["ip", *map(str, args)], check=True)


@pytest.fixture(scope="module")
def wire() -> Iterator[list[str]]:
    """Two network namespaces with a veth pair between them and no way out."""
    names = [f"pc-swarm-{os.getpid()}-{n}" for n in (1, 2)]
    with ExitStack() as undo:
        for name in names:
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
        ip("-n", names[0], "link", "add", "node", "type", "veth", "peer", "node", "netns", names[1])
        for name, address in zip(names, (MANAGER, WORKER), strict=True):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "node")
            ip("-n", name, "link", "set", "node", "up")
        yield names


@pytest.fixture(scope="module")
def nodes(wire: list[str], runtime_program: Path, busybox_tar: Path) -> Iterator[list[Docker]]:
    """The manager and the worker, both with the image."""
    with ExitStack() as undo:
        found = []
        for name in wire:
            scratch = Path(tempfile.mkdtemp(prefix="pc-s-"))
            undo.callback(shutil.rmtree, scratch, ignore_errors=True)
            inside = ["nsenter", f"--net=/run/netns/{name}"]
            node = undo.enter_context(dockerd(scratch, runtime_program, inside))
            node("import", busybox_tar, "bb")
            found.append(node)
        manager, worker = found
        manager("swarm", "init", "--advertise-addr", MANAGER)
        undo.callback(manager, "swarm", "leave", "--force", status=None)
        token = manager("swarm", "join-token", "-q", "worker").strip()
        worker("swarm", "join", "--advertise-addr", WORKER, "--token", token, f"{MANAGER}:2377")
        undo.callback(worker, "swarm", "leave", "--force", status=None)
        yield found


def until(condition: Callable[[], bool], manager: Docker) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, manager("service", "ps", "--no-trunc", "web")
        time.sleep(0.3)


def test_a_service_on_two_nodes_replaces_a_killed_task(nodes: list[Docker]) -> None:
    manager, worker = nodes
    manager("network", "create", "--driver", "overlay", "wide")
    manager(
        "service", "create", "--detach", "--no-resolve-image", "--name", "web", "--replicas", "4",
        "--restart-delay", "0s", "--stop-grace-period", "0s", "--network", "wide",
        "bb", "sleep", "1000",
    )  # fmt: skip

    def tasks(node: Docker) -> list[str]:
        return node("ps", "-q", "--filter", "name=web").split()

    until(lambda: len(tasks(manager)) == len(tasks(worker)) == 2, manager)
    first = tasks(worker)
    assert worker("inspect", "--format", "{{.HostConfig.Runtime}}", first[0]) == "pycontain\n"
    # One task reaches the other across the nodes.
    inside = worker("exec", first[1], "ip", "-4", "-o", "addr", "show", "eth0").split()
    address = inside[inside.index("inet") + 1].partition("/")[0]
    reached = manager("exec", tasks(manager)[0], "ping", "-c", "1", "-W", "10", address)
    assert " 0% packet loss" in reached
    worker("kill", first[0])
    until(
        lambda: len(tasks(manager)) + len(tasks(worker)) == 4 and first[0] not in tasks(worker),
        manager,
    )
    manager("service", "rm", "web")
    until(lambda: not tasks(manager) and not tasks(worker), manager)
    manager("network", "rm", "wide")
