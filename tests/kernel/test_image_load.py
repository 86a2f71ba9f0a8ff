"""Loading archives into a data root: verified, whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from hostile import device, directory, docker_archive, file, hardlink, layer, symlink
from imagefiles import Layout, digest, image_config, listing, mounted, named, simple

from pycontain.engine import unpack
from pycontain.errors import KernelError, NotFoundError, PycontainError, UsageError
from pycontain.image.store import ImageStore, boot_id

if TYPE_CHECKING:
    from pathlib import Path

from imageloads import is_empty, refused

pytestmark = pytest.mark.root


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
