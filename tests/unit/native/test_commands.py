"""The installed commands: what starts them, and what of the caller's world must not reach them."""

from __future__ import annotations

import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import CHECKOUT

from pycontain.syscalls import kernel

COMMAND = Path(sys.executable).parent / "pycontain"
HEAVY = {
    "re",
    "enum",
    "json",
    "typing",
    "ctypes",
    "os",
    "select",
    "struct",
    "pathlib",
    "contextlib",
}


def version(command: Path | str, **options: object) -> str:
    done = subprocess.run(
        [command, "version"], capture_output=True, text=True, timeout=60, check=True, **options
    )  # type: ignore[call-overload]
    return str(done.stdout)


@pytest.fixture(autouse=True)
def installed() -> None:
    if not COMMAND.exists():
        pytest.skip("pycontain is not installed beside this interpreter")


def test_the_command_starts_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(COMMAND)
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    text = version(COMMAND)
    assert "Version" in text
    assert version(tmp_path / "link") == text
    assert version("pycontain", cwd="/", env={**os.environ, "PATH": path}) == text
    assert version("./pycontain", cwd=COMMAND.parent) == text


def test_the_callers_python_settings_do_not_reach_it(tmp_path: Path) -> None:
    (tmp_path / "pycontain").mkdir()
    for name in ("pycontain/__init__.py", "errno.py", "sitecustomize.py", "startup.py"):
        (tmp_path / name).write_text("raise SystemExit('loaded from the wrong place')\n")
    names = {
        "PYTHONPATH": tmp_path,
        "PYTHONHOME": tmp_path,
        "PYTHONSTARTUP": tmp_path / "startup.py",
    }
    environment = {**os.environ, **{k: str(v) for k, v in names.items()}}
    assert "Version" in version(COMMAND, cwd=tmp_path, env=environment)


def test_the_executor_imports_nothing_heavy() -> None:
    if not kernel.HAVE_NATIVE:
        pytest.skip("the native module is not built")
    root = Path(kernel.__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import pycontain.syscalls.executor; "
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert HEAVY & set(done.stdout.split()) == set()


FOREIGN = marshal.dumps((compile("print('foreign')", "boot", "exec"), [("", "/")]))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    """A command of its own that imports a copy of the package; return the command."""
    source = CHECKOUT / "pycontain/native/launcher.c"
    if not source.exists():
        pytest.skip("the native programs are not built: an installation has not their sources")
    base = tmp_path_factory.mktemp("copy")
    built = shutil.ignore_patterns("__pycache__", "*.so", "bin")
    shutil.copytree(CHECKOUT / "pycontain", base / "pycontain", ignore=built)
    (base / "python3").symlink_to(sys.executable)
    command = base / "command"
    flags = ["-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-builtin"]
    flags += ["-fno-stack-protector", f'-DSOURCE="{base}"', "-o", str(command)]
    subprocess.run([compiler, *flags, source], check=True)
    version(command)
    return command


@pytest.fixture
def boot(copy: Path) -> Path:
    """The boot file of the copy, as its first start left it."""
    found = next((copy.parent / "pycontain/__pycache__").glob("cli.*.boot"))
    found.unlink()
    version(copy)
    return found


def test_a_boot_file_is_executed(copy: Path, boot: Path) -> None:
    boot.write_bytes(FOREIGN)
    assert "foreign" in version(copy)


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_boot_file_that_others_may_write_is_not_executed_but_replaced(
    copy: Path, boot: Path, mode: int
) -> None:
    boot.write_bytes(FOREIGN)
    boot.chmod(mode)
    assert "foreign" not in version(copy)
    assert boot.read_bytes() != FOREIGN
    assert boot.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", [(compile("", "", "exec"), []), (None, []), ((), 1), 5, ()])
def test_a_broken_boot_file_is_replaced(copy: Path, boot: Path, content: object) -> None:
    whole = boot.read_bytes()
    boot.write_bytes(marshal.dumps(content))
    assert "Version" in version(copy)
    assert boot.read_bytes() == whole


def test_packs_are_turned_off_with_the_boot_file(copy: Path, boot: Path) -> None:
    boot.write_bytes(FOREIGN)
    assert "foreign" not in version(copy, env={**os.environ, "PYCONTAIN_PACK": "0"})
    assert "foreign" in version(copy, env={**os.environ, "PYCONTAIN_PACK": "1"})
    boot.unlink()
    version(copy, env={**os.environ, "PYCONTAIN_PACK": "0"})
    assert not boot.exists()
    version(copy, env={**os.environ, "PYCONTAIN_PACK": "1"})
    assert boot.exists()
