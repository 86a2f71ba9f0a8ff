"""NOTIFY_SOCKET: what the program says reaches the service manager above the runtime."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_driver import Bundle, Oci

pytestmark = [
    pytest.mark.root,
    pytest.mark.lacks(crun="it has the socket at another place, and relays all"),
]

PROBE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Says its arguments after the first to $NOTIFY_SOCKET, a datagram each, ends after argv[1] s. */
int main(int argc, char **argv)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
    for (int n = 2; n < argc; n++)
        if (sendto(fd, argv[n], strlen(argv[n]), 0, (void *)&to, sizeof to) < 0) {
            perror(to.sun_path);
            return 1;
        }
    sleep(atoi(argv[1]));
    return 7;
}
"""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    path = tmp_path_factory.mktemp("probe") / "notify"
    source = path.with_suffix(".c")
    source.write_text(PROBE)
    subprocess.run([compiler, "-static", "-o", path, source], check=True, timeout=60)
    return path


class Manager:
    """A service manager: a datagram socket; `env` is what a command below it is given."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(20)
        self.env = {**os.environ, "NOTIFY_SOCKET": address}

    def heard(self, oci: Oci, pid: int = 0) -> bool:
        """Return whether the manager is told of readiness and of the main process."""
        # runc has the barrier from 1.2 on. Its descriptor is dropped here: that lifts it.
        barrier = ["BARRIER=1"] if oci.name == "own" else []
        found = [self.socket.recv(4096).decode() for _ in ["READY", "MAINPID", *barrier]]
        return found == ["READY=1\n", f"MAINPID={pid or oci.state()['pid']}\n", *barrier]

    def heard_nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "manager.sock"))
    yield made
    made.socket.close()


@pytest.fixture
def service(bundle: Bundle, probe: Path) -> Bundle:
    shutil.copy(probe, bundle.rootfs / "bin/notify")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    return bundle


def start(oci: Oci, manager: Manager, *words: str) -> subprocess.Popen[bytes]:
    """Start a verb without waiting: it stays until the program is ready."""
    return subprocess.Popen(oci.argv(*words), env=manager.env, stdin=subprocess.DEVNULL)


def test_start_stays_until_the_program_is_ready(
    oci: Oci, service: Bundle, manager: Manager
) -> None:
    service.command("notify", "60", "STATUS=soon", "READY=1\nSTATUS=up", "READY=2")
    oci.create(service, "one", env=manager.env)
    assert manager.heard_nothing()
    manager.socket.settimeout(20)
    starting = start(oci, manager, "start", "one")
    assert manager.heard(oci)
    assert starting.wait(20) == 0
    assert manager.heard_nothing()
    assert oci.status() == "running"


@pytest.mark.lacks(runc="it looks at the first line of a message alone")
def test_a_line_anywhere_in_the_message_counts(oci: Oci, service: Bundle, manager: Manager) -> None:
    service.command("notify", "60", "STATUS=up\nREADY=1")
    service.write()
    running = start(oci, manager, "run", "-d", "--bundle", str(service.path), "one")
    assert manager.heard(oci)
    assert running.wait(20) == 0


def test_run_in_the_background_stays_until_the_program_is_ready(
    oci: Oci, service: Bundle, manager: Manager
) -> None:
    service.command("notify", "60", "READY=1")
    service.write()
    running = start(oci, manager, "run", "-d", "--bundle", str(service.path), "one")
    assert manager.heard(oci)
    assert running.wait(20) == 0


@pytest.mark.lacks(runc="it forwards no signal before the program is ready")
def test_run_in_the_foreground_is_the_main_process(
    oci: Oci, service: Bundle, manager: Manager
) -> None:
    service.command("notify", "60", "READY=1")
    service.write()
    running = start(oci, manager, "run", "--bundle", str(service.path), "one")
    try:
        assert manager.heard(oci, running.pid)
        oci("kill", "one", "KILL")
    finally:
        status = running.wait(20)
    assert status == 137
    assert not (oci.state_root / "one").exists()


@pytest.mark.lacks(runc="it takes a zombie for alive")
def test_a_program_that_ends_without_a_word_ends_the_wait(
    oci: Oci, service: Bundle, manager: Manager
) -> None:
    service.command("notify", "0", "STATUS=never")
    oci.create(service, "one", env=manager.env)
    oci("start", "one", env=manager.env)
    assert manager.heard_nothing()
    oci("delete", "one")
    assert not (oci.state_root / "one").exists()


def test_an_abstract_socket_of_the_manager_is_reached(oci: Oci, service: Bundle) -> None:
    manager = Manager(f"@pycontain-test-{os.getpid()}")
    service.command("notify", "60", "READY=1")
    service.write()
    running = start(oci, manager, "run", "-d", "--bundle", str(service.path), "one")
    assert manager.heard(oci)
    assert running.wait(20) == 0
    manager.socket.close()


@pytest.mark.lacks(runc="it takes itself for the container: it waits for ever")
def test_the_container_sees_a_read_only_directory_with_the_socket(
    oci: Oci, bundle: Bundle, manager: Manager
) -> None:
    bundle.process["env"].append("NOTIFY_SOCKET=/of/the/image")
    bundle.shell("env | grep NOTIFY; ls -l /run/notify; touch /run/notify/x || echo refused")
    done = oci.run(bundle, env=manager.env)
    lines = done.out.splitlines()
    assert lines[0] == "NOTIFY_SOCKET=/run/notify/notify.sock"
    assert lines[-2].startswith("srwxrwxrwx")
    assert lines[-1] == "refused"
    assert manager.heard_nothing()


def test_without_a_manager_there_is_nothing_of_it(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("env | grep NOTIFY; ls -d /run/notify || true")
    env = {**os.environ, "NOTIFY_SOCKET": ""}
    assert oci.run(bundle, env=env).out == ""


def test_a_manager_that_is_gone_changes_nothing(oci: Oci, service: Bundle, tmp_path: Path) -> None:
    service.command("notify", "60", "READY=1")
    service.write()
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "gone.sock")}
    oci("run", "-d", "--bundle", service.path, "one", env=env)
    assert oci.status() == "running"
