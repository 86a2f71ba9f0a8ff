"""Hostile and broken archives: refused in one line, and nothing of them is kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hostile import docker_archive, file, hardlink, layer, symlink
from imagefiles import CONFIG, LAYER, Layout, digest, image_config, named, simple

from pycontain.engine import unpack
from pycontain.errors import InvalidError, KernelError, UsageError
from pycontain.image.store import ImageStore

if TYPE_CHECKING:
    from pathlib import Path

from imageloads import refused

pytestmark = pytest.mark.root


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A host file that is a valid layer: an archive that reaches it would load."""
    path = tmp_path / "canary" / "hostlayer.tar"
    path.parent.mkdir()
    path.write_bytes(layer([file("secret", b"canary-content")]))
    return path


# hostile and broken archives


def test_layers_outside_the_archive(root: Path, tmp_path: Path, canary: Path) -> None:
    diff_id = digest(canary.read_bytes())
    config = json.dumps(image_config([diff_id])).encode()
    for path in (str(canary), "../" * 20 + str(canary).lstrip("/"), "x/../../hostlayer.tar"):
        manifest = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": [path]}]
        members = [file("c.json", config), file("manifest.json", json.dumps(manifest).encode())]
        (tmp_path / "a.tar").write_bytes(layer(members))
        assert "out of the archive" in refused(root, tmp_path / "a.tar")


@pytest.mark.parametrize("kind", ["absolute", "relative", "loop", "hard"])
def test_a_layer_that_is_a_link_to_the_host(
    root: Path, tmp_path: Path, canary: Path, kind: str
) -> None:
    config = json.dumps(image_config([digest(canary.read_bytes())])).encode()
    manifest = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"]}]
    climb = "../" * 20 + str(canary).lstrip("/")
    link = {
        "absolute": symlink("l/layer.tar", str(canary)),
        "relative": symlink("l/layer.tar", climb),
        "loop": symlink("l/layer.tar", "layer.tar"),
        "hard": hardlink("l/layer.tar", str(canary)),
    }[kind]
    members = [file("c.json", config), file("manifest.json", json.dumps(manifest).encode()), link]
    (tmp_path / "a.tar").write_bytes(layer(members))
    refused(root, tmp_path / "a.tar")


@pytest.mark.parametrize(
    "tag", ["../../../canary/x:latest", "a/../../b", "", "X\n", "-v", "a:\x1b[31m"]
)
def test_a_hostile_tag_is_refused(root: Path, tmp_path: Path, tag: str) -> None:
    archive = docker_archive(tmp_path / "a.tar", [layer([file("f")])], tag=tag)
    refused(root, archive)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b"null",
        b'[{"Layers":["a"]}]',
        b'[{"Config":1,"Layers":[]}]',
        b"[" * 100_000,
        b'[{"Config":"c","Layers":[1]}]',
        b'[{"Config":"c","Layers":["l"],"RepoTags":"x"}]',
        b"\xff",
        b'[{"Config":"none.json","Layers":[]}]',
        b'[{"Config":"manifest.json","Layers":[]}]',
    ],
)
def test_a_malformed_docker_manifest_is_refused(
    root: Path, tmp_path: Path, manifest: bytes
) -> None:
    (tmp_path / "a.tar").write_bytes(layer([file("manifest.json", manifest)]))
    refused(root, tmp_path / "a.tar")


def test_archives_that_are_none(root: Path, tmp_path: Path) -> None:
    contents = [
        b"",
        b"x",
        os.urandom(100_000),
        b"\x1f\x8b" + b"x" * 600,
        bytes(10_240),
        b"\0" * 100,
    ]
    contents += [layer([file("readme", b"hello")]), layer([file("repositories", b"{}")])]
    contents += [gzip.compress(b""), gzip.compress(b"x" * 5000), b"\x28\xb5\x2f\xfd" + b"x" * 600]
    for content in contents:
        (tmp_path / "a.tar").write_bytes(content)
        refused(root, tmp_path / "a.tar")


def test_a_file_that_cannot_be_opened(root: Path, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="ENOENT"):
        unpack.load(str(root), str(tmp_path / "none.tar"))
    with pytest.raises(UsageError):
        unpack.load(str(root), "/dev/zero")


