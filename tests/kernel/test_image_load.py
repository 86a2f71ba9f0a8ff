"""Loading archives into a data root: verified, whole or not at all, and refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hostile import device, directory, docker_archive, file, hardlink, layer, symlink
from imagefiles import CONFIG, LAYER, Layout, digest, image_config, listing, mounted, named, simple

from pycontain.engine import unpack
from pycontain.errors import InvalidError, KernelError, NotFoundError, PycontainError, UsageError
from pycontain.image.store import ImageStore, boot_id

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A host file that is a valid layer: an archive that reaches it would load."""
    path = tmp_path / "canary" / "hostlayer.tar"
    path.parent.mkdir()
    path.write_bytes(layer([file("secret", b"canary-content")]))
    return path


def is_empty(root: Path) -> bool:
    """Tell whether nothing but the store's own directories is left."""
    files = [p for p in root.rglob("*") if not p.is_dir() and p.name not in ("lock", "driver")]
    return not files and not [
        p for p in (root / "snapshots").iterdir() if p.name not in ("l", "driver")
    ]


def refused(root: Path, source: Path, *, name: str = "") -> str:
    with pytest.raises(PycontainError) as caught:
        unpack.load(str(root), str(source), name=name)
    assert str(caught.value).isprintable()
    assert is_empty(root)
    return str(caught.value)


def rewrite(path: Path, name: str, content: bytes) -> Path:
    """Replace one member of an archive, leaving everything else."""
    import tarfile

    with tarfile.open(path) as tar:
        members = []
        for member in tar:
            data = tar.extractfile(member)
            members.append((member.name, data.read() if data else b""))
    path.write_bytes(layer([file(n, content if n == name else c) for n, c in members]))
    return path


# controls


def test_a_docker_archive_is_loaded(root: Path, tmp_path: Path) -> None:
    archive = docker_archive(
        tmp_path / "a.tar", [layer([file("f", b"x")])], {"Env": ["A=b"]}, "app:1"
    )
    (image,) = unpack.load(str(root), str(archive))
    assert image.name == "app:1"
    found = ImageStore(str(root)).resolve("app:1")
    assert (found.config["Env"], found.size, found.id) == (["A=b"], 1, image.id)


@pytest.mark.parametrize("form", ["archive", "directory"])
def test_an_oci_layout_is_loaded(root: Path, tmp_path: Path, form: str) -> None:
    layout = simple(name="app:2")
    source = getattr(layout, form)(tmp_path / "source")
    (image,) = unpack.load(str(root), str(source))
    assert image.name == "app:2"
    with mounted(root, image, tmp_path / "c") as merged:
        assert (merged / "d/f").read_bytes() == b"content"


@pytest.mark.parametrize("tool", ["gzip", "zstd", "xz", "bzip2"])
def test_a_compressed_archive_is_loaded_from_a_pipe(root: Path, tmp_path: Path, tool: str) -> None:
    archive = simple().archive(tmp_path / "a.tar")
    packed = subprocess.run([tool, "-c", archive], check=True, capture_output=True).stdout
    code = "import sys; from pycontain.engine import unpack as u; "
    code += "print(u.load(sys.argv[1], '-')[0].name)"
    argv = [os.sys.executable, "-c", code, str(root)]  # type: ignore[attr-defined]
    done = subprocess.run(argv, input=packed, capture_output=True, check=True)
    assert done.stdout == b"test:latest\n"


@pytest.mark.parametrize("compress", [False, True])
def test_a_plain_rootfs_needs_a_name(root: Path, tmp_path: Path, compress: bool) -> None:
    content = layer([directory("etc"), file("etc/x", b"1")])
    source = tmp_path / "rootfs.tar"
    source.write_bytes(gzip.compress(content) if compress else content)
    assert "-t NAME" in refused(root, source)
    (image,) = unpack.load(str(root), str(source), name="mine")
    assert image.diff_ids == [digest(content)]
    assert unpack.import_rootfs(str(root), str(source), "other").id == image.id


def test_whiteouts_and_opaque_directories_hide(root: Path, tmp_path: Path) -> None:
    first = [directory("d"), file("d/a"), file("d/b"), directory("o"), file("o/old"), file("gone")]
    second = [
        file("d/.wh.a"),
        directory("o"),
        file("o/.wh..wh..opq"),
        file("o/new"),
        file(".wh.gone"),
    ]
    (image,) = unpack.load(str(root), str(simple(first, second).archive(tmp_path / "a")))
    with mounted(root, image, tmp_path / "c") as merged:
        names = sorted(str(p.relative_to(merged)) for p in merged.rglob("*"))
    assert names == ["d", "d/b", "o", "o/new"]


