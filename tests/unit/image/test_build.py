"""Images of the host's own programs: what they need comes along, always the same bytes."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import InvalidError, NotFoundError, UsageError
from pycontain.image import archive, build, elf
from pycontain.image.files import TarFiles

if TYPE_CHECKING:
    from pathlib import Path

SHELL = shutil.which("bash") or shutil.which("dash") or "/bin/sh"


def members(binaries: list[str]) -> dict[str, tarfile.TarInfo]:
    layer, _ = build.host_layer(binaries, 0)
    with tarfile.open(fileobj=layer) as tar:
        return {member.name: member for member in tar}


def test_a_program_brings_what_ldd_names() -> None:
    listed = subprocess.run(["ldd", SHELL], capture_output=True, text=True, check=False).stdout
    wanted = {word for word in listed.split() if word.startswith("/")}
    if not wanted:
        pytest.skip(f"{SHELL} is static")
    found = {path.rpartition("/")[2] for path in elf.closure(SHELL)}
    assert {path.rpartition("/")[2] for path in wanted} <= found


def test_a_shell_becomes_bin_sh_and_the_basics_are_there() -> None:
    found = members([SHELL, "cat"])
    assert any(name.endswith("bin/sh") for name in found)
    assert any(name.endswith("bin/cat") for name in found)
    assert {"etc/passwd", "etc/group", "tmp", "proc", "dev"} <= set(found)
    assert found["tmp"].mode == 0o1777
    assert {(m.uid, m.gid, m.mtime) for m in found.values()} == {(0, 0, 0)}


def test_a_script_brings_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env cat\n")
    script.chmod(0o755)
    assert any(name.endswith("bin/cat") for name in members([str(script)]))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no-such-program"):
        build.from_host(["no-such-program"])
    with pytest.raises(UsageError):
        build.from_host([])
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF\2\1\1" + b"\xff" * 100)
    broken.chmod(0o755)
    with pytest.raises(InvalidError, match="malformed ELF"):
        build.from_host([str(broken)])


def test_the_same_input_gives_the_same_archive(tmp_path: Path) -> None:
    results = []
    for name in ("one.tar", "two.tar"):
        layer, command = build.host_layer([SHELL], 1000)
        built = build.write_archive(str(tmp_path / name), "test/app:1", layer, command, 1000)
        results.append((built, (tmp_path / name).read_bytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_a_valid_oci_archive(tmp_path: Path, compress: bool) -> None:
    tree = build.Tree()
    tree.text("etc/x", b"content")
    layer = io.BytesIO()
    tree.write(layer, 0)
    layer.seek(0)
    path = tmp_path / "image.tar"
    build.write_archive(str(path), "app", layer, ["/bin/x"], 0, compress=compress)
    with path.open("rb") as file:
        files = TarFiles(file.fileno(), path.stat().st_size, "image.tar")
        (candidate,) = archive.candidates(files, "image.tar")
    assert candidate.names == ["docker.io/library/app:latest"]
    assert candidate.config.execution["Cmd"] == ["/bin/x"]
