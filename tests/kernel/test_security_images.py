"""Hostile layers, archives and layouts: contained or refused with one line, and bounded in cost."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hostcheck import Canary, leftovers
from hostile import (
    Entry,
    busybox_entries,
    device,
    directory,
    docker_archive,
    file,
    hardlink,
    layer,
    symlink,
)
from imagefiles import LAYER, Layout, digest, image_config, named
from support import Cli

from pycontain.engine import unpack
from pycontain.errors import PycontainError
from pycontain.image.store import ImageStore

pytestmark = pytest.mark.root

SECONDS = 20
BASE = layer(busybox_entries())


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path / "canary")


@pytest.fixture(autouse=True)
def host_is_untouched(cli: Cli, canary: Canary) -> Iterator[None]:
    """After every case: the canary as it was, nothing mounted, running or lying about."""
    yield
    assert canary.untouched()
    assert leftovers(cli.data, cli.state) == []


def refused(cli: Cli, archive: Path) -> str:
    """Load what must not load; return the one line that says why.

    In this process, through the function behind `load`: there are hundreds of cases.
    """
    with pytest.raises(PycontainError) as caught:
        unpack.load(str(cli.data), str(archive))
    message = str(caught.value)
    assert message.isprintable(), message
    assert ImageStore(str(cli.data)).images() == []
    return message


def load(cli: Cli, tmp_path: Path, *layers: bytes, config: dict[str, Any] | None = None) -> bool:
    """Load layers on top of busybox; return whether they were taken."""
    archive = docker_archive(tmp_path / "image.tar", [BASE, *layers], config)
    done = cli("load", "-i", archive, status=None, timeout=SECONDS)
    if done.returncode != 0:
        assert done.returncode == 125
        assert done.stderr.count(b"\n") == 1, done.stderr
        assert b"internal error" not in done.stderr, done.stderr
    return done.returncode == 0


def shell(cli: Cli, script: str, *options: str) -> bytes:
    """Run a script in the loaded image; return what it printed."""
    done = cli("run", "--rm", *options, "hostile", "sh", "-c", script, timeout=SECONDS, status=None)
    assert b"internal error" not in done.stderr, done.stderr
    return done.stdout


def patched(entry: Entry, at: int, content: bytes, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return a tar of one entry with bytes of its header replaced and the checksum made right."""
    data = bytearray(layer([entry], form))
    data[at : at + len(content)] = content
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def pax(records: dict[str, str], entry: Entry) -> Entry:
    entry[0].pax_headers = records
    return entry


# where an entry leads


def escapes(canary: Canary) -> dict[str, list[Entry]]:
    out = str(canary.path)
    climb = canary.climb
    return {
        "dot-dot name": [file(f"{climb}/pwned")],
        "dot-dot inside": [directory("a"), file(f"a/../../{climb}/pwned")],
        "absolute name": [file(f"{out}/pwned")],
        "doubled slashes": [file(f"//{out}//pwned")],
        "symlink then file": [symlink("s", out), file("s/pwned")],
        "relative symlink then file": [symlink("s", climb), file("s/pwned")],
        "symlink chain": [symlink("a", "b"), symlink("b", "c"), symlink("c", out), file("a/pwned")],
        "symlink then dir": [symlink("s", out), directory("s/vdir", mode=0o777)],
        "symlink then attributes": [symlink("s", out), directory("s/", mode=0o700, uid=1000)],
        "symlink then file of its name": [symlink("s", f"{out}/victim"), file("s", b"pwned")],
        "hard link to absolute": [hardlink("h", f"{out}/victim"), file("h", b"pwned")],
        "hard link to dot-dot": [hardlink("h", f"{climb}/victim"), file("h", b"pwned")],
        "hard link through symlink": [symlink("s", out), hardlink("h", "s/victim", mode=0o4777)],
        "hard link to symlink": [
            symlink("s", f"{out}/victim"), hardlink("h", "s", mode=0o4777, uid=7), file("h", b"x"),
        ],
        "hard link below symlink": [symlink("s", out), file("f"), hardlink("s/pwned", "f")],
        "dir to symlink and back": [
            directory("d"), file("d/f"), symlink("d", out), file("d/pwned"), directory("d"),
            file("d/also"), symlink("d", out), hardlink("h", "d/victim"), file("h", b"x"),
        ],
        "symlink, dir, dot-dot": [
            symlink("s", out), directory("s"), symlink("s/x", ".."), file("s/x/../pwned"),
        ],
        "whiteout through symlink": [symlink("s", out), file("s/.wh.victim")],
        "opaque through symlink": [symlink("s", out), file("s/.wh..wh..opq")],
        "whiteout as directory": [directory(".wh.x"), file(".wh.x/../../pwned")],
        "node through symlink": [symlink("s", out), device("s/pwned", tarfile.CHRTYPE, 1, 3)],
        "fifo through symlink": [symlink("s", out), file("s/pwned", type=tarfile.FIFOTYPE)],
        "symlink through symlink": [symlink("s", out), symlink("s/pwned", "x")],
        "root is a symlink": [symlink("./", out), file("pwned")],
        "root is a hard link": [hardlink(".", f"{out}/vdir"), file("pwned")],
        "pax path": [pax({"path": f"{climb}/pwned"}, file("good"))],
        "pax linkpath": [pax({"linkpath": f"{climb}/victim"}, hardlink("h", "good")), file("h",
        b"x")],
        "proc magic link": [symlink("s", "/proc/self/root"), file(f"s{out}/pwned")],
        "proc cwd": [symlink("s", "/proc/self/cwd"), file("s/pwned")],
    }  # fmt: skip