def test_usrmerge_lands_in_usr_lib(root: Path, tmp_path: Path) -> None:
    first = [directory("usr"), directory("usr/lib"), symlink("lib", "usr/lib"), file("usr/lib/a")]
    (image,) = unpack.load(str(root), str(simple(first, [file("lib/x")]).archive(tmp_path / "a")))
    with mounted(root, image, tmp_path / "c") as merged:
        assert (merged / "lib").is_symlink()
        assert sorted(p.name for p in (merged / "usr/lib").iterdir()) == ["a", "x"]


def test_owner_mode_time_devices_and_capabilities_are_kept(root: Path, tmp_path: Path) -> None:
    import tarfile

    capability = bytes.fromhex("0100000200000000000000000000000000000000")
    ping = file("ping", b"p", mode=0o755, uid=3, gid=4)
    ping[0].pax_headers = {
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.user.note": "n",
    }
    entries = [
        directory("./", mode=0o755),
        directory("d", mode=0o1777, uid=1000, gid=1000, mtime=99),
        file("d/suid", b"s", mode=0o6755, uid=7, gid=8, mtime=1234567890),
        hardlink("h", "d/suid"),
        device("null", tarfile.CHRTYPE, 1, 3),
        device("disk", tarfile.BLKTYPE, 7, 99),
        file("fifo", type=tarfile.FIFOTYPE),
        symlink("s", "d"),
        ping,
    ]
    entries[7][0].uid = 55
    (image,) = unpack.load(str(root), str(simple(entries).archive(tmp_path / "a")))
    with mounted(root, image, tmp_path / "c") as merged:
        suid = (merged / "d/suid").lstat()
        assert (stat.S_IMODE(suid.st_mode), suid.st_uid, suid.st_gid) == (0o6755, 7, 8)
        assert (suid.st_mtime, suid.st_nlink) == (1234567890, 2)
        assert stat.S_IMODE((merged / "d").lstat().st_mode) == 0o1777
        assert (merged / "d").lstat().st_mtime == 99
        assert (merged / "null").lstat().st_rdev == os.makedev(1, 3)
        assert stat.S_ISBLK((merged / "disk").lstat().st_mode)
        assert stat.S_ISFIFO((merged / "fifo").lstat().st_mode)
        assert (merged / "s").lstat().st_uid == 55
        assert os.getxattr(merged / "ping", "security.capability") == capability
        assert os.getxattr(merged / "ping", "user.note") == b"n"


def test_the_second_image_shares_the_layers_of_the_first(root: Path, tmp_path: Path) -> None:
    shared, other = [file("base", b"b" * 1000)], [file("app", b"a")]
    unpack.load(str(root), str(simple(shared, name="one").archive(tmp_path / "a")))
    before = {p.name for p in (root / "snapshots").iterdir()}
    unpack.load(str(root), str(simple(shared, other, name="two").archive(tmp_path / "b")))
    assert len({p.name for p in (root / "snapshots").iterdir()} - before) == 1
    assert unpack.remove(str(root), "one")[0] == "Untagged: one:latest"
    with mounted(root, ImageStore(str(root)).resolve("two"), tmp_path / "c") as merged:
        assert (merged / "base").stat().st_size == 1000
    unpack.remove(str(root), "two")
    assert is_empty(root)


def test_the_manifest_is_chosen_by_platform(root: Path, tmp_path: Path) -> None:
    layout = Layout()
    mine = layout.image([layer([file("mine")])])
    theirs = layout.image([layer([file("theirs")])])
    host = image_config([])["architecture"]
    inner = layout.add_json(
        "application/vnd.oci.image.index.v1+json",
        {
            "schemaVersion": 2,
            "manifests": [
                {**theirs, "platform": {"os": "linux", "architecture": "s390x"}},
                {**mine, "platform": {"os": "linux", "architecture": host}},
                {**theirs, "platform": {"os": "unknown", "architecture": "unknown"}},
            ],
        },
    )
    layout.index(named(inner, "multi"))
    (image,) = unpack.load(str(root), str(layout.archive(tmp_path / "a")))
    with mounted(root, image, tmp_path / "c") as merged:
        assert (merged / "mine").exists()


