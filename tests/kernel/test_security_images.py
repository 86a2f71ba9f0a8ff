"""Hostile layers: what their entries and sizes do is contained, and bounded in cost."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hostcheck import Canary
from hostile import (
    Entry,
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