@pytest.mark.parametrize("spread", ["one layer", "a layer each"])
def test_no_entry_leads_out_of_the_rootfs(
    cli: Cli, tmp_path: Path, canary: Canary, spread: str
) -> None:
    taken = []
    for name, entries in escapes(canary).items():
        layers = [layer(entries)] if spread == "one layer" else [layer([e]) for e in entries]
        if load(cli, tmp_path, *layers):
            taken.append(name)
            assert shell(cli, "echo runs; echo pwned > /h; chmod 777 /h /s") in (b"runs\n", b"")
        assert canary.untouched(), name
        cli("rmi", "hostile", status=None)
    # What is ordinary in real images is contained, not refused.
    assert "absolute name" in taken
    assert "symlink then file of its name" in taken


# what a header says


def test_numbers_and_names_no_writer_makes(cli: Cli, tmp_path: Path) -> None:
    """Each malformed header is refused, or stands for what can be."""
    plain = file("f", b"x" * 10)
    cases = {
        "negative size": patched(plain, 124, b"\xff" * 12),
        "huge size": patched(plain, 124, b"\x80\x7f" + b"\xff" * 10),
        "octal huge size": patched(plain, 124, b"77777777777\0"),
        "signed size": patched(plain, 124, b"-0000000012\0"),
        "python digits": patched(plain, 124, b"0000000_012\0"),
        "prefixed size": patched(plain, 124, b"0o000000012\0"),
        "unknown type": patched(plain, 156, b"Q"),
        "checksum of text": bytes(148) + b"abcdefgh" + bytes(356),
        "negative uid": patched(plain, 108, b"\xff" * 8),
        "uid of 2^40": patched(plain, 108, b"\x80\0\1\0\0\0\0\0"),
        "uid of 2^32-1": patched(plain, 108, b"\x80\0\0\0\xff\xff\xff\xff"),
        "mode of 2^21": patched(plain, 100, b"7777777\0"),
        "long pax": layer([pax({"comment": "x" * (2 << 20)}, plain)]),
        "name of 300": layer([file("n" * 300)]),
        "name of 5000": layer([file("d/" * 2500 + "f")]),
        "link of 5000": layer([symlink("s", "x" * 5000)]),
        "empty link": layer([symlink("s", "")]),
        "link to itself": layer([hardlink("h", "h")]),
        "link to a directory": layer([directory("d"), hardlink("h", "d")]),
        "link to nothing": layer([hardlink("h", "gone")]),
        "whiteout of dot-dot": layer([file(".wh...")]),
        "whiteout of dot-dot below": layer([directory("d"), file("d/.wh...")]),
        "whiteout of dot": layer([file(".wh..")]),
        "whiteout of nothing": layer([file(".wh.")]),
        "below a file": layer([file("f"), file("f/g")]),
        "below a fifo": layer([file("f", type=tarfile.FIFOTYPE), file("f/g")]),
        "symlink loop": layer([symlink("a", "b"), symlink("b", "a"), file("a/f")]),
        "root is a file": layer([file(".")]),
        "device of 2^30": layer([device("n", tarfile.BLKTYPE, 1 << 20, 1 << 20)]),
        "contiguous": patched(plain, 156, b"7"),
        "sparse without map": patched(plain, 156, b"S"),
    }
    pax_cases = {
        "pax negative size": {"size": "-1"},
        "pax unicode size": {"size": "\u0661"},
        "pax underscore": {"size": "1_0"},
        "pax huge size": {"size": "9" * 30},
        "pax size of 5000 digits": {"size": "9" * 5000},
        "pax mtime": {"mtime": "1e400"},
        "pax mtime nan": {"mtime": "nan"},
        "pax uid": {"uid": "4294967296"},
        "pax sparse out of range": {"GNU.sparse.size": "1", "GNU.sparse.map": "5,10"},
        "pax sparse odd": {"GNU.sparse.size": "100", "GNU.sparse.map": "5"},
        "pax sparse overlap": {"GNU.sparse.size": "99", "GNU.sparse.map": "0,5,2,5"},
        "pax xattr": {"SCHILY.xattr.trusted.overlay.opaque": "y"},
        "pax xattr name": {"SCHILY.xattr.": "y"},
        "pax xattr long": {"SCHILY.xattr.user." + "n" * 300: "y"},
        "pax security": {"SCHILY.xattr.security.capability": "short"},
        "pax nul path": {"path": "a\0b"},
    }
    for name, records in pax_cases.items():
        cases[name] = layer([pax(records, file("f", b"x" * 10))])
    taken = []
    for name, content in cases.items():
        archive = docker_archive(tmp_path / "image.tar", [BASE, content])
        try:
            unpack.load(str(cli.data), str(archive))
        except PycontainError as error:
            assert str(error).isprintable(), name
            continue
        taken.append(name)
        unpack.remove(str(cli.data), "hostile")
    harmless = {
        "contiguous", "mode of 2^21", "pax xattr", "pax xattr name", "pax xattr long",
        "pax security", "whiteout of nothing", "pax mtime", "octal huge size",
    }  # fmt: skip
    assert set(taken) <= harmless, set(taken) - harmless


