"""The installed commands: what starts them, and what of the caller's world must not reach them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
