"""An installation made where no C compiler works: the Python executor runs containers alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

WITHOUT = {**os.environ, "CC": "false"}
KERNEL_TESTS = ("test_run", "test_limits", "test_executor", "test_launch_exec")
UNIT_TESTS = ("native", "oci", "runtime", "spec", "syscalls")


@dataclass(frozen=True)
class Installation:
    """A virtual environment with pycontain, and the sources it came from less the package."""

    python: Path
    source: Path


def run(*words: str | Path, **options: object) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=WITHOUT, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return str(done.stdout)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    base = tmp_path_factory.mktemp("without-compiler")
    source = base / "source"
    built = shutil.ignore_patterns(".*", "*.so", "*.egg-info", "__pycache__", "bench-results")
    shutil.copytree(CHECKOUT, source, ignore=built)
    for left in ("build", "pycontain/native/bin"):
        shutil.rmtree(source / left, ignore_errors=True)
    run(sys.executable, "-m", "venv", "--without-pip", base / "venv")
    python = base / "venv/bin/python"
    site = next((base / "venv/lib").glob("python3*/site-packages"))
    paths = [path for path in sys.path if path.endswith("-packages")]
    (site / "shared.pth").write_text("\n".join(paths))
    pip = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    run(*pip, "--ignore-installed", source)
    shutil.rmtree(source / "pycontain")
    return Installation(python, source)


def test_nothing_compiled_is_installed_but_the_stub_is(installed: Installation) -> None:
    code = "import pycontain.native as n; print(n.__path__[0])"
    place = Path(run(installed.python, "-c", code, cwd="/").strip())
    assert installed.python.parent.parent in place.parents
    assert [path.name for path in place.glob("bin/*")] == ["stub"]
    assert not list(place.glob("*.so"))


def test_the_command_says_which_executor_it_has(installed: Installation, tmp_path: Path) -> None:
    command = installed.python.parent / "pycontain"
    roots = ("--root", tmp_path / "data", "--state", tmp_path / "state")
    lines = run(command, *roots, "info")
    assert "Executor:       python (the native module is not built" in lines


@pytest.mark.parametrize("tier", ["unit", "kernel"])
def test_the_tests_pass_with_it(installed: Installation, tmp_path: Path, tier: str) -> None:
    """Skips are those that name the native module or the compiler."""
    names = UNIT_TESTS if tier == "unit" else [f"{name}.py" for name in KERNEL_TESTS]
    paths = [f"tests/{tier}/{name}" for name in names]
    pytest_ = [installed.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    out = run(*pytest_, f"--basetemp={tmp_path / 'inner'}", *paths, cwd=installed.source)
    assert " passed" in out.splitlines()[-1]
