"""Build the native parts; each is optional, and what cannot be built is said in one line."""

from __future__ import annotations

import base64
import importlib.util
import os
import platform
import subprocess
import sys
import zlib
from pathlib import Path
from typing import ClassVar

from setuptools import Extension, setup  # isort: skip
from distutils.command.build_scripts import build_scripts  # setuptools' own, once it is imported

from setuptools import Command
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
NATIVE = Path("pycontain/native")
WITH_LIBC = ("bench_launch",)
EXTENSIONS = {"core": ("loop", "raw"), "dump": ("dump",)}
"""The extension modules and the headers of each."""
COMMANDS = {"launcher": "pycontain", "oci_verbs": "pycontain-oci"}
"""What the programs are called that take the place of the scripts in bin/."""
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
            if source.stem not in (*EXTENSIONS, *COMMANDS):
                self._build_program(source, target / source.stem.replace("_", "-"))

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            warn(f"{ext.name} is not built: {error}")

    def _build_program(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        reason = compile_program(os.environ.get("CC", "cc"), source, target)
        if reason and source.stem == "stub":
            # Without the stub a container could write to the host's interpreter.
            target.write_bytes(prebuilt_stub(platform.machine()))
            target.chmod(0o755)
        if reason:
            warn(f"{target.name} is not built: {reason}")


def compile_program(compiler: str, source: Path, target: Path, *defines: str) -> str:
    """Build a static program; return why it failed, "" on success."""
    flags = PROGRAM_FLAGS
    if source.stem in WITH_LIBC:
        flags = ["-Os", "-static", "-Wall", "-Wextra", "-s"]
    command = [*compiler.split(), *flags, *defines, "-o", str(target), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    return (lines or ["the compiler failed"])[0] if done.returncode else ""


def far_away() -> list[str]:
    """Return the flags that put a launcher where an interpreter has no memory (restore.h)."""
    return ["-fPIC", "-Wl,-Ttext-segment=0x600000000000"] if platform.machine() == "x86_64" else []


def prebuilt_stub(machine: str) -> bytes:
    """Return the stub of pycontain/native/prebuilt.py for `machine`."""
    spec = importlib.util.spec_from_file_location("prebuilt", HERE / NATIVE / "prebuilt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.stub(machine)


class WritePrebuilt(Command):
    """`python setup.py prebuilt`: write pycontain/native/prebuilt.py; needs both compilers."""

    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        place = HERE / NATIVE / "prebuilt.py"
        head = place.read_text().partition("STUBS = {")[0]
        entries = ""
        for machine in ("x86_64", "aarch64"):
            target = HERE / NATIVE / f"stub-{machine}"
            reason = compile_program(f"{machine}-linux-gnu-gcc", HERE / NATIVE / "stub.c", target)
            if reason:
                sys.exit(reason)
            text = base64.b64encode(zlib.compress(target.read_bytes(), 9)).decode()
            target.unlink()
            lines = [f'        "{text[n : n + 84]}"' for n in range(0, len(text), 84)]
            entries += f'    "{machine}": (\n' + "\n".join(lines) + "\n    ),\n"
        place.write_text(head + "STUBS = {\n" + entries + "}\n")


class BuildScripts(build_scripts):
    """Put static programs in the place of the scripts, which stay where no compiler works.

    Either is told where an editable installation's package lies.
    """

    editable_mode = False  # set by setuptools

    def run(self) -> None:
        super().run()
        where = str(HERE) if self.editable_mode else ""
        for stem, name in COMMANDS.items():
            built = Path(self.build_dir) / name
            program = built.with_suffix(".program")
            source = where.replace("\\", "\\\\").replace('"', '\\"')
            reason = compile_program(
                os.environ.get("CC", "cc"), HERE / NATIVE / f"{stem}.c", program,
                f'-DSOURCE="{source}"', *far_away(),
            )  # fmt: skip
            if not reason:
                program.chmod(0o755)
                program.replace(built)
                continue
            warn(f"{name} stays a script: {reason}")
            quoted = where.replace("'", "'\\''")
            text = built.read_text().replace("\nsource=\n", f"\nsource='{quoted}'\n", 1)
            built.write_text(text)


def warn(message: str) -> None:
    """Print one line that pip shows with -v and a direct build always."""
    print(f"warning: {message.splitlines()[0]}", file=sys.stderr)


setup(
    ext_modules=[
        Extension(
            f"pycontain.native._{name}",
            [str(NATIVE / f"{name}.c")],
            depends=[str(NATIVE / f"{header}.h") for header in headers],
            extra_compile_args=["-O2", "-g0", "-fvisibility=hidden"],
            extra_link_args=["-s"],
            py_limited_api=True,
            optional=True,
        )
        for name, headers in EXTENSIONS.items()
    ],
    cmdclass={"build_ext": BuildNative, "build_scripts": BuildScripts, "prebuilt": WritePrebuilt},
    scripts=["bin/pycontain", "bin/pycontain-oci"],
)
