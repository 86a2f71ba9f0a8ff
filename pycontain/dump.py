"""Start commands from the memory of an interpreter that has imported them already.

An interpreter and its imports take ten milliseconds, most commands one or two. So a command that
was started the ordinary way leaves a file behind, the startup dump: a second interpreter imports
what commands need, and native/dump.c writes its memory out. The launcher maps that file
(native/restore.h) and goes on where it stopped, in `build`.

A dump is only a cache. It is good for one user, one boot and the very sources it was made of; for
whatever does not fit an interpreter is started as before. PYCONTAIN_DUMP=0 turns dumps off, and
with PYCONTAIN_DUMP=1 a command fails that cannot start from one. See docs/decisions/0004.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

HOME = __file__.rpartition("/")[0]
PACKAGES = ("cgroup", "cli", "engine", "image", "oci", "rootfs", "runtime", "spec", "syscalls")
WITH_THEM = frozenset(("__future__", "_json"))
"""Modules of the standard library that they may bring along, besides what is built in."""
BUILD = """import sys, time
started_ns = time.time_ns()
sys.path.insert(0, sys.argv[1])
from pycontain import dump
dump.build(sys.argv[2], started_ns)"""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
BOOT_BYTES = 36
IGNORED = (_signal.SIGPIPE, _signal.SIGXFSZ)
"""By every interpreter."""
ENDING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
RETRY_S = 600
TYPICAL = ("run", "--rm", "--memory", "64m", "--cpus", "1", "--pids-limit", "50", "image", "true")
WARM_ROUNDS = 10
"""The interpreter begins to specialise after eight."""
KEPT = 16
"""Dumps of one user: of the installations, the oldest goes."""
TIME_OUT_S = 30
TIMED_OUT = -9
"""It was killed."""


def renew(path: str, program: str) -> None:
    """Write the dump at `path` that `program`, the launcher, found missing or out of date.

    `path` is "" where no dump is wanted. Never fails; where none can be made, the boot's id takes
    its place and keeps later commands from trying for ten minutes.
    """
    if not path:
        return
    # The command is done, and its exit status stands.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ENDING)
    try:
        _renew(path, program)
    except (OSError, ImportError, MemoryError):
        # No room for it: the next start is slower, and nothing else.
        return


def _renew(path: str, program: str) -> None:
    from pycontain.syscalls import kernel
    from pycontain.syscalls.constants import LOCK_EX, LOCK_NB

    directory = _private_directory(path.rpartition("/")[0])
    draft = f"{path}.new"
    # The draft belongs to whoever has the lock.
    kernel.flock(directory, LOCK_EX | LOCK_NB)
    try:
        if _was_in_vain(path) or not _try(program):
            return
        built = _build(draft)
        if built:
            posix.rename(draft, path)
            _remove_oldest(directory)
        # A negative status is a crash; where a dump cannot be mapped a command starts without.
        if not built or _try(program) < 0:
            _write(draft, _boot_id())
            posix.rename(draft, path)
    finally:
        if _exists(draft):
            posix.unlink(draft)
        posix.close(directory)


def _remove_oldest(directory: int) -> None:
    ages = {name: posix.stat(name, dir_fd=directory).st_mtime for name in posix.listdir(directory)}
    for name in sorted(ages, key=ages.__getitem__)[:-KEPT]:
        posix.unlink(name, dir_fd=directory)


def _boot_id() -> bytes:
    with open(BOOT_ID, "rb") as file:
        return file.read(BOOT_BYTES)


def _exists(path: str) -> bool:
    return posix.access(path, posix.F_OK)


def _was_in_vain(path: str) -> bool:
    import time

    try:
        with open(path, "rb") as file:
            age = time.time() - posix.fstat(file.fileno()).st_mtime
            return 0 <= age < RETRY_S and file.read(BOOT_BYTES) == _boot_id()
    except FileNotFoundError:
        return False


def _try(program: str) -> int:
    """Return the exit status of a command that may start from a dump only."""
    return _wait_for([program, "--version"], PYCONTAIN_DUMP="1")


def _build(path: str) -> bool:
    source = HOME.rpartition("/")[0]
    return not _wait_for([sys.executable, "-I", "-S", "-c", BUILD, source, path])


def _wait_for(argv: Sequence[str], **variables: str) -> int:
    """Run a program with hardly any environment, not for long; return its exit status."""
    import os
    import subprocess

    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime is not None:
        variables["XDG_RUNTIME_DIR"] = runtime
    try:
        done = subprocess.run(
            argv, input=b"", capture_output=True, env=variables, timeout=TIME_OUT_S
        )
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    return done.returncode


def _private_directory(path: str) -> int:
    """Open a directory that is this user's alone, in one that nobody else may write."""
    posix.close(_own_directory(path.rpartition("/")[0], 0o755))
    return _own_directory(path, 0o700)