def test_attributes_of_overlay_in_a_layer_are_not_obeyed(cli: Cli, tmp_path: Path) -> None:
    """A layer's own trusted.overlay.* would redirect or hide what lower layers hold."""
    records = {
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.redirect": "/bin",
        "SCHILY.xattr.user.overlay.opaque": "y",
    }
    taken = load(
        cli,
        tmp_path,
        layer([directory("d"), file("d/lower", b"seen")]),
        layer([pax(records, directory("d"))]),
    )
    assert not taken or shell(cli, "cat /d/lower; ls /d") == b"seenlower\n"


def test_a_capability_in_a_layer_gives_a_user_nothing(cli: Cli, tmp_path: Path) -> None:
    # VFS_CAP_REVISION_2 with the effective bit, permitted: CAP_SYS_ADMIN.
    value = bytes.fromhex("0100000200002000000000000000000000000000")
    text = value.decode("latin-1")
    busybox = file("powerful", Path("/bin/busybox").read_bytes(), mode=0o6755)
    data = layer([pax({"SCHILY.xattr.security.capability": text}, busybox)])
    if load(cli, tmp_path, data):
        done = cli(
            "run", "--rm", "--user", "1000", "hostile", "/powerful", "cat", "/proc/self/status",
            status=None, timeout=SECONDS,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            if line.startswith((b"CapEff", b"CapPrm")):
                assert int(line.split()[1], 16) & 1 << 21 == 0


def test_names_of_any_bytes_are_kept(cli: Cli, tmp_path: Path) -> None:
    names = ["new\nline", "esc\x1b[31m", "bad\udcff\udc80", " lead", "-rf", "t\ttab", "w" * 255]
    assert load(cli, tmp_path, layer([directory("d"), *(file(f"d/{n}") for n in names)]))
    assert shell(cli, "cd /d; set -- *; echo $#") == f"{len(names)}\n".encode()


def test_duplicates_of_every_kind_end_as_the_last(cli: Cli, tmp_path: Path) -> None:
    kinds: list[Callable[[str], list[Entry]]] = [
        lambda n: [file(n, b"first")],
        lambda n: [directory(n), file(f"{n}/inner")],
        lambda n: [symlink(n, "/etc")],
        lambda n: [file(n, type=tarfile.FIFOTYPE)],
        lambda n: [device(n, tarfile.CHRTYPE, 1, 3)],
        lambda n: [file("t", b"t"), hardlink(n, "t")],
    ]
    entries: list[Entry] = []
    for number in range(36):
        name = f"x{number}"
        entries += kinds[number // 6](name) + kinds[number % 6](name) + [file(name, b"last")]
    for layers in ([layer(entries)], [layer([e]) for e in entries[:100]]):
        assert load(cli, tmp_path, *layers)
        cli("rmi", "hostile")
    assert load(cli, tmp_path, layer(entries))
    assert shell(cli, "cat /x* | wc -c; ls /etc/inner 2>&1 | wc -l").split()[0] == b"144"


def test_whiteouts_of_what_lies_in_the_same_layer(cli: Cli, tmp_path: Path) -> None:
    """Whiteouts hide lower layers only, in whatever order they come (layer.md)."""
    lower = layer([directory("a"), file("a/low"), directory("b"), file("b/low"), file("c", b"low")])
    upper = layer(
        [
            file(".wh.a"), directory("a"), file("a/up"),
            directory("b"), file("b/up"), file("b/.wh..wh..opq"),
            file("c", b"up"), file(".wh.c"), file(".wh.absent"), file("no/such/.wh.x"),
        ]
    )  # fmt: skip
    assert load(cli, tmp_path, lower, upper)
    assert shell(cli, "ls a b; cat c; ls /no") == b"a:\nup\n\nb:\nup\nup"
    cli("rmi", "hostile")
    # A whole tree whited out, and made again above.
    again = layer([file(".wh.a"), file(".wh.b"), file(".wh.c")])
    assert load(cli, tmp_path, lower, again, layer([directory("a"), file("a/new")]))
    assert shell(cli, "ls -d a b c; ls a").split() == [b"a", b"new"]


def test_nodes_of_a_layer_open_nothing(cli: Cli, tmp_path: Path) -> None:
    """Nodes in the way of what the runtime reads, and of the host's disks and memory."""
    nodes = [
        device("disk", tarfile.BLKTYPE, 254, 0),
        device("sda", tarfile.BLKTYPE, 8, 0),
        device("mem", tarfile.CHRTYPE, 1, 1),
        device("kmsg", tarfile.CHRTYPE, 1, 11),
        device("zerodev", tarfile.CHRTYPE, 0, 0),
        file("pipe", type=tarfile.FIFOTYPE, mode=0o755),
        device("cmd", tarfile.CHRTYPE, 1, 3),
    ]
    assert load(cli, tmp_path, layer(nodes))
    out = shell(cli, "for n in disk sda mem kmsg; do cat < /$n && echo opened; done 2>/dev/null")
    assert b"opened" not in out
    for command in ("/cmd", "/pipe", "/disk"):
        done = cli("run", "--rm", "hostile", command, status=126, timeout=SECONDS)
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_nodes_for_the_files_of_users_are_not_read(cli: Cli, tmp_path: Path, name: str) -> None:
    for node in (
        device(f"etc/{name}", tarfile.CHRTYPE, 1, 5),
        device(f"etc/{name}", tarfile.BLKTYPE, 254, 0),
        file(f"etc/{name}", type=tarfile.FIFOTYPE),
        symlink(f"etc/{name}", "/dev/zero"),
        symlink(f"etc/{name}", "/proc/self/fd/0"),
    ):
        assert load(cli, tmp_path, layer([node]))
        for user in ("someone:somegroup", "0:somegroup"):
            done = cli("run", "--rm", "-u", user, "hostile", "id", status=125, timeout=SECONDS)
            assert done.stderr.count(b"\n") == 1
        cli("rmi", "hostile")


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf", "mtab"])
@pytest.mark.parametrize("kind", ["fifo", "device", "directory", "dangling", "loop"])
def test_generated_files_over_odd_things(cli: Cli, tmp_path: Path, name: str, kind: str) -> None:
    path = f"etc/{name}"
    entry = {
        "fifo": file(path, type=tarfile.FIFOTYPE),
        "device": device(path, tarfile.CHRTYPE, 1, 5),
        "directory": directory(path),
        "dangling": symlink(path, "/no/such/place"),
        "loop": symlink(path, name),
    }[kind]
    assert load(cli, tmp_path, layer([entry]))
    done = cli("run", "--rm", "hostile", "true", status=None, timeout=SECONDS)
    assert done.returncode in (0, 125)
    assert b"internal error" not in done.stderr


# cost: bombs and great numbers


def test_a_sparse_bomb_takes_no_room(cli: Cli, tmp_path: Path) -> None:
    info, _ = file("bomb")
    records = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": ""}
    load(cli, tmp_path, layer([pax(records, (info, b""))]))
    used = sum(path.lstat().st_blocks for path in cli.data.rglob("*")) * 512
    assert used < 64 << 20


class Zeros(io.RawIOBase):
    """Reads as so many zero bytes."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        taken = min(self.left, size if size >= 0 else self.left)
        self.left -= taken
        return bytes(taken)


def bomb(size: int) -> bytes:
    """A gzip of a tar of one file of zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as tar:
        info = tarfile.TarInfo("bomb")
        info.size = size
        tar.addfile(info, Zeros(size))  # type: ignore[arg-type]
    return buffer.getvalue()


def test_a_compression_bomb_is_bounded_in_memory(cli: Cli, tmp_path: Path) -> None:
    """256 MiB of zeros arrive as a file; the process itself stays small."""
    data = bomb(256 << 20)
    plain = gzip.decompress(data)
    layout = Layout()
    settings = layout.add_json(
        "application/vnd.oci.image.config.v1+json", image_config([digest(plain)])
    )
    del plain
    layout.index(named(layout.manifest(settings, [layout.add(LAYER + "+gzip", data)]), "bomb"))
    archive = layout.archive(tmp_path / "bomb.tar")
    limited = ["prlimit", f"--as={600 << 20}", *cli.argv("load", "-i", archive)]
    import subprocess

    done = subprocess.run(limited, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tool", ["gzip", "bzip2", "xz", "zstd"])
def test_an_archive_that_is_only_a_bomb_is_refused(cli: Cli, tmp_path: Path, tool: str) -> None:
    """Half a gigabyte of zeros behind a few bytes are no tar, and are not waited for."""
    piece = bytes(16 << 20)
    if tool == "gzip":
        content = gzip.compress(piece, 9) * 32
    elif tool == "bzip2":
        content = bz2.compress(piece) * 32
    elif tool == "xz":
        content = lzma.compress(piece) * 32
    else:
        content = zstandard.compress(piece) * 32
    (tmp_path / "bomb").write_bytes(content)
    began = time.monotonic()
    refused(cli, tmp_path / "bomb")
    assert time.monotonic() - began < SECONDS


def test_a_zstd_window_of_gigabytes_is_refused_or_bounded(cli: Cli, tmp_path: Path) -> None:
    # Frame header: magic, descriptor without single segment, window descriptor of 2^41 bytes.
    (tmp_path / "z").write_bytes(b"\x28\xb5\x2f\xfd\x00\xf8" + b"\x01\0\0")
    refused(cli, tmp_path / "z")


def test_twenty_thousand_entries(cli: Cli, tmp_path: Path) -> None:
    entries = [file(f"{n:x}") for n in range(20_000)]
    assert load(cli, tmp_path, layer(entries, tarfile.USTAR_FORMAT))
    assert shell(cli, "ls / | wc -l").strip() > b"20000"


def test_a_path_of_a_thousand_directories(cli: Cli, tmp_path: Path) -> None:
    deep = "/".join(["d"] * 1000)
    if load(cli, tmp_path, layer([file(f"{deep}/f")])):
        assert shell(cli, "echo runs") == b"runs\n"
    cli("rmi", "-f", "hostile", status=None)


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


def test_a_setuid_program_of_an_image_is_out_of_reach(cli: Cli, tmp_path: Path) -> None:
    """A user of the host cannot walk to a set-user-ID file through the data root."""
    assert load(cli, tmp_path, layer([file("root-shell", b"x", mode=0o4755)]))
    cli("run", "-d", "--name", "holder", "hostile", "sleep", "100")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    walk = f"find {cli.data} {cli.state} -name root-shell -o -name passwd 2>/dev/null"
    script = f"import os; os.setgid(65534); os.setuid(65534); os.system({walk!r})"
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=SECONDS)
    assert done.stdout == b""
    cli("rm", "-f", "holder")


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