def test_an_index_without_this_platform_says_what_there_is(root: Path, tmp_path: Path) -> None:
    layout = Layout()
    theirs = layout.image([layer([file("theirs")])])
    layout.index({**theirs, "platform": {"os": "linux", "architecture": "s390x"}})
    assert "linux/s390x" in refused(root, layout.archive(tmp_path / "a"))


def test_several_images_are_loaded_and_one_name_is_too_few(root: Path, tmp_path: Path) -> None:
    layout = Layout()
    one, two = layout.image([layer([file("1")])]), layout.image([layer([file("2")])])
    layout.index(named(one, "one"), named(two, "two"))
    archive = layout.archive(tmp_path / "a")
    assert [i.name for i in unpack.load(str(root), str(archive))] == ["one:latest", "two:latest"]
    with pytest.raises(UsageError):
        unpack.load(str(root), str(archive), name="both")


def test_127_layers_are_mounted_and_150_refused(root: Path, tmp_path: Path) -> None:
    tars = [layer([file(f"f{n}", b"%d" % n), file("same", b"%d" % n)]) for n in range(150)]
    layout = Layout()
    layout.index(named(layout.image(tars), "many"))
    assert "150 layers" in refused(root, layout.archive(tmp_path / "b"))
    layout = Layout()
    layout.index(named(layout.image(tars[:127]), "many"))
    (image,) = unpack.load(str(root), str(layout.archive(tmp_path / "a")))
    with mounted(root, image, tmp_path / ("long-name-" * 12) / "c") as merged:
        assert (merged / "same").read_bytes() == b"126"
        assert len(list(merged.iterdir())) == 128


def test_legacy_links_between_layers_of_docker_save(root: Path, tmp_path: Path) -> None:
    content = layer([file("f", b"x")])
    config = json.dumps(image_config([digest(content), digest(content)])).encode()
    manifest = [
        {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}
    ]
    members = [
        file("c.json", config),
        file("one/layer.tar", content),
        symlink("two/layer.tar", "../one/layer.tar"),
        file("manifest.json", json.dumps(manifest).encode()),
    ]
    (tmp_path / "a.tar").write_bytes(layer(members))
    (image,) = unpack.load(str(root), str(tmp_path / "a.tar"))
    assert len(image.chain_ids) == 2


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


def test_the_data_root_is_closed_to_other_users(root: Path, tmp_path: Path) -> None:
    entries = [directory("./", mode=0o777), file("suid", b"s", mode=0o4755)]
    (image,) = unpack.load(str(root), str(simple(entries).archive(tmp_path / "a")))
    path = root / "snapshots" / image.chain_ids[0].removeprefix("sha256:") / "diff/suid"
    assert stat.S_IMODE(path.stat().st_mode) == 0o4755
    code = "import os,sys; os.setgroups([]); os.setresgid(*[65534] * 3); "
    code += "os.setresuid(*[65534] * 3)"
    code += "; sys.exit(7 if os.access(sys.argv[1], os.F_OK) else 0)"
    os.chmod(tmp_path, 0o755)
    subprocess.run([os.sys.executable, "-c", code, str(path)], check=True)  # type: ignore[attr-defined]
    assert stat.S_IMODE((root / "snapshots").stat().st_mode) == 0o700


# faults


