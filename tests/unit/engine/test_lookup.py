"""Files of an image read from its layers: overlay's rules, and no way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pycontain.engine.lookup import Layers
from pycontain.errors import InvalidError


@pytest.fixture
def stack(tmp_path: Path) -> list[Path]:
    """Three layers, the top one first."""
    layers = [tmp_path / name for name in ("top", "middle", "bottom")]
    for layer in layers:
        (layer / "etc").mkdir(parents=True)
    return layers


def read(layers: list[Path], path: str, limit: int = 1000) -> bytes | None:
    view = Layers([str(layer) for layer in layers])
    try:
        return view.read(path, limit)
    finally:
        view.close()


def test_the_top_layer_wins(stack: list[Path]) -> None:
    (stack[2] / "etc/passwd").write_text("old")
    (stack[1] / "etc/passwd").write_text("new")
    assert read(stack, "/etc/passwd") == b"new"


def test_a_missing_file_is_none(stack: list[Path]) -> None:
    assert read(stack, "/etc/nosuch") is None
    assert read(stack, "/nosuch/file") is None


def test_an_absolute_link_ends_at_the_images_root(stack: list[Path], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("host")
    (stack[0] / "etc/passwd").symlink_to(canary)
    assert read(stack, "/etc/passwd") is None
    inside = stack[2] / str(canary).lstrip("/")
    inside.parent.mkdir(parents=True)
    inside.write_text("image")
    assert read(stack, "/etc/passwd") == b"image"


def test_a_relative_link_cannot_climb_out(stack: list[Path]) -> None:
    (stack[0] / "etc/passwd").symlink_to("../../../../../../../../etc/group")
    (stack[2] / "etc/group").write_text("image")
    assert read(stack, "/etc/passwd") == b"image"


def test_a_linked_directory_is_followed_through_all_layers(stack: list[Path]) -> None:
    (stack[0] / "etc").rmdir()
    (stack[0] / "etc").symlink_to("usr/etc")
    (stack[2] / "usr/etc").mkdir(parents=True)
    (stack[2] / "usr/etc/passwd").write_text("linked")
    assert read(stack, "/etc/passwd") == b"linked"


def test_a_file_hides_a_directory_below(stack: list[Path]) -> None:
    (stack[1] / "etc").rmdir()
    (stack[1] / "etc").write_text("a file")
    (stack[2] / "etc/passwd").write_text("hidden")
    assert read(stack, "/etc/passwd") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts are devices: needs root")
def test_a_whiteout_hides(stack: list[Path]) -> None:
    (stack[2] / "etc/passwd").write_text("hidden")
    os.mknod(stack[1] / "etc/passwd", 0o020000, 0)
    assert read(stack, "/etc/passwd") is None


def test_an_opaque_directory_hides(stack: list[Path]) -> None:
    (stack[2] / "etc/passwd").write_text("hidden")
    try:
        os.setxattr(stack[1] / "etc", "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("this file system keeps no user attributes")
    assert read(stack, "/etc/passwd") is None


def test_a_loop_of_links_is_refused(stack: list[Path]) -> None:
    (stack[0] / "etc/a").symlink_to("b")
    (stack[0] / "etc/b").symlink_to("a")
    with pytest.raises(InvalidError, match="too many symbolic links"):
        read(stack, "/etc/a")


def test_a_fifo_is_refused_at_once(stack: list[Path]) -> None:
    os.mkfifo(stack[0] / "etc/passwd")
    with pytest.raises(InvalidError):
        read(stack, "/etc/passwd")


def test_a_huge_file_is_refused(stack: list[Path]) -> None:
    with (stack[0] / "etc/passwd").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidError):
        read(stack, "/etc/passwd", 1 << 20)
