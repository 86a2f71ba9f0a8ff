"""Build the native parts; each is optional, and what cannot be built is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup  # isort: skip
from distutils.command.build_scripts import build_scripts  # setuptools' own, once it is imported

from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
NATIVE = Path("pycontain/native")
WITHOUT_LIBC = ("guest_init", "init", "monitor", "stub")
PROGRAM_FLAGS = [
    "-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables", "-Wall", "-Wextra", "-s", "-Wl,--build-id=none",
    "-Wl,-z,noseparate-code", "-Wl,-z,noexecstack",
]  # fmt: skip


class BuildNative(build_ext):
    """Build the extension and the static programs beside it."""

    def run(self) -> None:
        super().run()
        target = (HERE if self.inplace else Path(self.build_lib)) / NATIVE / "bin"
        for source in sorted((HERE / NATIVE).glob("*.c")):
            if source.stem != "core":
                self._build_program(source, target / source.stem.replace("_", "-"))

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            warn(f"{ext.name} is not built: {error}")

    def _build_program(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc").split()
        command = [*compiler, *self._flags(source), "-o", str(target), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            warn(f"{target.name} is not built: {error}")
            return
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            warn(f"{target.name} is not built: {(lines or ['compiler failed'])[0]}")

    def _flags(self, source: Path) -> list[str]:
        if source.stem in WITHOUT_LIBC:
            return PROGRAM_FLAGS
        return ["-Os", "-static", "-Wall", "-Wextra", "-s"]


class BuildScripts(build_scripts):
    """Write into the commands where an editable installation's package lies."""

    editable_mode = False  # set by setuptools

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            for script in self.scripts:
                built = Path(self.build_dir) / Path(script).name
                quoted = str(HERE).replace("'", "'\\''")
                text = built.read_text().replace("\nsource=\n", f"\nsource='{quoted}'\n", 1)
                built.write_text(text)


def warn(message: str) -> None:
    """Print one line that pip shows with -v and a direct build always."""
    print(f"warning: {message.splitlines()[0]}", file=sys.stderr)


setup(
    ext_modules=[
        Extension(
            "pycontain.native._core",
            [str(NATIVE / "core.c")],
            depends=[str(NATIVE / "loop.h")],
            extra_compile_args=["-O2", "-fvisibility=hidden"],
            py_limited_api=True,
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildNative, "build_scripts": BuildScripts},
    scripts=["bin/pycontain", "bin/pycontain-oci"],
)
