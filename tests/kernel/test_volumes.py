"""Named volumes: `pycontain volume create|ls|inspect|rm`."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import BIN, Cli

from pycontain.cli import volumes as verbs
from pycontain.engine import removal
from pycontain.engine.draft import Maker
from pycontain.engine.record import Record
from pycontain.engine.store import Store
from pycontain.spec import files
from pycontain.spec.options import RunOptions

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def no_volumes(box: Cli) -> Iterator[None]:
    remove_volumes(box)
    yield
    remove_volumes(box)


def remove_volumes(box: Cli) -> None:
    box.remove_all()
    left = names(box)
    if left:
        box("volume", "rm", *left)


def names(box: Cli, *filters: str) -> list[str]:
    words = [word for text in filters for word in ("--filter", text)]
    return box.text("volume", "ls", "-q", *words).split()


def test_a_volume_is_made_listed_inspected_and_removed(box: Cli) -> None:
    assert box.text("volume", "create", "--label", "a=b", "data") == "data\n"
    lines = [line.split() for line in box.text("volume", "ls").splitlines()]
    assert lines == [["DRIVER", "VOLUME", "NAME"], ["local", "data"]]
    found = json.loads(box.text("volume", "inspect", "data"))
    created = found[0].pop("CreatedAt")
    path = f"{box.data}/volumes/data/_data"
    assert found == [
        {"Driver": "local", "Labels": {"a": "b"}, "Mountpoint": path, "Name": "data",
         "Options": None, "Scope": "local"}
    ]  # fmt: skip
    assert created.startswith("20")
    assert created.endswith("Z")
    assert json.loads(box.text("inspect", "data"))[0]["Mountpoint"] == path
    assert box.text("volume", "inspect", "-f", "{{.Name}} {{.Labels.a}}", "data") == "data b\n"
    row = json.loads(box.text("volume", "ls", "--format", "json"))
    assert (row["Name"], row["Labels"], row["Mountpoint"]) == ("data", "a=b", path)
    assert box.text("volume", "rm", "data") == "data\n"
    assert os.listdir(box.data / "volumes") == []


def test_a_container_finds_the_volume_that_was_made(box: Cli) -> None:
    box("volume", "create", "data")
    box("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/file")
    box("volume", "create", "--label", "late=1", "data")
    assert box.text("run", "--rm", "-v", "data:/d", "busybox", "cat", "/d/file") == "kept\n"
    assert json.loads(box.text("volume", "inspect", "data"))[0]["Labels"] is None


def test_without_a_name_a_volume_gets_one(box: Cli) -> None:
    name = box.text("volume", "create").strip()
    assert len(name) == 64
    assert names(box) == [name]


@pytest.mark.parametrize("status", ["running", "exited", "created"])
def test_a_volume_in_use_is_not_removed(box: Cli, status: str) -> None:
    verb, command = {
        "running": (["run", "-d"], ["sleep", "60"]),
        "exited": (["run"], ["true"]),
        "created": (["create"], ["true"]),
    }[status]
    box(*verb, "--name", "user", "-v", "data:/d", "busybox", *command)
    box("volume", "create", "free")
    done = box("volume", "rm", "-f", "data", "free", status=125)
    assert done.stdout == b"free\n"
    assert b"volume data is in use by container user; " in done.stderr
    assert names(box, "dangling=false") == ["data"]
    mount = json.loads(box.text("inspect", "user"))[0]["Mounts"][0]
    assert (mount["Type"], mount["Name"]) == ("volume", "data")
    box("rm", "-f", "user")
    assert names(box, "dangling=true") == ["data"]
    box("volume", "rm", "data")


def test_a_bind_of_the_volumes_directory_is_no_use_of_it(box: Cli) -> None:
    box("volume", "create", "data")
    path = box.data / "volumes/data/_data"
    box("create", "--name", "user", "-v", f"{path}:/d", "busybox", "true")
    assert box.text("volume", "rm", "data") == "data\n"


def wait_for_lock(process: subprocess.Popen[bytes]) -> None:
    """Return when the process waits for a lock; fail when it ends before."""
    end = time.monotonic() + 30
    while not any(
        "->" in line and f" {process.pid} " in line
        for line in Path("/proc/locks").read_text().splitlines()
    ):
        assert process.poll() is None
        assert time.monotonic() < end


def test_removal_waits_for_containers_that_are_being_made(box: Cli) -> None:
    box("volume", "create", "data")
    making = os.open(box.data / "volumes", os.O_RDONLY)
    try:
        fcntl.flock(making, fcntl.LOCK_SH)
        remover = box.start("volume", "rm", "data", stderr=subprocess.PIPE)
        wait_for_lock(remover)
        box("create", "--name", "user", "-v", "data:/d", "busybox", "true")
    finally:
        os.close(making)
    _, stderr = remover.communicate(timeout=30)
    assert remover.returncode == 125
    assert b"in use by container user" in stderr


def test_a_volume_is_held_until_the_record_names_it(box: Cli) -> None:
    box("volume", "create", "data")
    path = str(box.data / "volumes")
    held: list[bool] = []

    class Watched(Store):
        def save(self, record: Record, *, sync: bool = True) -> None:
            held.append(is_held(path))
            super().save(record, sync=sync)

    store = Watched(str(box.data), str(box.state))
    options = RunOptions({"volume": [files.volume("data:/d", "--volume")]}, {})
    draft = Maker(store).make(options, "busybox", ["true"])
    removal.remove(store, draft.record, draft.lock, volumes=True)
    assert held == [True]
    assert not is_held(path)


def is_held(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def anonymous(box: Cli, name: str) -> str:
    return str(json.loads(box.text("inspect", name))[0]["Mounts"][0]["Name"])


@pytest.mark.parametrize("how", [("rm", "-v"), ("rm", "-fv"), ("kill",)], ids=" ".join)
def test_an_anonymous_volume_another_container_has_is_kept(box: Cli, how: list[str]) -> None:
    more = ("--rm",) if how == ("kill",) else ()
    box("run", "-d", *more, "--name", "first", "-v", "/d", "busybox", "sleep", "60")
    volume = anonymous(box, "first")
    box("exec", "first", "touch", "/d/kept")
    box("create", "--name", "second", "-v", f"{volume}:/d", "busybox", "ls", "/d")
    if how == ("rm", "-v"):
        box("stop", "-t", "0", "first")
    assert box(*how, "first").stderr == b""
    assert box.text("ps", "-a", "--format", "{{.Names}}") == "second\n"
    assert names(box) == [volume]
    assert box.text("start", "-a", "second") == "kept\n"
    assert b"in use by container second" in box("volume", "rm", volume, status=125).stderr
    # It is the second's by name: docker leaves it, too.
    box("rm", "-v", "second")
    assert names(box) == [volume]


def test_an_anonymous_volume_nobody_else_has_is_removed(box: Cli) -> None:
    box("create", "--name", "first", "-v", "/d", "busybox", "true")
    box("create", "--name", "second", "-v", "/d", "busybox", "true")
    volume = anonymous(box, "second")
    box("rm", "-v", "first")
    assert names(box) == [volume]


def test_a_container_of_a_damaged_record_may_have_any_volume(box: Cli) -> None:
    box("create", "--name", "damaged", "-v", "data:/d", "busybox", "true")
    damaged = json.loads(box.text("inspect", "damaged"))[0]["Id"]
    (box.data / "containers" / damaged / "record.json").write_text("{")
    box("create", "--name", "other", "-v", "/d", "busybox", "true")
    volume = anonymous(box, "other")
    box("rm", "-v", "other")
    done = box("volume", "rm", "-f", "data", volume, status=125)
    assert [line.partition(" may")[0] for line in done.stderr.decode().splitlines()] == [
        "pycontain: volume data", f"pycontain: volume {volume}",
    ]  # fmt: skip
    assert f"container {damaged[:12]}, whose record is damaged" in done.stderr.decode()
    assert names(box, "dangling=true") == []
    assert sorted(names(box)) == sorted(["data", volume])
    box("rm", "-f", damaged)
    assert sorted(names(box, "dangling=true")) == sorted(["data", volume])


@pytest.mark.parametrize(
    "mounts",
    ["x", ["x"], [1], [{}], [{"Type": "volume", "Source": "/", "Destination": "/d"}],
     [{"Type": "bind", "Source": 1, "Destination": "/d"}],
     [{"Type": "volume", "Source": "/", "Destination": "/d", "Name": ["data"]}]],
    ids=str,
)  # fmt: skip
def test_a_record_of_odd_mounts_is_one_clear_line(box: Cli, mounts: object) -> None:
    box("volume", "create", "data")
    box("create", "--name", "odd", "busybox", "true")
    path = next((box.data / "containers").iterdir()) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mounts": mounts}))
    for verb in (["inspect"], ["start"], ["rm"], ["rm", "-v"], ["wait"], ["logs"]):
        done = box(*verb, "odd", status=125)
        assert done.stderr.count(b"\n") == 1
        assert b": mounts is missing or wrong; " in done.stderr
    assert b"whose record is damaged" in box("volume", "rm", "data", status=125).stderr
    assert b"internal" not in box("ps", "-a").stderr + box("volume", "ls").stderr
    box("rm", "-f", "odd")


def test_filters_narrow_the_list(box: Cli) -> None:
    box("volume", "create", "--label", "tier=db", "one")
    box("volume", "create", "--label", "tier=web", "--label", "x", "two")
    assert names(box, "label=tier") == ["one", "two"]
    assert names(box, "label=tier=db") == ["one"]
    assert names(box, "name=w", "label=x") == ["two"]
    assert names(box, "name=one", "name=two") == ["one", "two"]
    assert names(box, "driver=nfs") == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["rm", "nosuch"], "volume nosuch: not found"),
        (["inspect", "nosuch"], "volume nosuch: not found"),
        (["rm", "../containers"], "volume ../containers: not found"),
        (["rm", ".."], "volume ..: not found"),
        (["inspect", ""], "volume '': not found"),
        (["create", "../x"], "volume ../x: expected a name"),
        (["create", "--driver", "nfs", "x"], "--driver nfs: expected local"),
        (["create", "a1", "b1"], "usage: pycontain volume create [options] [VOLUME]"),
        (["rm"], "usage: pycontain volume rm [options] VOLUME"),
        (["ls", "--filter", "size=1"], "--filter size: expected one of dangling"),
        (["nosuch"], "no such command 'nosuch'"),
    ],
)
def test_a_mistake_is_one_clear_line(box: Cli, words: list[str], why: str) -> None:
    box("volume", "create", "kept")
    done = box("volume", *words, status=125)
    assert done.stderr.decode().startswith(f"pycontain: {why}")
    assert done.stderr.count(b"\n") == 1
    assert (box.data / "containers").exists() or words != ["rm", "../containers"]
    assert names(box) == ["kept"]


def test_force_takes_a_missing_volume_for_removed(box: Cli) -> None:
    assert box.text("volume", "rm", "-f", "nosuch") == "nosuch\n"


@pytest.mark.parametrize("command", verbs.VERBS, ids=lambda command: command.name)
def test_help_names_every_option_and_an_example(box: Cli, command: verbs.Command) -> None:
    text = box.text(*command.name.split(), "--help")
    assert all("--" + option.name in text for option in command.options)
    assert command.example in text
    assert command.example.startswith(f"pycontain {command.name}")


def test_a_shell_completes_verbs_and_names(box: Cli) -> None:
    box("volume", "create", "completed")
    line = "pycontain volume inspect comp"
    env = {
        **os.environ, "_PYCONTAIN_COMPLETE": "bash_complete", "COMP_WORDS": line,
        "COMP_CWORD": "3", "PYCONTAIN_ROOT": str(box.data), "PYCONTAIN_STATE": str(box.state),
    }  # fmt: skip
    done = subprocess.run([str(BIN / "pycontain")], env=env, capture_output=True, check=False)
    assert b"completed" in done.stdout
