"""The mounts a container gets: options that fit one page, an upper root like the merged one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pycontain.errors import NotFoundError, UnsupportedError
from pycontain.rootfs import overlay
from pycontain.rootfs.snapshotter import Snapshotter


def chain(number: int) -> str:
    return f"sha256:{number:064x}"


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshotter:
    for number in range(130):
        (tmp_path / f"snapshots/{number:064x}/diff").mkdir(parents=True)
    return Snapshotter(str(tmp_path))


def container(snapshots: Snapshotter, name: str = "c") -> Path:
    path = Path(snapshots.root) / "containers" / name
    path.mkdir(parents=True)
    return path


def options(mount: dict[str, list[str]]) -> dict[str, str]:
    return dict(option.partition("=")[::2] for option in mount["options"])


def test_the_top_layer_comes_first(snapshots: Snapshotter) -> None:
    path = container(snapshots)
    (mount,) = snapshots.prepare(str(path), [chain(0), chain(1), chain(2)])
    found = options(mount)
    assert found["lowerdir"].split(":") == [snapshots.diff(chain(n)) for n in (2, 1, 0)]
    assert (found["upperdir"], found["workdir"]) == (f"{path}/upper", f"{path}/work")
    assert (mount["type"], mount["destination"]) == ("overlay", "")
    assert "volatile" not in found


def test_rm_gives_up_durability(snapshots: Snapshotter) -> None:
    (mount,) = snapshots.prepare(str(container(snapshots)), [chain(0)], volatile=True)
    assert "volatile" in mount["options"]


def test_upper_takes_the_mode_of_the_layers_root(snapshots: Snapshotter) -> None:
    Path(snapshots.diff(chain(1))).chmod(0o1751)
    path = container(snapshots)
    snapshots.prepare(str(path), [chain(0), chain(1)])
    assert stat.S_IMODE((path / "upper").stat().st_mode) == 0o1751


def test_127_layers_fit_the_page_and_more_do_not(snapshots: Snapshotter) -> None:
    path = container(snapshots)
    (mount,) = snapshots.prepare(str(path), [chain(n) for n in range(127)])
    assert len(",".join(mount["options"])) < 4096
    assert mount["cwd"] == f"{snapshots.root}/snapshots/l"
    assert len(options(mount)["lowerdir"].split(":")) == 127
    with pytest.raises(UnsupportedError):
        snapshots.prepare(str(container(snapshots, "d")), [chain(n) for n in range(128)])


def test_options_that_cannot_fit_are_refused(snapshots: Snapshotter) -> None:
    deep = Path(snapshots.root) / "/".join(["d" * 200] * 3)
    deep.mkdir(parents=True)
    with pytest.raises(UnsupportedError, match="bytes"):
        snapshots.prepare(str(deep), [chain(n) for n in range(127)])


def test_a_missing_snapshot_says_what_to_do(snapshots: Snapshotter) -> None:
    with pytest.raises(NotFoundError, match="load the image again"):
        snapshots.prepare(str(container(snapshots)), [chain(0), chain(999)])


def test_a_user_namespace_takes_user_attributes(snapshots: Snapshotter) -> None:
    (Path(snapshots.root) / "snapshots/driver").write_text("overlay,userxattr")
    (mount,) = snapshots.prepare(str(container(snapshots)), [chain(0)])
    assert "userxattr" in mount["options"]
    assert not any(option.startswith("redirect_dir") for option in mount["options"])


def test_characters_overlay_gives_a_meaning_are_escaped() -> None:
    assert overlay.escape("/a:b,c\\d") == "/a\\:b\\,c\\\\d"


def test_a_copy_says_so_and_is_a_bind_mount(snapshots: Snapshotter) -> None:
    (Path(snapshots.root) / "snapshots/driver").write_text("copy: overlay cannot be mounted here")
    assert "overlay cannot be mounted" in snapshots.driver()


def test_remove_takes_what_the_container_wrote(snapshots: Snapshotter) -> None:
    path = container(snapshots)
    snapshots.prepare(str(path), [chain(0)])
    (path / "upper/a/b").mkdir(parents=True)
    (path / "upper/link").symlink_to("/etc")
    (path / "config.json").write_text("{}")
    snapshots.remove(str(path))
    snapshots.remove(str(path))
    assert [p.name for p in path.iterdir()] == ["config.json"]
