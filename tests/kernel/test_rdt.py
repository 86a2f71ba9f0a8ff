"""linux.intelRdt through a container's life, in a directory tree in place of resctrl.

The tree takes what is written; the kernel's own part is in tests/unit/runtime/test_rdt.py. No
machine with the hardware has run this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launching import children, descriptors, make_spec

from pycontain.errors import PycontainError
from pycontain.runtime import container, creation, launch, rdt
from pycontain.runtime import state as states

pytestmark = pytest.mark.root

ID = "rdt-one"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "resctrl"
    place.mkdir()

    def make(path: str) -> None:
        for name in ("", "mon_groups"):
            Path(path, name).mkdir()
        for name in ("tasks", "schemata"):
            Path(path, name).write_text("")

    def remove(path: str) -> None:
        for name in ("tasks", "schemata"):
            Path(path, name).unlink()
        Path(path, "mon_groups").rmdir()
        Path(path).rmdir()

    monkeypatch.setattr(rdt, "find_root", lambda: str(place))
    monkeypatch.setattr(rdt, "make_directory", make)
    monkeypatch.setattr(rdt, "remove_directory", remove)
    return place


@pytest.fixture
def options(executor: str) -> Iterator[launch.LaunchOptions]:
    before = children(), descriptors()
    found = launch.LaunchOptions()
    found.executor = executor
    found.cgroup_path = f"/{ID}"
    null = os.open("/dev/null", os.O_RDWR)
    found.stdio = (null, null, null)
    yield found
    os.close(null)
    assert (children(), descriptors()) == before


def spec(rootfs: Path, **wanted: Any) -> Any:
    document = make_spec(rootfs, "sleep", "100")
    document["linux"]["intelRdt"] = wanted
    return document


def end(made: container.Container) -> None:
    """Delete it and reap init, which is this test's child."""
    made.delete(force=True)
    os.waitpid(made.pid, 0)


def create(tmp_path: Path, document: Any, options: launch.LaunchOptions) -> container.Container:
    run_root = str(tmp_path / "run")
    _, init = creation.make(
        run_root, ID, str(tmp_path), document, options, "cgroupfs", b"", park=True
    )
    os.close(init.pidfd)
    return container.load(run_root, ID)


def test_init_and_exec_join_the_group_and_delete_removes_it(
    root: Path, tmp_path: Path, rootfs: Path, options: launch.LaunchOptions
) -> None:
    made = create(tmp_path, spec(rootfs, l3CacheSchema="L3:0=f"), options)
    home = tmp_path / "run" / ID
    try:
        # "0" is who writes.
        assert (root / ID / "tasks").read_text() == "0"
        assert (root / ID / "schemata").read_text() == "L3:0=f\n"
        assert not (home / "plain").exists()
        made.start()
        (root / ID / "tasks").write_text("")
        again = launch.LaunchOptions()
        again.stdio = options.stdio
        process = make_spec(rootfs, "sh", "-c", "exit 3")["process"]
        init = made.exec(process, again)  # type: ignore[arg-type]
        assert os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED).si_status == 3  # type: ignore[union-attr]
        os.close(init.pidfd)
        assert (root / ID / "tasks").read_text() == "0"
    finally:
        end(made)
    assert list(root.iterdir()) == []
    assert not home.exists()


def test_a_create_that_fails_leaves_no_group(
    root: Path, tmp_path: Path, rootfs: Path, options: launch.LaunchOptions
) -> None:
    document = spec(rootfs, schemata=["L3:0=f"])
    document["process"]["args"] = ["no-such-program"]
    with pytest.raises(PycontainError, match="no-such-program"):
        create(tmp_path, document, options)
    assert list(root.iterdir()) == []
    # Before anybody joined: a file does not forget the processes that died.
    document = spec(rootfs, closID="silver", schemata=["L3:0=f"])
    document["linux"]["namespaces"][0]["path"] = "/no/such/namespace"
    with pytest.raises(PycontainError, match="/no/such/namespace"):
        create(tmp_path, document, options)
    assert list(root.iterdir()) == []
    assert states.ids(str(tmp_path / "run")) == []


def test_a_closid_stays_for_the_others(
    root: Path, tmp_path: Path, rootfs: Path, options: launch.LaunchOptions
) -> None:
    end(create(tmp_path, spec(rootfs, closID="silver", schemata=["L3:0=f"]), options))
    assert [path.name for path in root.iterdir()] == ["silver"]


def test_update_gives_a_container_a_group_that_delete_removes(
    root: Path, tmp_path: Path, rootfs: Path, options: launch.LaunchOptions
) -> None:
    document = spec(rootfs)
    del document["linux"]["intelRdt"]
    made = create(tmp_path, document, options)
    try:
        assert list(root.iterdir()) == []
        made.update({}, {"memBwSchema": "MB:0=20"})
        assert (root / ID / "schemata").read_text() == "MB:0=20\n"
        assert (root / ID / "tasks").read_text() == str(made.pid)
        assert not (tmp_path / "run" / ID / "plain").exists()
    finally:
        end(made)
    assert list(root.iterdir()) == []


def test_an_update_that_fails_half_way_leaves_a_group_that_delete_removes(
    root: Path, tmp_path: Path, rootfs: Path, options: launch.LaunchOptions
) -> None:
    document = spec(rootfs)
    del document["linux"]["intelRdt"]
    made = create(tmp_path, document, options)
    try:
        with pytest.raises(PycontainError):
            made.update({"unified": {"no.such": "1"}}, {"memBwSchema": "MB:0=20"})
        assert (root / ID).exists()
        assert not (tmp_path / "run" / ID / "plain").exists()
    finally:
        end(made)
    assert list(root.iterdir()) == []
