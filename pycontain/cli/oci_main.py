"""The verbs of `pycontain-oci` (runc's words), without click; the process begins in `oci`.

Parses, calls one function of `runtime`, prints. The verbs an engine calls for every container are
here; the others are imported when they are asked for (`oci_more`). Exit status 1 for our failures
(255 from exec, as runc has it, to be told from the process's own), else the process's.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pycontain.cli import oci_options as table
from pycontain.cli.oci_log import Log
from pycontain.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PycontainError,
    UnsupportedError,
    UsageError,
)
from pycontain.runtime import container
from pycontain.runtime import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from pycontain.runtime.bundle import Bundle
    from pycontain.runtime.container import Container
    from pycontain.runtime.hooks import HookError
    from pycontain.runtime.launch import LaunchOptions
    from pycontain.runtime.notify import Relay

FAILED = 1
EXEC_FAILED = 255
MANAGERS = ("cgroupfs", "systemd", "disabled")


class Context:
    """What the global options say."""

    __slots__ = ("log", "manager", "root")

    def __init__(self, log: Log, root: str, manager: str) -> None:
        self.log = log
        self.root = root
        self.manager = manager


if TYPE_CHECKING:
    Run: TypeAlias = Callable[[Context, Any, list[str]], int]


def main(argv: Sequence[str]) -> int:
    """Carry out one command line; return the exit status. Never raises, never a traceback."""
    log = Log()
    failed = FAILED
    try:
        options, words = table.parse(argv, table.GLOBALS, rest=True)
        if words and words[0] == "exec":
            failed = EXEC_FAILED
        return _main(log, options, words)
    except PycontainError as error:
        log.error(describe(error))
    except KeyboardInterrupt:
        return 130
    except RecursionError:
        log.error("input is nested too deep")
    except MemoryError:
        log.error("out of memory")
    except Exception as error:  # the last line of defence: one line instead of a traceback
        log.error(f"internal error: {type(error).__name__}: {error}")
        if log.debugging:
            raise
    return failed


def describe(error: PycontainError) -> str:
    """Return the message of `error` in the words engines look for to choose their exit status."""
    text = str(error)
    for known in ("No such file or directory", "Permission denied"):
        text = text.replace(known, known[0].lower() + known[1:])
    return text


def _main(log: Log, options: Any, words: list[str]) -> int:
    if options.version:
        return _more("version")(Context(log, "", ""), options, [])
    if options.help or not words or words[0] in ("help", "h"):
        return _more("help")(Context(log, "", ""), options, words)
    log.configure(options.log, options.log_format, debugging=options.debug)
    context = Context(log, _root(options), _manager(options))
    name = words[0]
    verb = table.VERBS.get(name)
    if verb is None:
        raise UsageError(
            f"No help topic for '{name}'", hint="pycontain-oci --help lists the commands"
        )
    if name in ("checkpoint", "restore"):
        # For their --help too: its status tells podman whether they are supported.
        raise UnsupportedError(f"{name} is not supported")
    _, _, least, most, rest, _, options_of = verb
    given, positional = table.parse(words[1:], options_of, rest=rest)
    if given.help:
        return _more("help")(context, options, [name])
    if not least <= len(positional) <= most:
        usage = f"usage: pycontain-oci {name} [options] {verb[1]}".rstrip()
        count = f"exactly {least}" if least == most else f"a minimum of {least}"
        raise UsageError(f'"{name}" requires {count} argument(s)', hint=usage)
    if options.debug:
        log.debug(f"{name} {' '.join(positional)}, state in {context.root}")
    run = _HOT.get(name) or _more(name)
    return run(context, given, positional)


def _more(name: str) -> Run:
    from pycontain.cli import oci_more

    return oci_more.VERBS[name]


def _root(options: Any) -> str:
    root: str = options.root
    if not root:
        return default_root()
    if "\0" in root:
        raise UsageError("--root holds a NUL byte")
    return root if root.startswith("/") else f"{posix.getcwd()}/{root}"


def default_root() -> str:
    """Return the directory of container state when --root does not name one."""
    if posix.geteuid() == 0 and not _is_users_root():
        return "/run/pycontain-oci"
    from pycontain import paths

    base = paths.environ("XDG_RUNTIME_DIR") or f"/tmp/pycontain-run-{posix.geteuid()}"
    return base + "/pycontain-oci"


def _is_users_root() -> bool:
    """Return whether root is an ordinary user's, in a user namespace: podman's without root.

    $USER tells it from root in a container, as runc has it. native/oci_verbs.c asks the same.
    """
    environ = posix.environ
    if not environ.get(b"XDG_RUNTIME_DIR") or environ.get(b"USER") == b"root":
        return False
    from pycontain.syscalls import kernel

    return kernel.in_user_namespace()


def _manager(options: Any) -> str:
    if options.systemd_cgroup:
        return "systemd"
    name: str = options.cgroup_manager or "cgroupfs"
    if name not in MANAGERS:
        raise UsageError(f"--cgroup-manager: unknown manager {name!r}, {', '.join(MANAGERS)}")
    return name


def _create(context: Context, options: Any, words: list[str]) -> int:
    with_bundle = load_bundle(context, options)
    launch = _launch_options(context, options, with_bundle.spec["process"], detached=True)
    place(context, launch, words[0])
    if posix.environ.get(b"NOTIFY_SOCKET"):
        from pycontain.runtime import notify

        launch.notify = notify.prepare
    made = container.create(
        context.root, words[0], with_bundle.path, with_bundle.spec, launch,
        manager_kind=context.manager, raw=with_bundle.raw,
    )  # fmt: skip
    try:
        announce(options, made.pid, made.state.annotations)
    except BaseException:
        made.delete(force=True)
        raise
    return 0


def place(context: Context, launch: LaunchOptions, name: str) -> None:
    """Say where the cgroup of container `name` is by default: runc's place, not the engine's."""
    if context.manager == "cgroupfs":
        launch.cgroup_path = "/" + states.check_id(name)


def load_bundle(context: Context, options: Any) -> Bundle:
    """Return the bundle, its warnings logged."""
    from pycontain.runtime import bundle

    loaded = bundle.load(options.bundle or ".", options.config)
    for note in loaded.notes:
        context.log.warning(note)
    if context.log.debugging:
        from pycontain.runtime import seccomp_compiler

        profile = loaded.spec.get("linux", {}).get("seccomp") or {}
        for name in seccomp_compiler.unknown_names(profile):
            context.log.debug(f"unknown seccomp syscall {name!r} ignored")
    return loaded


def _start(context: Context, options: Any, words: list[str]) -> int:
    found = container.load(context.root, words[0])
    host = posix.environ.get(b"NOTIFY_SOCKET")
    if host and states.is_directory(found.home + "/notify"):
        return _start_notifying(context, found, host)
    settle_poststart(context, found, found.start(), strict=False)
    return 0


def _start_notifying(context: Context, found: Container, host: bytes) -> int:
    """Start the container and stay until its program is ready, or has ended."""
    from pycontain.runtime import notify

    states.allow("start", found.id, found.status())
    relay = notify.Relay(host)
    relay.bind(found.home)
    settle_poststart(context, found, found.start(), strict=False)
    relay_ready(context, relay, found.pid, found.pid)
    return 0


def relay_ready(context: Context, relay: Relay, pid: int, main_pid: int) -> None:
    """Let a service manager that does not listen change nothing of the container."""
    try:
        relay.run(pid, main_pid)
    except OSError as error:
        context.log.warning(f"notify socket: {error.strerror}")


def settle_poststart(
    context: Context, found: Container, failures: list[HookError], *, strict: bool
) -> None:
    """Log failed poststart hooks; where they are errors stop the container and raise the first.

    They are from version 1.3 of the specification on, and for `run` (`strict`), as runc has it.
    """
    if not failures:
        return
    if strict or _minor(found.state.version) >= 3:
        try:
            found.kill(_signal.SIGKILL)
        except ConflictError:
            # Its program ended by itself meanwhile; the hook is what went wrong.
            pass
        raise failures[0]
    for failure in failures:
        context.log.warning(str(failure))


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def _state(context: Context, options: Any, words: list[str]) -> int:
    from pycontain.oci import codec

    put(codec.dumps_indented(container.load(context.root, words[0]).document()))
    return 0


def _kill(context: Context, options: Any, words: list[str]) -> int:
    number = signal_number(words[1] if len(words) > 1 else "SIGTERM")
    container.load(context.root, words[0]).kill(number, all=options.all)
    return 0


def signal_number(text: str) -> int:
    """Return the number of a signal given as 9, KILL, SIGKILL or RTMIN+3; raises UsageError."""
    if text.isascii() and text.isdigit() and int(text) <= _signal.SIGRTMAX:
        return int(text)
    name, plus, offset = text.upper().partition("+")
    name = name if name.startswith("SIG") else "SIG" + name
    number: object = getattr(_signal, name, None) if name[3:4].isalpha() else None
    if not isinstance(number, int):
        raise UsageError(f"unknown signal {text!r}")
    if plus and offset.isascii() and offset.isdigit():
        number += int(offset)
    if plus and (name != "SIGRTMIN" or not offset.isdigit() or number > _signal.SIGRTMAX):
        raise UsageError(f"unknown signal {text!r}")
    return number


def _delete(context: Context, options: Any, words: list[str]) -> int:
    if options.regex:
        return _more("delete --regex")(context, options, words)
    delete_one(context, words[0], force=options.force)
    return 0


def delete_one(context: Context, name: str, *, force: bool) -> None:
    """Delete a container; with `force` a broken or unknown one, too."""
    try:
        found = container.load(context.root, name)
    except NotFoundError:
        if force:
            return
        raise
    except InvalidError:
        if not force:
            raise
        container.delete_broken(context.root, name)
        return
    for failure in found.delete(force=force):
        context.log.warning(str(failure))


def _ps(context: Context, options: Any, words: list[str]) -> int:
    if options.format == "json":
        from pycontain.oci import codec

        put(codec.dumps(container.load(context.root, words[0]).processes()) + b"\n")
        return 0
    return _more("ps")(context, options, words)


def _pause(context: Context, options: Any, words: list[str]) -> int:
    container.load(context.root, words[0]).pause()
    return 0


def _resume(context: Context, options: Any, words: list[str]) -> int:
    container.load(context.root, words[0]).resume()
    return 0


def _run(context: Context, options: Any, words: list[str]) -> int:
    from pycontain.cli import oci_run

    return oci_run.run(context, options, words)


def _exec(context: Context, options: Any, words: list[str]) -> int:
    from pycontain.cli import oci_run

    return oci_run.exec(context, options, words)


def _launch_options(
    context: Context, options: Any, process: Any, *, detached: bool
) -> LaunchOptions:
    """Return what launch needs from the command line and the caller's descriptors."""
    from pycontain.runtime.launch import LaunchOptions

    launch = LaunchOptions()
    launch.preserve_fds = preserved(options, process)
    terminal = bool(process.get("terminal"))
    if terminal and detached and not options.console_socket:
        raise UsageError(
            "cannot allocate tty if we will detach without setting console socket",
            hint="use --console-socket",
        )
    if options.console_socket:
        if not terminal or not detached:
            raise UsageError("cannot use console socket if we will not detach or allocate tty")
        launch.console = connect(options.console_socket)
    launch.no_pivot = bool(getattr(options, "no_pivot", False))
    launch.no_new_keyring = bool(getattr(options, "no_new_keyring", False))
    return launch


