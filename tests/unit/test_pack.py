"""A pack brings in the same modules, and a stub becomes the function it stands for."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from pycontain import pack, packing

SOURCE = '''
"""A module."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nowhere import Nothing

LIMIT: int = 7


def plain(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> Nothing:
    """Add."""
    return a + b + c + sum(rest) + sum(more.values()) + LIMIT


def never(text: str) -> str:
    raise ValueError(text)


def counted(n: int):
    yield from range(n)


class Thing:
    def __init__(self, value: int = 5) -> None:
        self.value = value

    @property
    def double(self) -> int:
        return 2 * self.value

    @staticmethod
    def fixed(x: int = 1) -> int:
        return x + 1

    @classmethod
    def made(cls, value: int) -> Thing:
        return cls(value)

    def method(self, *, by: int = 10) -> int:
        def inner() -> int:
            return self.value * by

        return inner()
'''
PROGRAM = """
import sys
sys.path.insert(0, {checkout!r})
from pycontain import pack, packing
pack.path_of = packing.path_of = lambda key, kind='pack': {place!r} + "/" + key
sys.path.insert(0, {place!r})
import sample
packing.write("key", [("sample", sample.__file__, "module")], {called!r})
del sys.modules["sample"]
assert pack.load("key")
import sample
assert sample.plain(1) == 13
assert sample.plain(1, 1, 1, c=1, d=1) == 12
assert list(sample.counted(3)) == [0, 1, 2]
thing = sample.Thing()
assert (thing.value, thing.double, thing.method(), thing.method(by=1)) == (5, 10, 50, 5)
assert (sample.Thing.fixed(), sample.Thing.fixed(4), sample.Thing.made(3).value) == (2, 5, 3)
assert sample.plain(1) == 13
try:
    sample.never("why")
except ValueError as error:
    assert str(error) == "why"
print(sorted(name for _, name in pack.fetched))
pack.widen("key")
"""
ALL = ["Thing.__init__", "Thing.double", "Thing.fixed", "Thing.made", "Thing.method"]
ALL += ["counted", "never", "plain"]


def run(place: Path, called: set[tuple[str, str]]) -> str:
    checkout = str(Path(__file__).resolve().parents[2])
    program = PROGRAM.format(checkout=checkout, place=str(place), called=called)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "sample.py").write_text(SOURCE)
    return tmp_path


def test_functions_left_out_are_fetched_once_when_called(place: Path) -> None:
    assert run(place, {("sample", "Thing")}) == str(ALL)


def test_functions_that_were_called_are_in_the_pack(place: Path) -> None:
    called = {("sample", name) for name in [*ALL, "Thing"]}
    assert run(place, called) == "[]"


def load_alone(place: Path) -> str:
    """Return what `load` says of the pack in `place`."""
    checkout = str(Path(__file__).resolve().parents[2])
    program = (
        f"import sys; sys.path.insert(0, {checkout!r}); from pycontain import pack; "
        f"pack.path_of = lambda key: {str(place)!r} + '/' + key; print(pack.load('key'))"
    )
    argv = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_pack_of_a_changed_source_is_not_taken(place: Path) -> None:
    run(place, set())
    (place / "sample.py").write_text(SOURCE + "\n")
    assert load_alone(place) == "False\n"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 100])
def test_a_broken_pack_is_not_taken(place: Path, content: bytes) -> None:
    (place / "key").write_bytes(content)
    assert load_alone(place) == "False\n"


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_pack_that_others_may_write_is_not_taken(place: Path, mode: int) -> None:
    run(place, set())
    assert load_alone(place) == "True\n"
    (place / "key").chmod(mode)
    assert load_alone(place) == "False\n"


def test_nobody_else_may_write_a_pack_whatever_the_umask(place: Path) -> None:
    before = os.umask(0)
    try:
        run(place, set())
    finally:
        os.umask(before)
    assert (place / "key").stat().st_mode & 0o777 == 0o644


BOOT = """
import sys
sys.path.insert(0, {checkout!r})
from pycontain import pack
from pycontain.cli import entry
pack.path_of = lambda key, kind="pack": {place!r} + "/" + key + "." + kind
from pycontain import packing
packing.path_of = pack.path_of
pack.writable = lambda: True
pack.complete_boot("cli", "pycontain.cli.entry")
"""
TAKE = """
import marshal, posix, sys
code, rows = marshal.loads(open({boot!r}, "rb").read())
module = type(sys)("pycontain.pack")
module.__file__ = rows[0][1]
exec(code, module.__dict__)
module.boot(module, rows)
print(module.booted, sorted(name for name in sys.modules if name.startswith("pycontain")))
sys.path.insert(0, {checkout!r})
from pycontain.cli.entry import main
import pycontain
print(pycontain.pack is sys.modules["pycontain.pack"], main.__globals__["pack"] is pycontain.pack)
"""


def python(program: str) -> str:
    argv = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_boot_file_holds_the_modules_of_the_command(tmp_path: Path) -> None:
    checkout = str(Path(__file__).resolve().parents[2])
    python(BOOT.format(checkout=checkout, place=str(tmp_path)))
    boot = tmp_path / "cli.boot"
    written = boot.stat().st_mtime_ns
    first, second = python(TAKE.format(boot=str(boot), checkout=checkout)).splitlines()
    names = ["pycontain", "pycontain.cli", "pycontain.cli.entry", "pycontain.pack"]
    assert first == f"True {names}"
    assert second == "True True"
    python(BOOT.format(checkout=checkout, place=str(tmp_path)))
    assert boot.stat().st_mtime_ns == written


def test_a_stale_boot_file_is_left_alone(tmp_path: Path) -> None:
    checkout = str(Path(__file__).resolve().parents[2])
    python(BOOT.format(checkout=checkout, place=str(tmp_path)))
    boot = tmp_path / "cli.boot"
    code, rows = marshal.loads(boot.read_bytes())
    rows[3] = (*rows[3][:3], rows[3][3] + 1, *rows[3][4:])
    boot.write_bytes(marshal.dumps((code, rows)))
    first, second = python(TAKE.format(boot=str(boot), checkout=checkout)).splitlines()
    assert first == "False []"
    assert second == "True True"


def test_a_packed_module_takes_names_from_those_before_it() -> None:
    first = types.ModuleType("first")
    first.ONE, first.TWO = [1], 2
    source = b"from first import ONE as one, TWO\nfrom posix import getpid\nimport sys\n"
    code = packing.compact(source, "second.py", {"first"})
    assert "first" not in code.co_names
    scope: dict[str, object] = {pack.MODULES: {"first": first}}
    exec(code, scope)
    assert scope["one"] is first.ONE
    assert scope["TWO"] == 2
    assert scope["getpid"] is os.getpid
    assert scope["sys"] is sys