def test_an_image_store_that_is_full(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", root], check=True)
    try:
        unpack.load(
            str(root), str(simple([file("small", b"s")], name="small").archive(tmp_path / "s"))
        )
        before = os.statvfs(root)
        large = [file(f"f{n}", os.urandom(1 << 20)) for n in range(20)]
        for archive in (
            simple(large, name="large").archive(tmp_path / "a"),
            docker_archive(tmp_path / "b", [layer(large)]),
        ):
            with pytest.raises(KernelError, match="ENOSPC"):
                unpack.load(str(root), str(archive))
            after = os.statvfs(root)
            assert (after.f_bfree, after.f_ffree) == (before.f_bfree, before.f_ffree)
        assert [names for _, names in ImageStore(str(root)).images()] == [["small:latest"]]
    finally:
        subprocess.run(["umount", root], check=True)


def test_an_image_lost_in_a_power_cut_is_unpacked_again(root: Path, tmp_path: Path) -> None:
    archive = simple().archive(tmp_path / "a")
    (image,) = unpack.load(str(root), str(archive))
    record = root / "images" / image.id.removeprefix("sha256:")
    unpacked = root / "snapshots" / image.chain_ids[0].removeprefix("sha256:") / "diff/d/f"
    unpacked.write_bytes(b"")
    record.write_bytes(record.read_bytes().replace(boot_id().encode(), b"another boot"))
    with pytest.raises(NotFoundError, match="load it again"):
        ImageStore(str(root)).resolve("test")
    unpack.load(str(root), str(archive))
    assert unpacked.read_bytes() == b"content"


def test_an_older_image_is_noted_to_be_on_disk(root: Path, tmp_path: Path) -> None:
    (image,) = unpack.load(str(root), str(simple().archive(tmp_path / "a")))
    record = root / "images" / image.id.removeprefix("sha256:")
    unpack.collect(str(root))
    assert ImageStore(str(root)).resolve("test").boot == boot_id()
    os.utime(record, (0, 0))
    unpack.collect(str(root))
    assert ImageStore(str(root)).resolve("test").boot == ""


def test_what_crashes_left_is_cleared(root: Path, tmp_path: Path) -> None:
    (image,) = unpack.load(str(root), str(simple().archive(tmp_path / "a")))
    digits = image.id.removeprefix("sha256:")
    left = [root / "tags/docker.io+library+test/.tmp-x", root / "tags/docker.io+library+test/gone"]
    left[0].symlink_to(f"../../images/{digits}")
    left[1].symlink_to("../../images/none")
    places = ["images/x.tmp-1", "blobs/sha256/.tmp-x", ".tmp-spool", "snapshots/driver.tmp-1"]
    left += [root / place for place in places]
    for path in left[2:]:
        path.write_text("")
    left.append(root / "snapshots/.tmp-stage")
    (left[-1] / "diff/d").mkdir(parents=True)
    unpack.collect(str(root))
    assert [path for path in left if path.is_symlink() or path.exists()] == []
    assert ImageStore(str(root)).resolve("test").id == image.id


def test_a_damaged_record_does_not_stand_in_the_way(root: Path, tmp_path: Path) -> None:
    archive = simple().archive(tmp_path / "a")
    (image,) = unpack.load(str(root), str(archive))
    (root / "images" / image.id.removeprefix("sha256:")).write_bytes(b"")
    (again,) = unpack.load(str(root), str(archive))
    assert ImageStore(str(root)).resolve("test").id == again.id


def test_loads_at_once_lose_nothing(root: Path, tmp_path: Path) -> None:
    base = [file("base", b"b" * 100_000)]
    archives = [
        simple(base, [file(f"own{n}")], name=f"image{n}").archive(tmp_path / f"{n}.tar")
        for n in range(6)
    ]
    code = "import sys; from pycontain.engine import unpack; unpack.load(sys.argv[1], sys.argv[2])"
    argv = [os.sys.executable, "-c", code, str(root)]  # type: ignore[attr-defined]
    running = [subprocess.Popen([*argv, str(archive)]) for archive in archives]
    assert [process.wait(60) for process in running] == [0] * 6
    store = ImageStore(str(root))
    assert sorted(n for _, names in store.images() for n in names) == [
        f"image{n}:latest" for n in range(6)
    ]
    assert len([p for p in (root / "snapshots").iterdir() if len(p.name) == 64]) == 7


def test_an_image_in_use_is_not_removed(root: Path, tmp_path: Path) -> None:
    (image,) = unpack.load(str(root), str(simple().archive(tmp_path / "a")))
    store = ImageStore(str(root))
    with pytest.raises(PycontainError, match="used by container box"):
        store.remove("test", users=[("box", image.id)])
    assert store.remove("test", users=[("box", "sha256:other")])
    with pytest.raises(NotFoundError):
        unpack.remove(str(root), "test")


def test_the_merged_view_survives_a_plain_copy(root: Path, tmp_path: Path) -> None:
    first = [
        directory("d"),
        file("d/a"),
        directory("o"),
        file("o/old"),
        file("f", b"1"),
        hardlink("g", "f"),
    ]
    second = [
        file("d/.wh.a"),
        directory("o"),
        file("o/.wh..wh..opq"),
        file("o/new"),
        symlink("s", "d"),
    ]
    (image,) = unpack.load(str(root), str(simple(first, second).archive(tmp_path / "a")))
    with mounted(root, image, tmp_path / "overlay") as merged:
        expected = listing(merged)
    (root / "snapshots/driver").write_text("copy: a test wants it")
    with mounted(root, image, tmp_path / "copy") as merged:
        assert listing(merged) == expected
        assert (merged / "f").stat().st_nlink == 2
