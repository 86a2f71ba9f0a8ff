"""Names and records of the image store: what resolves, what moves, what removal refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import ConflictError, InvalidError, KernelError, NotFoundError
from pycontain.image import reference
from pycontain.image.store import Image, ImageStore, boot_id


def image(digits: str, **fields: Any) -> Image:
    record = {
        "id": "sha256:" + digits.ljust(64, "0"),
        "digest": "sha256:" + digits.ljust(64, "f"),
        "config": {},
        "diff_ids": [],
        "chain_ids": [],
        "layers": [],
        "size": 1,
        "architecture": "amd64",
        "os": "linux",
        "variant": "",
        "created": "",
        "boot": "",
    }
    return Image("", {**record, **fields})


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    store = ImageStore(str(tmp_path / "data"))
    store.prepare()
    return store


def add(store: ImageStore, digits: str, *names: str, **fields: Any) -> Image:
    added = image(digits, **fields)
    store.commit(added)
    for name in names:
        store.point(reference.parse(name), added.id)
    return added


def test_a_name_an_id_and_its_beginning_resolve(store: ImageStore) -> None:
    added = add(store, "abc123", "busybox:1", config={"Env": ["A=b"]})
    for name in (
        "busybox:1",
        "docker.io/library/busybox:1",
        added.id,
        added.id[7:],
        "abc123",
        "abc1",
    ):
        found = store.resolve(name)
        assert (found.id, found.name, found.config) == (added.id, "busybox:1", {"Env": ["A=b"]})
    assert store.resolve(f"busybox@{added.digest}").id == added.id


def test_what_does_not_resolve(store: ImageStore) -> None:
    add(store, "abc1", "busybox")
    add(store, "abc2")
    with pytest.raises(ConflictError, match="ambiguous"):
        store.resolve("sha256:abc")
    for name in ("none", "busybox:2", "abc9", f"busybox@sha256:{'0' * 64}", "sha256:" + "9" * 64):
        with pytest.raises(NotFoundError):
            store.resolve(name)
    for name in ("../images/x", "busybox:../x", "", "a\0b"):
        with pytest.raises(InvalidError):
            store.resolve(name)


def test_a_name_of_hex_digits_goes_before_an_id(store: ImageStore) -> None:
    add(store, "beef1234")
    named = add(store, "cafe", "beef")
    assert store.resolve("beef").id == named.id


def test_a_tag_moves_to_the_newer_image(store: ImageStore) -> None:
    add(store, "a1", "app")
    newer = add(store, "b2", "app")
    assert store.resolve("app").id == newer.id
    assert sorted(names for _, names in store.images()) == [[], ["app:latest"]]


def test_images_are_listed_newest_first_with_all_names(store: ImageStore) -> None:
    add(store, "a1", "one", "also/one:2", created="2020-01-01T00:00:00Z")
    add(store, "b2", "two", created="2024-01-01T00:00:00Z")
    assert [names for _, names in store.images()] == [["two:latest"], ["also/one:2", "one:latest"]]


def test_the_last_name_takes_the_image_along(store: ImageStore) -> None:
    added = add(store, "a1", "one", "two")
    assert store.remove("one") == ["Untagged: one:latest"]
    assert store.resolve("two").id == added.id
    assert store.remove("docker.io/library/two") == ["Untagged: two:latest", f"Deleted: {added.id}"]
    assert store.images() == []
    assert list(Path(store.root, "tags").iterdir()) == []


def test_an_id_with_several_names_needs_force(store: ImageStore) -> None:
    added = add(store, "a1", "one", "two")
    with pytest.raises(ConflictError, match="several names"):
        store.remove(added.id)
    assert store.remove("sha256:a1", force=True)[-1] == f"Deleted: {added.id}"


def test_an_image_in_use_keeps_its_last_name(store: ImageStore) -> None:
    added = add(store, "a1", "one", "two")
    users = [("box", added.id)]
    assert store.remove("one", users=users) == ["Untagged: one:latest"]
    for force in (False, True):
        with pytest.raises(ConflictError, match="used by container box"):
            store.remove("two", force=force, users=users)
    assert store.resolve("two").id == added.id


def test_a_tag_without_its_record_is_absent(store: ImageStore) -> None:
    added = add(store, "a1", "one")
    Path(store.root, "images", added.id[7:]).unlink()
    with pytest.raises(NotFoundError):
        store.resolve("one")
    assert store.names() == {}


def test_a_damaged_record_is_refused_in_words(store: ImageStore) -> None:
    added = add(store, "a1", "one")
    for content in (b"", b"{}", b"[", b"\xff"):
        Path(store.root, "images", added.id[7:]).write_bytes(content)
        with pytest.raises(InvalidError, match="image record"):
            store.resolve("one")


@pytest.mark.parametrize(
    "change", [{"size": [1]}, {"created": 1.5}, {"config": "x"}, {"layers": [None]}, {"boot": None}]
)
def test_a_damaged_record_hides_no_other_and_can_be_removed(
    store: ImageStore, change: dict[str, object]
) -> None:
    hurt = add(store, "a1", "hurt")
    add(store, "b2", "sound")
    path = Path(store.root, "images", hurt.id[7:])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    told: list[str] = []
    assert [names for _, names in store.images(damaged=told.append)] == [["sound:latest"]]
    assert len(told) == 1
    assert store.remove("hurt") == ["Untagged: hurt"]
    assert not path.exists()
    assert [names for _, names in store.images()] == [["sound:latest"]]


def test_a_further_name_is_given_by_tag(store: ImageStore) -> None:
    added = add(store, "a1", "one")
    assert store.tag("one", "ghcr.io/me/two:3").name == "ghcr.io/me/two:3"
    assert sorted(store.names()[added.id]) == ["ghcr.io/me/two:3", "one:latest"]
    with pytest.raises(InvalidError):
        store.tag("one", f"two@{added.digest}")


def test_an_image_of_a_boot_that_was_cut_off_is_absent(store: ImageStore) -> None:
    add(store, "a1", "kept", boot=boot_id())
    add(store, "b2", "lost", boot="another boot")
    assert store.resolve("kept").name == "kept:latest"
    with pytest.raises(NotFoundError, match="when the machine went down; load it again"):
        store.resolve("lost")
    assert [names for _, names in store.images()] == [["kept:latest"]]


def test_what_cannot_be_written_is_said_in_words(store: ImageStore) -> None:
    add(store, "a1", "one")
    Path(store.root, "tags", "docker.io+library+two").write_text("in the way")
    with pytest.raises(KernelError, match="image name"):
        store.tag("one", "two")
    Path(store.root, "images", "b2".ljust(64, "0")).mkdir()
    with pytest.raises(KernelError, match="image record"):
        store.commit(image("b2"))


def test_only_the_owner_may_enter(store: ImageStore) -> None:
    for path in (Path(store.root), Path(store.root, "images"), Path(store.root, "blobs")):
        assert path.stat().st_mode & 0o077 == 0