launch_options = _launch_options


def preserved(options: Any, process: Any) -> int:
    """Return how many descriptors from 3 on the process gets: socket activation and --preserve-fds.

    Sets LISTEN_FDS and LISTEN_PID of the process for the former (sd_listen_fds(3)).
    """
    listen = posix.environ.get(b"LISTEN_FDS", b"").decode("ascii", "replace")
    owner = posix.environ.get(b"LISTEN_PID", b"").decode("ascii", "replace")
    passed: int = 0
    if listen and owner in ("", str(posix.getpid())):
        passed = table.whole_number("LISTEN_FDS", listen)
        process["env"] = [*process.get("env", []), f"LISTEN_FDS={passed}", "LISTEN_PID=1"]
    if options.preserve_fds < 0:
        raise UsageError("--preserve-fds must not be negative")
    total = passed + options.preserve_fds
    if total == 1 and not passed and not _is_open(3):
        raise UsageError("preserved-fd 0 (of 1) is not open")
    _occupy(range(3, 3 + total))
    return int(total)


def _is_open(number: int) -> bool:
    try:
        posix.fstat(number)
    except OSError:
        return False
    return True


def _occupy(numbers: range) -> None:
    """Fill the free ones among `numbers`, so that nothing of ours is handed on in their place.

    One descriptor that was promised has to be there; a larger number is taken for a bound, as crun
    does. What fills a place is closed by the exec.
    """
    for number in numbers:
        if _is_open(number):
            continue
        try:
            posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            raise UsageError(f"--preserve-fds: no room for descriptor {number}") from None