def _own_directory(path: str, mode: int) -> int:
    """Open a directory of this user's, made if missing, that allows others what `mode` does."""
    try:
        posix.mkdir(path, mode)
    except FileExistsError:
        pass
    fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    status = posix.fstat(fd)
    if status.st_uid != posix.geteuid() or status.st_mode & 0o777 & ~mode:
        posix.close(fd)
        raise PermissionError(path)
    return fd


def _write(path: str, text: bytes) -> None:
    fd = _create(path)
    posix.write(fd, text)
    posix.close(fd)


def _create(path: str) -> int:
    try:
        posix.unlink(path)
    except FileNotFoundError:
        pass
    return posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)


def build(path: str, started_ns: int) -> None:
    """Write a dump of this interpreter, which was started for it; restored processes go on here."""
    import gc

    from pycontain.native import _dump

    gc.disable()
    # SIGINT as the launcher's first line leaves it, and none ignored because our caller does.
    for number in range(1, _signal.NSIG):
        if _signal.getsignal(number) not in (None, _signal.SIG_DFL) and number not in IGNORED:
            _signal.signal(number, _signal.SIG_DFL)
    _import_ours()
    _warm_up()
    sources = _sources()
    text = b"".join(_encoded(name, started_ns) for name in sources)
    fd = _create(path)
    gc.collect()
    restored = _dump.dump(fd, _boot_id(), text, len(sources))
    if restored is not None:
        _resume(*restored)


class _NoOthers:
    """Finds nothing, and lets nobody find what would make the dump large: the standard library."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        top = name.partition(".")[0]
        if top != "pycontain" and top not in WITH_THEM and top not in sys.builtin_module_names:
            raise ImportError(name)


def _import_ours() -> None:
    """Import every module of PACKAGES that comes alone, and with it all that the hot verbs need."""
    sys.meta_path.insert(0, _NoOthers)
    for package in PACKAGES:
        for name in sorted(posix.listdir(f"{HOME}/{package}")):
            if name.endswith(".py") and name != "__init__.py":
                try:
                    __import__(f"pycontain.{package}.{name[:-3]}")
                except ImportError:
                    continue
    sys.meta_path.remove(_NoOthers)


def _warm_up() -> None:
    """Write plans, of nothing, until the interpreter has specialised the code for it (PEP 659)."""
    from pycontain.cli import commands, fast
    from pycontain.oci import codec
    from pycontain.runtime import capabilities, draft, plan, seccomp_profile, validate
    from pycontain.spec import builder, process
    from pycontain.spec.host import Host, Identity
    from pycontain.spec.options import RunOptions
    from pycontain.syscalls import encode

    for _ in range(WARM_ROUNDS):
        parsed = fast.parse(TYPICAL, commands.GLOBAL, commands.command_named)
        assert parsed is not None
        host = Host("0" * 64, "/rootfs", Identity(0, 0, [], "/root", "root"))
        host.capabilities = capabilities.known()
        host.cpus = 1
        host.files = [("/etc/hosts", "/dev/null"), ("/etc/hostname", "/dev/null")]
        host.namespaces = dict.fromkeys(("mount", "pid", "ipc", "uts", "network", "cgroup"), "")
        options = RunOptions(parsed.values, parsed.given)
        host.seccomp = seccomp_profile.default_profile(process.root_capabilities(options, host))
        spec, _ = builder.build(options, {"Env": ["PATH=/bin"]}, ["true"], host)
        validate.validate(codec.loads(codec.dumps(spec), "config.json"))
        inputs = draft.Inputs("/rootfs", "/bundle")
        inputs.sync, inputs.stub = 3, "/stub"
        encode.encode(plan.init(spec, inputs))


def _sources() -> list[str]:
    """Return the files this memory was made of, without those that change with the interpreter."""
    paths = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
    ours = [path for path in paths if path.startswith(HOME)]
    with open("/proc/self/maps") as maps:
        mapped = {line.split(None, 5)[5].rstrip("\n") for line in maps if "/" in line}
    return ours + sorted(mapped.difference(ours))


def _encoded(path: str, started_ns: int) -> bytes:
    """Return a `struct source` of native/dump.h; fail if it may be newer than what was imported."""
    status = posix.stat(path)
    if status.st_ctime_ns >= started_ns:
        raise OSError(f"changed meanwhile: {path}")
    name = path.encode("utf-8", "surrogateescape") + b"\0"
    head = status.st_mtime_ns.to_bytes(8, "little") + status.st_size.to_bytes(8, "little")
    return head + name + bytes(-len(name) % 8)


def _resume(
    command: str, argv: list[str], environment: list[bytes], ignored: list[int]
) -> NoReturn:
    """Be the command this process was started as."""
    import time

    from pycontain.cli import entry, oci

    variables = posix.environ
    variables.clear()
    for line in environment:
        name, equals, value = line.partition(b"=")
        if equals:
            variables.setdefault(name, value)
    sys.argv[:] = argv
    time.tzset()
    for number in ignored:
        _signal.signal(number, _signal.SIG_IGN)
    if posix.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))
    {"pycontain": entry.main, "pycontain-oci": oci.entry}[command]()
    raise AssertionError("a command ends its process")
