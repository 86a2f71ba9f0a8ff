"""Hostile archives, layouts and their documents: refused with one line, and bounded in cost."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hostcheck import Canary
from hostile import (
    device,
    directory,
    docker_archive,
    file,
    hardlink,
    layer,
    symlink,
)
from hostileimages import BASE, SECONDS, load, refused, shell
from imagefiles import LAYER, Layout, digest, image_config, named
from support import Cli

from pycontain.engine import unpack
from pycontain.errors import PycontainError

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_is_untouched")]


# compressed streams


def good_layout(content: bytes, media: str) -> tuple[Layout, dict[str, Any]]:
    layout = Layout()
    settings = layout.add_json(
        "application/vnd.oci.image.config.v1+json",
        image_config([digest(BASE)], {"Cmd": ["echo", "runs"]}),
    )
    return layout, layout.manifest(settings, [layout.add(media, content)])


@pytest.mark.parametrize(
    ("content", "works"),
    [
        (gzip.compress(BASE[:1024]) + gzip.compress(BASE[1024:]), True),
        (gzip.compress(BASE) + gzip.compress(b""), True),
        (zstandard.compress(BASE[:1024]) + zstandard.compress(BASE[1024:]), True),
        (gzip.compress(BASE)[:-1], False),
        (gzip.compress(BASE)[:-8], False),
        (gzip.compress(BASE)[:-4] + b"\0\0\0\0", False),
        (gzip.compress(BASE)[:-8] + b"\0\0\0\0" + gzip.compress(BASE)[-4:], False),
        (gzip.compress(BASE)[:2000], False),
        (gzip.compress(BASE) + b"garbage", False),
        (zstandard.compress(BASE)[:-3], False),
        (zstandard.compress(BASE) + b"garbage", False),
        (b"", False),
        (b"\x1f\x8b", False),
        (gzip.compress(b""), False),
    ],
)
def test_compressed_layers_cut_joined_and_extended(
    cli: Cli, tmp_path: Path, content: bytes, works: bool
) -> None:
    layout, manifest = good_layout(content, LAYER + "+gzip")
    layout.index(named(manifest, "hostile"))
    archive = layout.archive(tmp_path / "a.tar")
    if works:
        cli("load", "-i", archive, timeout=SECONDS)
        assert cli("run", "--rm", "hostile", timeout=SECONDS).stdout == b"runs\n"
    else:
        refused(cli, archive)


@pytest.mark.parametrize("media", ["", "text/plain", "application/vnd.oci.image.layer.v1.tar+zstd"])
def test_a_media_type_that_lies_about_its_layer(cli: Cli, tmp_path: Path, media: str) -> None:
    layout, manifest = good_layout(gzip.compress(BASE), media)
    layout.index(named(manifest, "hostile"))
    done = cli("load", "-i", layout.archive(tmp_path / "a.tar"), status=None, timeout=SECONDS)
    assert done.returncode in (0, 125)
    if done.returncode == 0:
        assert cli("run", "--rm", "hostile", timeout=SECONDS).stdout == b"runs\n"


# layers


@pytest.mark.parametrize("count", [0, 1, 100, 127, 128, 150, 500])
def test_any_number_of_layers_runs_or_is_refused(cli: Cli, tmp_path: Path, count: int) -> None:
    layers = [
        BASE,
        *(layer([file(f"f{n}", b"x"), file("last", b"%d" % n)]) for n in range(count - 1)),
    ]
    archive = docker_archive(tmp_path / "image.tar", layers[:count])
    done = cli("load", "-i", archive, status=None, timeout=60)
    if done.returncode:
        assert count not in (1, 100, 127)
        assert done.stderr.count(b"\n") == 1
    elif count:
        expected = b"%d" % (count - 2) if count > 1 else b""
        assert shell(cli, "cat /last 2>/dev/null") == expected
    else:
        cli("run", "--rm", "hostile", "true", status=127, timeout=SECONDS)


def test_the_same_layer_again_and_again(cli: Cli, tmp_path: Path) -> None:
    again = layer([file("f", b"x"), file(".wh.f")])
    assert load(cli, tmp_path, again, again, again, BASE, again)
    assert shell(cli, "cat /f") == b"x"


def test_layers_apply_in_the_manifests_order(cli: Cli, tmp_path: Path) -> None:
    parts = [layer([file("f", b"%d" % n)]) for n in range(5)]
    assert load(cli, tmp_path, *parts, *reversed(parts))
    assert shell(cli, "cat /f") == b"0"


# documents


def archive_with(path: Path, manifest: object, config: object = None, **files: bytes) -> Path:
    """Write a docker archive of any manifest and config."""
    document = image_config([digest(BASE)]) if config is None else config
    members = [file("manifest.json", json.dumps(manifest).encode())]
    members += [file("c.json", json.dumps(document).encode()), file("l.tar", BASE)]
    path.write_bytes(layer([*members, *(file(n, c) for n, c in files.items())]))
    return path


@pytest.mark.parametrize(
    "tags",
    [
        ["../../x:latest"], ["a/../../b"], [""], ["X\n"], ["-v"], ["a:"], [":a"], ["a b"], ["/a"],
        ["a//b"], ["a:b:c"], ["a" * 5000], ["a@sha256:" + "0" * 64], ["\u0661"], ["A"],
            ["a\x1b[2J"],
        ["a\0b"], [None], [1], [["a"]], "a", {"a": 1}, 7, ["a:" + "t" * 129], ["."], [".."],
            ["a:.."],
        ["a:-x"], ["a_b:x", "../y"],
    ],
)  # fmt: skip
def test_hostile_tags(cli: Cli, tmp_path: Path, tags: object) -> None:
    manifest = [{"Config": "c.json", "RepoTags": tags, "Layers": ["l.tar"]}]
    refused(cli, archive_with(tmp_path / "a.tar", manifest))


@pytest.mark.parametrize("tags", [None, []])
def test_an_image_without_a_name_is_kept_by_its_id(cli: Cli, tmp_path: Path, tags: object) -> None:
    manifest = [{"Config": "c.json", "RepoTags": tags, "Layers": ["l.tar"]}]
    cli("load", "-i", archive_with(tmp_path / "a.tar", manifest), timeout=SECONDS)
    (identity,) = cli.text("images", "-q").split()
    assert cli("run", "--rm", identity, "echo", "x", timeout=SECONDS).stdout == b"x\n"


BAD_CONFIGS: dict[str, object] = {
    "null": None,
    "list": [],
    "text": "x",
    "no rootfs": {"architecture": "amd64", "os": "linux"},
    "diff ids text": image_config("x"),  # type: ignore[arg-type]
    "diff ids too many": image_config([digest(BASE)] * 2),
    "diff ids none": image_config([]),
    "diff id short": image_config(["sha256:00"]),
    "diff id traversal": image_config(["sha256:../../../../etc/passwd"]),
    "diff id md5": image_config(["md5:" + "0" * 32]),
    "diff id upper": image_config([digest(BASE).upper()]),
    "diff id newline": image_config([digest(BASE) + "\n"]),
    "other system": {**image_config([digest(BASE)]), "os": "windows"},
    "rootfs type": {**image_config([digest(BASE)]), "rootfs": {"type": "x", "diff_ids": [1]}},
}


@pytest.mark.parametrize("name", [name for name in BAD_CONFIGS if name != "null"])
def test_configs_that_do_not_fit_the_layers(cli: Cli, tmp_path: Path, name: str) -> None:
    manifest = [{"Config": "c.json", "RepoTags": ["hostile:latest"], "Layers": ["l.tar"]}]
    refused(cli, archive_with(tmp_path / "a.tar", manifest, BAD_CONFIGS[name]))


RAW_JSON: dict[str, bytes] = {
    "duplicate keys": b'{"a":1,"a":2}',
    "NaN": b'{"config":{"x":NaN}}',
    "infinity": b'{"config":{"x":1e999}}',
    "huge int": b'{"config":{"x":' + b"9" * 5000 + b"}}",
    "lone surrogate": b'{"config":{"User":"\\ud800"}}',
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "trailing": b"{} {}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "empty": b"",
}


@pytest.mark.parametrize("place", ["manifest.json", "config", "index.json"])
@pytest.mark.parametrize("name", RAW_JSON)
def test_json_no_parser_should_take(cli: Cli, tmp_path: Path, name: str, place: str) -> None:
    raw = RAW_JSON[name]
    if place == "config":
        refused(cli, docker_archive(tmp_path / "a.tar", [BASE], raw_config=raw))
    elif place == "manifest.json":
        (tmp_path / "a.tar").write_bytes(layer([file("manifest.json", raw), file("l.tar", BASE)]))
        refused(cli, tmp_path / "a.tar")
    else:
        layout, manifest = good_layout(BASE, LAYER)
        layout.index(named(manifest, "hostile"))
        layout.files[place] = raw
        refused(cli, layout.archive(tmp_path / "a.tar"))


LAYER_PLACES = [
    "../../../../{canary}/victim", "{canary}/victim", "./../x", "l.tar/../../x", "/proc/self/fd/0",
    "/dev/zero", "", ".", "..", "manifest.json", "no/such", "l.tar\0x", "-", "l.tar/",
]  # fmt: skip


@pytest.mark.parametrize("key", ["Layers", "Config"])
def test_places_of_layers_and_configs(cli: Cli, tmp_path: Path, canary: Canary, key: str) -> None:
    for place in LAYER_PLACES:
        place = place.format(canary=canary.path)
        entry: dict[str, Any] = {"Config": "c.json", "RepoTags": ["h:1"], "Layers": ["l.tar"]}
        entry[key] = [place] if key == "Layers" else place
        if place == "l.tar/" and key == "Layers":
            continue
        refused(cli, archive_with(tmp_path / "a.tar", [entry]))


def test_an_archive_whose_members_lead_out(cli: Cli, tmp_path: Path, canary: Canary) -> None:
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["h:1"], "Layers": ["l.tar"]}]).encode()
    config = json.dumps(image_config([digest(b"canary-content\n")])).encode()
    good = [file("manifest.json", manifest), file("c.json", config)]
    for link in (
        symlink("l.tar", f"{canary.path}/victim"),
        symlink("l.tar", f"{canary.climb}/victim"),
        hardlink("l.tar", f"{canary.path}/victim"),
        symlink("l.tar", "/proc/self/fd/0"),
        device("l.tar", tarfile.CHRTYPE, 1, 5),
        file("l.tar", type=tarfile.FIFOTYPE),
        directory("l.tar"),
    ):
        for members in ([*good, link], [link, *good]):
            (tmp_path / "a.tar").write_bytes(layer(members))
            refused(cli, tmp_path / "a.tar")
    for name in (f"{canary.path}/pwned", f"{canary.climb}/pwned"):
        (tmp_path / "a.tar").write_bytes(layer([file(name), *good]))
        refused(cli, tmp_path / "a.tar")


# OCI layouts


def descriptor_cases(good: dict[str, Any]) -> dict[str, object]:
    return {
        "traversal": {**good, "digest": "sha256:../../../../etc/passwd"},
        "upper": {**good, "digest": good["digest"].upper()},
        "newline": {**good, "digest": good["digest"] + "\n"},
        "short": {**good, "digest": good["digest"][:-1]},
        "long": {**good, "digest": good["digest"] + "0"},
        "unknown algorithm": {**good, "digest": "md5:" + "0" * 32},
        "no digest": {k: v for k, v in good.items() if k != "digest"},
        "digest a number": {**good, "digest": 7},
        "size negative": {**good, "size": -1},
        "size text": {**good, "size": "12"},
        "size float": {**good, "size": good["size"] + 0.5},
        "size true": {**good, "size": True},
        "size huge": {**good, "size": 1 << 70},
        "size off by one": {**good, "size": good["size"] + 1},
        "no size": {k: v for k, v in good.items() if k != "size"},
        "absent blob": {**good, "digest": "sha256:" + "0" * 64},
        "list": [good],
        "text": "x",
        "null": None,
    }


@pytest.mark.parametrize("where", ["manifest", "config", "layer"])
def test_descriptors_that_lie(cli: Cli, tmp_path: Path, where: str) -> None:
    layout = Layout()
    blob = layout.add(LAYER, BASE)
    settings = layout.add_json(
        "application/vnd.oci.image.config.v1+json", image_config([digest(BASE)])
    )
    good = {"layer": blob, "config": settings, "manifest": layout.manifest(settings, [blob])}[where]
    for name, lie in descriptor_cases(good).items():
        if where == "manifest":
            layout.index(lie if not isinstance(lie, dict) else named(lie, "hostile"))  # type: ignore[arg-type]
        else:
            document = layout.manifest(
                lie if where == "config" else settings,  # type: ignore[arg-type]
                [lie if where == "layer" else blob],  # type: ignore[list-item]
            )
            layout.index(named(document, "hostile"))
        try:
            refused(cli, layout.archive(tmp_path / "a.tar"))
        except AssertionError as error:
            raise AssertionError(name) from error


def test_random_bytes_in_an_archive_are_noticed(cli: Cli, tmp_path: Path) -> None:
    """A flipped byte anywhere is refused, or lay in padding: then the image runs."""
    layout, manifest = good_layout(gzip.compress(BASE), LAYER + "+gzip")
    layout.index(named(manifest, "hostile"))
    whole = bytearray(layout.archive(tmp_path / "a.tar").read_bytes())
    for at in range(100, len(whole), len(whole) // 40):
        broken = bytearray(whole)
        broken[at] ^= 0x55
        (tmp_path / "b.tar").write_bytes(broken)
        try:
            (image,) = unpack.load(str(cli.data), str(tmp_path / "b.tar"))
        except PycontainError as error:
            assert str(error).isprintable()
        else:
            unpack.remove(str(cli.data), image.id)


def test_archives_that_are_no_files(cli: Cli, tmp_path: Path, canary: Canary) -> None:
    for path in ("/dev/zero", "/dev/null", tmp_path, "/dev/tty", "/proc/self/mem"):
        done = cli("load", "-i", path, status=None, timeout=SECONDS)
        assert done.returncode == 125, path
        assert done.stderr.count(b"\n") == 1


def test_what_a_refused_load_used_is_given_back(cli: Cli, tmp_path: Path) -> None:
    random = layer([file("large", os.urandom(8 << 20))])
    archive = docker_archive(
        tmp_path / "a.tar", [random, BASE], diff_ids=[digest(random), "sha256:" + "0" * 64]
    )
    for _ in range(3):
        refused(cli, archive)
    used = sum(path.lstat().st_size for path in cli.data.rglob("*") if path.is_file())
    assert used < 1 << 20
    assert hashlib.sha256(random).hexdigest() not in os.listdir(cli.data / "blobs/sha256")
