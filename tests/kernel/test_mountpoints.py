"""The layer of mount points an image lacks: what is in it, and that a start writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import Entry, busybox_entries, directory, docker_archive, file, layer, symlink
from support import Cli

pytestmark = pytest.mark.root


def points(cli: Cli, tmp_path: Path, *layers: list[Entry]) -> list[str]:
    """Load an image of `layers`; return the relative paths of its layer of mount points."""
    archive = docker_archive(tmp_path / "image.tar", [layer(entries) for entries in layers])
    cli("load", "-i", archive)
    places = list((cli.data / "snapshots").glob("*/points"))
    assert len(places) == 1
    return sorted(str(path.relative_to(places[0])) for path in places[0].rglob("*"))


def test_what_is_missing_is_made(cli: Cli, tmp_path: Path) -> None:
    found = points(cli, tmp_path, busybox_entries())
    assert found == ["dev", "etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"]


def test_what_is_there_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    entries = [directory("proc"), symlink("sys", "tmp"), file("etc/hosts", b"1.2.3.4 here\n")]
    found = points(cli, tmp_path, [*busybox_entries(), *entries])
    assert found == ["dev", "etc", "etc/hostname", "etc/resolv.conf"]


def test_nothing_is_made_below_an_etc_that_is_a_link(cli: Cli, tmp_path: Path) -> None:
    base = [entry for entry in busybox_entries() if not entry[0].name.startswith("etc")]
    assert points(cli, tmp_path, [*base, symlink("etc", "tmp")]) == ["dev", "proc", "sys"]


@pytest.mark.parametrize(
    "link", ["../run/here/stub.conf", "/run/here/stub.conf", "/jump/stub.conf"]
)
def test_what_a_dangling_link_leads_to_is_made(cli: Cli, tmp_path: Path, link: str) -> None:
    image = [
        *busybox_entries(), symlink("etc/resolv.conf", link), symlink("jump", "run/here"),
        directory("run", mode=0o751, uid=3, gid=4),
    ]  # fmt: skip
    found = points(cli, tmp_path, image)
    assert found[-5:] == ["proc", "run", "run/here", "run/here/stub.conf", "sys"]
    assert "etc/resolv.conf" not in found
    show = "cat /etc/resolv.conf; stat -c '%a %u %g' /run; readlink /etc/resolv.conf"
    done = cli("run", "--rm", "--dns", "192.0.2.1", "hostile", "sh", "-c", show)
    assert done.stdout.decode().splitlines() == ["nameserver 192.0.2.1", "751 3 4", link]


def test_nothing_is_made_where_a_file_is_in_the_way(cli: Cli, tmp_path: Path) -> None:
    link = symlink("etc/resolv.conf", "/run/stub.conf")
    found = points(cli, tmp_path, [*busybox_entries(), link, file("run", b"a file")])
    assert not any(path.startswith("run") for path in found)


def test_what_a_whiteout_hides_is_missing(cli: Cli, tmp_path: Path) -> None:
    below = [*busybox_entries(), file("etc/hosts", b"old\n")]
    assert "etc/hosts" in points(cli, tmp_path, below, [file("etc/.wh.hosts")])


def test_the_directory_keeps_its_attributes(cli: Cli, tmp_path: Path) -> None:
    base = [entry for entry in busybox_entries() if entry[0].name != "etc"]
    points(cli, tmp_path, [*base, directory("etc", mode=0o751, uid=3, gid=4, mtime=1000)])
    done = cli("run", "--rm", "hostile", "stat", "-c", "%a %u %g %Y", "/etc")
    assert done.stdout == b"751 3 4 1000\n"


def test_a_start_leaves_the_containers_own_layer_empty(cli: Cli, tmp_path: Path) -> None:
    points(cli, tmp_path, busybox_entries())
    cli("run", "--name", "one", "hostile", "cat", "/etc/hosts")
    (upper,) = (cli.data / "containers").glob("*/upper")
    assert list(upper.iterdir()) == []