def test_an_archive_cut_anywhere_is_refused(root: Path, tmp_path: Path) -> None:
    data = [file("f", os.urandom(200_000)), file("g", b"g" * 50_000)]
    for whole in (
        docker_archive(tmp_path / "d.tar", [layer(data)]),
        simple(data).archive(tmp_path / "o.tar"),
    ):
        content = whole.read_bytes()
        cut = tmp_path / "cut.tar"
        for size in (1, 512, 700, 5000, len(content) // 2, len(content) * 3 // 4):
            cut.write_bytes(content[:size])
            refused(root, cut)
            packed = gzip.compress(content, 1)
            cut.write_bytes(packed[: size * len(packed) // len(content)])
            refused(root, cut)


def test_a_layer_tar_cut_within_a_file(root: Path, tmp_path: Path) -> None:
    cut = layer([file("f", b"x" * 5000)])[:3000]
    refused(root, docker_archive(tmp_path / "a.tar", [cut]))


def test_diff_ids_that_do_not_match(root: Path, tmp_path: Path) -> None:
    wrong = ["sha256:" + "0" * 64]
    archive = docker_archive(tmp_path / "a.tar", [layer([file("f")])], diff_ids=wrong)
    assert "diff ID does not match" in refused(root, archive)
    archive = docker_archive(tmp_path / "b.tar", [layer([file("f")])], diff_ids=wrong * 2)
    assert "1 layers and 2 diff IDs" in refused(root, archive)


def test_diff_ids_are_verified_even_when_the_layer_is_known(root: Path, tmp_path: Path) -> None:
    good, evil = layer([file("f", b"good")]), layer([file("f", b"evil")])
    unpack.load(str(root), str(docker_archive(tmp_path / "a.tar", [good], tag="good:1")))
    claimed = docker_archive(tmp_path / "b.tar", [evil], tag="evil:1", diff_ids=[digest(good)])
    with pytest.raises(InvalidError):
        unpack.load(str(root), str(claimed))
    assert [names for _, names in ImageStore(str(root)).images()] == [["good:1"]]


def test_a_config_nested_too_deep_or_too_large(root: Path, tmp_path: Path) -> None:
    tar = [layer([file("f")])]
    for raw in (
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b" " * (5 << 20),
        b"[]",
        b"{}",
        b"",
        b"NaN",
        b"\xff",
    ):
        refused(root, docker_archive(tmp_path / "a.tar", tar, raw_config=raw))


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": {}},
        {"rootfs": None},
        {"rootfs": {"diff_ids": "x"}},
        {"rootfs": {"diff_ids": []}},
        {"rootfs": {"diff_ids": ["sha256:../../x"]}},
        {"rootfs": {"diff_ids": [1]}},
        {"os": "windows"},
        {"os": 1},
        {"architecture": ["x"]},
        {"config": []},
        {"config": {"Env": "x"}},
        {"config": {"Cmd": [1]}},
        {"config": {"User": "a\0b"}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Env": ["A=\0"]}},
    ],
)
def test_a_config_of_wrong_types_is_refused(
    root: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    tar = layer([file("f")])
    raw = json.dumps({**image_config([digest(tar)]), **change}).encode()
    refused(root, docker_archive(tmp_path / "a.tar", [tar], raw_config=raw))


def test_a_blob_that_does_not_match_its_digest(root: Path, tmp_path: Path) -> None:
    layout = simple()
    for name in [n for n in layout.files if n.startswith("blobs/")]:
        changed = Layout()
        content = bytearray(layout.files[name])
        content[-1] ^= 1
        changed.files = {**layout.files, name: bytes(content)}
        refused(root, changed.archive(tmp_path / "a.tar"))
        changed.files = {**layout.files, name: layout.files[name][:-1]}
        refused(root, changed.archive(tmp_path / "a.tar"))
        refused(root, changed.directory(tmp_path / f"dir-{name[-8:]}"))
        del changed.files[name]
        refused(root, changed.archive(tmp_path / "a.tar"))


def test_a_blob_of_equal_meaning_and_other_bytes(root: Path, tmp_path: Path) -> None:
    layout = simple()
    for name, content in layout.files.items():
        changed = Layout()
        if content.startswith(b"\x1f\x8b"):
            # The byte that names the operating system: the same layer comes out.
            other = content[:9] + bytes([content[9] ^ 1]) + content[10:]
        elif name.startswith("blobs/"):
            other = content.replace(b'": ', b'" :')
        else:
            continue
        assert len(other) == len(content)
        changed.files = {**layout.files, name: other}
        assert "digest does not match" in refused(root, changed.archive(tmp_path / "a.tar"))


def test_a_descriptor_of_another_size(root: Path, tmp_path: Path) -> None:
    for change in (1, -1):
        layout = Layout()
        descriptor = layout.image([layer([file("f")])])
        layout.index(named({**descriptor, "size": descriptor["size"] + change}, "a"))
        assert "bytes, want" in refused(root, layout.archive(tmp_path / "a.tar"))


def test_a_bad_second_layer_takes_the_first_along(root: Path, tmp_path: Path) -> None:
    tars = [layer([file("f", b"x" * 10_000)]), layer([file("g")])]
    ids = [digest(tars[0]), "sha256:" + "0" * 64]
    archive = docker_archive(tmp_path / "a.tar", tars, diff_ids=ids)
    assert "diff ID does not match" in refused(root, archive)


def test_digests_outside_the_grammar(root: Path, tmp_path: Path, canary: Path) -> None:
    climb = "sha256:" + "../" * 20 + str(canary).lstrip("/")
    for wanted in (climb, "sha256:", "md5:" + "0" * 32, "x", "", None, 7, "sha256:" + "0" * 65):
        layout = Layout()
        descriptor = {"mediaType": LAYER, "digest": wanted, "size": canary.stat().st_size}
        settings = layout.add_json(CONFIG, image_config([digest(canary.read_bytes())]))
        layout.index(named(layout.manifest(settings, [descriptor]), "a"))
        assert "digest" in refused(root, layout.archive(tmp_path / "a.tar"))


def test_blobs_of_a_layout_directory_are_not_followed_out(
    root: Path, tmp_path: Path, canary: Path
) -> None:
    content = canary.read_bytes()
    layout = Layout()
    descriptor = layout.add(LAYER, content)
    settings = layout.add_json(CONFIG, image_config([digest(content)]))
    layout.index(named(layout.manifest(settings, [descriptor]), "a"))
    path = layout.directory(tmp_path / "layout")
    blob = path / "blobs" / digest(content).replace(":", "/")
    blob.unlink()
    blob.symlink_to(canary)
    refused(root, path)
    blob.unlink()
    os.mkfifo(blob)
    refused(root, path)


def test_a_document_that_is_manifest_and_index_at_once(root: Path, tmp_path: Path) -> None:
    layout = Layout()
    good = layout.image([layer([file("f")])])
    settings = layout.add_json(CONFIG, image_config([digest(b"")]))
    both = {"schemaVersion": 2, "config": settings, "layers": [], "manifests": [good]}
    layout.index(named(layout.add_json("application/vnd.oci.image.manifest.v1+json", both), "a"))
    assert "at once" in refused(root, layout.archive(tmp_path / "a.tar"))
    layout.index(named(good, "a"), layers=[])
    assert "at once" in refused(root, layout.archive(tmp_path / "a.tar"))


def test_indexes_nested_without_end(root: Path, tmp_path: Path) -> None:
    layout = Layout()
    inner = layout.image([layer([file("f")])])
    for _ in range(8):
        kind = "application/vnd.oci.image.index.v1+json"
        inner = layout.add_json(kind, {"schemaVersion": 2, "manifests": [inner]})
    layout.index(named(inner, "a"))
    assert "nested" in refused(root, layout.archive(tmp_path / "a.tar"))


def test_what_is_no_container_image(root: Path, tmp_path: Path) -> None:
    layout = Layout()
    settings = layout.add_json("application/vnd.cncf.helm.config.v1+json", {})
    layout.index(named(layout.manifest(settings, []), "chart"))
    assert "helm" in refused(root, layout.archive(tmp_path / "a.tar"))
    layout = Layout()
    settings = layout.add_json(CONFIG, image_config([digest(b"x")]))
    described = {**layout.add(LAYER, b"x"), "mediaType": LAYER + "+encrypted"}
    layout.index(named(layout.manifest(settings, [described]), "a"))
    assert "encrypted" in refused(root, layout.archive(tmp_path / "a.tar"))


def test_sha512_digests_are_verified(root: Path, tmp_path: Path) -> None:
    layout = Layout()
    content = layer([file("f", b"x")])
    name = hashlib.sha512(content).hexdigest()
    layout.files[f"blobs/sha512/{name}"] = content
    described = {"mediaType": LAYER, "digest": f"sha512:{name}", "size": len(content)}
    settings = layout.add_json(CONFIG, image_config([digest(content)]))
    layout.index(named(layout.manifest(settings, [described]), "a"))
    (image,) = unpack.load(str(root), str(layout.archive(tmp_path / "a.tar")))
    assert image.layers == [digest(content)]
    layout.files[f"blobs/sha512/{name}"] = content[:-1] + b"x"
    unpack.remove(str(root), "a")
    refused(root, layout.archive(tmp_path / "a.tar"))