def connect(path: str, what: str = "console socket") -> int:
    """Return a socket connected to `path`."""
    import _socket

    from pycontain.errors import KernelError

    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.connect(path)
    except OSError as error:
        socket.close()
        raise KernelError(f"connect to {what}", path, error.errno or 22) from None
    return socket.detach()


PIDFD_ANNOTATION = "run.oci.pidfd_receiver"


def announce(options: Any, pid: int, annotations: Mapping[str, str] | None = None) -> None:
    """Tell the caller which process was started, the ways he asked for."""
    if annotations and PIDFD_ANNOTATION in annotations:
        _send_pidfd(annotations[PIDFD_ANNOTATION], pid)
    if options.pidfd_socket:
        _send_pidfd(options.pidfd_socket, pid)
    if options.pid_file:
        write_pid_file(options.pid_file, pid)


def _send_pidfd(path: str, pid: int) -> None:
    import _socket

    from pycontain.errors import KernelError

    socket = _socket.socket(fileno=connect(path, "pidfd socket"))
    try:
        pidfd = posix.pidfd_open(pid)
        try:
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pidfd.to_bytes(4, "little"))
            socket.sendmsg([b"pidfd"], [rights])
        finally:
            posix.close(pidfd)
    except OSError as error:
        raise KernelError("send pidfd to", path, error.errno or 22) from None
    finally:
        socket.close()


def write_pid_file(path: str, pid: int) -> None:
    """Write the digits of `pid`, and nothing else, to `path` by rename.

    A device, a fifo or a directory of that name is not replaced: InvalidError.
    """
    if states.exists(path) and posix.lstat(path).st_mode & 0o170000 not in (0o100000, 0o120000):
        from pycontain.errors import InvalidError

        raise InvalidError(f"--pid-file {path}: exists and is not a regular file")
    states.write_file(path, str(pid).encode(), 0o644)


def put(data: bytes) -> None:
    """Write all of `data` to standard output; raises KernelError."""
    while data:
        try:
            data = data[posix.write(1, data) :]
        except OSError as error:
            from pycontain.errors import KernelError

            raise KernelError("write to standard output", "", error) from None


_HOT: dict[str, Run] = {
    "create": _create,
    "start": _start,
    "state": _state,
    "kill": _kill,
    "delete": _delete,
    "exec": _exec,
    "run": _run,
    "ps": _ps,
    "pause": _pause,
    "resume": _resume,
}
