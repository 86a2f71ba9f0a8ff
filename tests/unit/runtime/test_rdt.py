"""linux.intelRdt on an ordinary directory tree that has the shape of resctrl.

What the kernel does there by itself, files in a new directory and their end with it, two functions
stand in for. No machine with the hardware has run this.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import ConflictError, KernelError, NotFoundError, UnsupportedError
from pycontain.runtime import container, hostmounts, rdt
from pycontain.runtime import state as states

SCHEMATA = "    L3:0=7ff;1=7ff\n    MB:0=100;1= 100\n"


def fill(directory: Path, *, control: bool = True) -> None:
    directory.joinpath("tasks").write_text("")
    if control:
        directory.joinpath("schemata").write_text(SCHEMATA)
        directory.joinpath("mon_groups").mkdir()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mount point, with the class `gold`."""
    place = tmp_path / "resctrl"
    place.mkdir()
    fill(place)
    (place / "info/MB").mkdir(parents=True)
    (place / "info/MB/bandwidth_gran").write_text("10\n")
    (place / "info/last_cmd_status").write_text("ok\n")
    (place / "gold").mkdir()
    fill(place / "gold")

    def make(path: str) -> None:
        Path(path).mkdir()
        fill(Path(path), control="mon_groups" not in path)

    def remove(path: str) -> None:
        shutil.rmtree(path, ignore_errors=True)

    monkeypatch.setattr(rdt, "make_directory", make)
    monkeypatch.setattr(rdt, "remove_directory", remove)
    return place


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every write: path and content, in their order."""
    seen: list[tuple[str, str]] = []
    write = rdt.write_existing

    def record(path: str, value: str) -> None:
        seen.append((path, value))
        write(path, value)

    monkeypatch.setattr(rdt, "write_existing", record)
    return seen


def create(root: Path, **wanted: Any) -> rdt.Group:
    group = rdt.choose(str(root), "one", wanted)  # type: ignore[arg-type]
    group.create(wanted)  # type: ignore[arg-type]
    return group


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()}


def test_the_mount_point_is_read_from_the_mount_table() -> None:
    table = (
        b"30 29 0:26 /part /elsewhere rw - resctrl resctrl rw\n"
        b"31 29 0:27 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        b"32 31 0:26 / /sys/fs/res\\040ctrl rw shared:8 - resctrl resctrl rw\n"
    )
    assert hostmounts.whole_of_type(table, b"resctrl") == "/sys/fs/res ctrl"
    assert hostmounts.whole_of_type(table, b"cgroup2") == ""


def test_without_a_mount_the_error_says_how_to_have_one() -> None:
    if hostmounts.first_of_type("resctrl"):
        pytest.skip("resctrl is mounted here")
    with pytest.raises(UnsupportedError, match=r"linux.intelRdt.*mount -t resctrl resctrl /sys/fs"):
        rdt.find_root()


def test_without_closid_the_group_has_the_id_and_goes_with_the_container(root: Path) -> None:
    before = names(root)
    group = create(root)
    assert names(root) - before == {"one", "one/mon_groups"}
    assert group.tasks_files() == [f"{root}/one/tasks"]
    group.remove()
    assert names(root) == before
    group.remove()


def test_what_has_no_line_writes_no_schemata(root: Path, writes: list[tuple[str, str]]) -> None:
    create(root)
    create(root, closID="gold", l3CacheSchema="", schemata=[])
    assert writes == []


def test_a_group_of_the_containers_name_with_processes_is_refused(root: Path) -> None:
    create(root)
    (root / "one/tasks").write_text("1\n")
    with pytest.raises(ConflictError, match="processes in the group"):
        create(root)


def test_an_empty_group_of_the_containers_name_is_taken_over(root: Path) -> None:
    create(root)
    create(root, l3CacheSchema="L3:0=f").remove()
    assert not (root / "one").exists()


@pytest.mark.parametrize("name", ["silver", "info", "mon_groups"])
def test_a_closid_alone_must_be_there(root: Path, name: str) -> None:
    before = names(root)
    with pytest.raises(NotFoundError, match=r"linux\.intelRdt\.closID"):
        create(root, closID=name)
    assert names(root) == before


@pytest.mark.parametrize(("name", "place"), [("gold", "/gold"), ("/", "")])
def test_a_closid_that_is_there_is_joined_and_stays(root: Path, name: str, place: str) -> None:
    group = create(root, closID=name)
    assert group.tasks_files() == [f"{root}{place}/tasks"]
    group.remove()
    group.undo()
    assert (root / "gold/tasks").exists()
    assert (root / "tasks").exists()


def test_a_missing_closid_with_lines_is_made_and_stays(
    root: Path, writes: list[tuple[str, str]]
) -> None:
    group = create(root, closID="silver", l3CacheSchema="L3:0=f")
    assert writes == [(f"{root}/silver/schemata", "L3:0=f\n")]
    group.remove()
    assert (root / "silver").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        {"l3CacheSchema": "L3:0=7ff;1=7ff"},
        {"l3CacheSchema": "L3:1=07FF"},
        {"memBwSchema": "MB:1=100;00=100"},
        {"memBwSchema": "MB:0=95"},
        {"l3CacheSchema": "L3:0=7ff", "schemata": ["MB:0=100", "L3:1=7ff"]},
        {"l3CacheSchema": "L3:0=1", "schemata": ["L3:0=7ff"]},
    ],
)
def test_a_closid_with_the_same_lines_is_joined(
    root: Path, writes: list[tuple[str, str]], wanted: dict[str, Any]
) -> None:
    create(root, closID="gold", **wanted)
    assert writes == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"l3CacheSchema": "L3:0=7fe"},
        {"l3CacheSchema": "L3:2=7ff"},
        {"l3CacheSchema": "L3:0=7f9;1=7ff"},
        {"memBwSchema": "MB:0=90"},
        {"schemata": ["L3:0=7ff", "L2:0=f"]},
        {"l3CacheSchema": "L3:0=7ff", "schemata": ["L3:0=1"]},
    ],
)
@pytest.mark.parametrize("name", ["gold", "/"])
def test_a_closid_with_other_lines_is_refused(
    root: Path, writes: list[tuple[str, str]], name: str, wanted: dict[str, Any]
) -> None:
    with pytest.raises(ConflictError, match="has another schemata"):
        create(root, closID=name, **wanted)
    assert writes == []


@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        ({"l3CacheSchema": "L3:0=f"}, ["L3:0=f\n"]),
        ({"memBwSchema": "MB:0=20"}, ["MB:0=20\n"]),
        ({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}, ["L3:0=f\nMB:0=20\n"]),
        (
            {"l3CacheSchema": "L3:0=f\nMB:0=50\n", "memBwSchema": "MB:0=20"},
            ["L3:0=f\nMB:0=20\n"],
        ),
        (
            {"schemata": ["L2:0=f", "L3:0=3"], "l3CacheSchema": "L3:0=f"},
            ["L3:0=f\n", "L2:0=f\nL3:0=3\n"],
        ),
    ],
)
def test_the_lines_that_are_written(
    root: Path, writes: list[tuple[str, str]], wanted: dict[str, Any], written: list[str]
) -> None:
    create(root, **wanted)
    assert writes == [(f"{root}/one/schemata", text) for text in written]


@pytest.mark.parametrize(
    ("wanted", "place"), [({}, "one"), ({"closID": "gold"}, "gold"), ({"closID": "/"}, ".")]
)
def test_monitoring_has_a_group_of_its_own_that_goes(
    root: Path, wanted: dict[str, Any], place: str
) -> None:
    before = names(root)
    group = create(root, enableMonitoring=True, **wanted)
    above = root / place
    assert group.tasks_files()[0] == str(above / "tasks")
    assert Path(group.tasks_files()[1]) == above / "mon_groups/one/tasks"
    assert (above / "mon_groups/one").is_dir()
    group.remove()
    assert names(root) == before


def test_the_older_monitoring_flags_are_ignored(root: Path) -> None:
    assert create(root, closID="gold", enableCMT=True, enableMBM=True).monitor == ""


def test_a_machine_without_monitoring_is_named_and_the_group_goes(root: Path) -> None:
    shutil.rmtree(root / "gold/mon_groups")
    before = names(root)
    group = rdt.choose(str(root), "one", {"closID": "gold", "enableMonitoring": True})
    with pytest.raises(UnsupportedError, match="enableMonitoring"):
        group.create({"closID": "gold", "enableMonitoring": True})
    group.undo()
    assert names(root) == before


@pytest.mark.parametrize("closid", ["", "silver"])
def test_what_the_kernel_refuses_is_said_and_undone(
    root: Path, monkeypatch: pytest.MonkeyPatch, closid: str
) -> None:
    def refuse(path: str, value: str) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(rdt, "write_existing", refuse)
    (root / "info/last_cmd_status").write_text("Mask out of range\n")
    before = names(root)
    wanted: Any = {"l3CacheSchema": "L3:0=0", "enableMonitoring": True}
    if closid:
        wanted["closID"] = closid
    group = rdt.choose(str(root), "one", wanted)
    with pytest.raises(KernelError, match=r"L3:0=0.*EINVAL.*Mask out of range"):
        group.create(wanted)
    group.undo()
    assert names(root) == before


def test_undo_leaves_a_class_that_somebody_joined(root: Path) -> None:
    group = create(root, closID="silver", l3CacheSchema="L3:0=f")
    (root / "silver/tasks").write_text("1\n")
    group.undo()
    assert (root / "silver").exists()
    (root / "silver/tasks").write_text("")
    group.undo()
    assert not (root / "silver").exists()


def test_a_group_is_remembered_and_removed_with_the_state(root: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert rdt.recall(str(home)) is None
    group = create(root, enableMonitoring=True)
    rdt.remember(str(home), group)
    found = rdt.recall(str(home))
    assert found
    assert (found.root, found.path, found.monitor, found.own) == (
        str(root), f"{root}/one", f"{root}/one/mon_groups/one", True,
    )  # fmt: skip
    container.remove_resource_control(str(home))
    assert not (root / "one").exists()
    assert rdt.present(str(home)) is None


def test_what_a_killed_create_left_goes_with_delete_force(root: Path, tmp_path: Path) -> None:
    home = tmp_path / "one"
    home.mkdir()
    rdt.remember(str(home), create(root))
    container.delete_broken(str(tmp_path), "one")
    assert not (root / "one").exists()
    assert not home.exists()


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.write_text("{")])
def test_a_spoiled_record_does_not_keep_a_broken_container(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    home = tmp_path / "one"
    home.mkdir()
    spoil(Path(f"{home}{states.RDT}"))
    container.delete_broken(str(tmp_path), "one")
    assert not home.exists()
