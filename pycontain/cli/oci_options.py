"""The command line of `pycontain-oci` as data, and its parser.

The words are runc's, fixed by what engines send; so the table is written by hand and small, and the
parser knows nothing but it. Help is made of the same table (`oci_help`). Tuples, not objects: the
table is loaded for every call.
"""

from __future__ import annotations

from pycontain.errors import UsageError

TYPE_CHECKING = False

FLAG = 0
TEXT = 1
NUMBER = 2
LIST = 3
MANY = 1 << 30


if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Option: TypeAlias = tuple[str, int, str, str]
    """Names ("--bundle -b"), kind, what stands for the value in help, help."""

    Verb: TypeAlias = tuple[str, str, int, int, bool, str, tuple[Option, ...]]
    """Help, arguments as help shows them, least and most of them, rest, example, options.

    `rest`: what follows the first argument belongs to the container's command.
    """


class Options:
    """Parsed options as attributes; one that was not given is False, "", 0 or []."""

    def __init__(self, table: Sequence[Option]) -> None:
        self.given: set[str] = set()
        for names, kind, _, _ in table:
            setattr(self, key_of(names), [] if kind == LIST else _EMPTY[kind])

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


_EMPTY = (False, "", 0)


def key_of(names: str) -> str:
    """Return the attribute of an option: `--pid-file` gives pid_file."""
    return names.partition(" ")[0][2:].replace("-", "_")


def parse(
    arguments: Sequence[str], table: Sequence[Option], *, rest: bool
) -> tuple[Options, list[str]]:
    """Return options and positional arguments; raises UsageError.

    With `rest` everything from the first positional argument on is left alone, without it options
    may also follow (crun's way; runc wants them first).
    """
    names = {name: option for option in table for name in option[0].split()}
    options = Options(table)
    positional: list[str] = []
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        index += 1
        if argument == "--":
            return options, positional + list(arguments[index:])
        if argument == "-" or not argument.startswith("-"):
            positional.append(argument)
            if rest:
                return options, positional + list(arguments[index:])
            continue
        name, equals, value = argument.partition("=")
        # Go's flags take one dash as well: -bundle.
        option = names.get(name) or names.get("-" + name)
        if option is None:
            _bundled(argument, names, options)
            continue
        if option[1] != FLAG and not equals:
            if index >= len(arguments):
                raise UsageError(f"option {name} needs a value")
            value = arguments[index]
            index += 1
        _store(options, option, name, value, bool(equals))
    return options, positional


def _bundled(argument: str, names: dict[str, Option], options: Options) -> None:
    letters = [names.get("-" + letter) for letter in argument[1:]]
    if argument.startswith("--") or not letters or not all(o and o[1] == FLAG for o in letters):
        raise UsageError(f"flag provided but not defined: {argument.partition('=')[0]}")
    for option in letters:
        if option is not None:
            _store(options, option, argument, "", False)


def _store(options: Options, option: Option, name: str, value: str, equals: bool) -> None:
    key, kind = key_of(option[0]), option[1]
    options.given.add(key)
    if kind == FLAG:
        setattr(options, key, _truth(name, value) if equals else True)
    elif kind == TEXT:
        setattr(options, key, value)
    elif kind == LIST:
        getattr(options, key).append(value)
    else:
        setattr(options, key, whole_number(name, value))


def _truth(name: str, value: str) -> bool:
    word = value.lower()
    if word in ("1", "t", "true"):
        return True
    if word in ("0", "f", "false"):
        return False
    raise UsageError(f"option {name}: {value!r} is neither true nor false")


def whole_number(name: str, value: str) -> int:
    """Return the decimal number `value`; raises UsageError that names the option."""
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise UsageError(f"option {name}: {value!r} is no whole number")
    return int(value)


HELP: Option = ("--help -h", FLAG, "", "show this help")

GLOBALS: tuple[Option, ...] = (
    ("--root", TEXT, "DIR", "directory of container state [/run/pycontain-oci]"),
    ("--log", TEXT, "FILE", "append messages to FILE instead of standard error"),
    ("--log-format", TEXT, "text|json", "format of messages [text]"),
    ("--debug", FLAG, "", "log what is done"),
    ("--systemd-cgroup", FLAG, "", "the same as --cgroup-manager systemd"),
    ("--cgroup-manager", TEXT, "NAME", "cgroupfs, systemd or disabled [cgroupfs]"),
    ("--rootless", TEXT, "WHEN", "true, false or auto: accepted, always detected"),
    ("--criu", TEXT, "FILE", "accepted and ignored"),
    ("--version -v", FLAG, "", "print the version"),
    HELP,
)

_BUNDLE: Option = ("--bundle -b", TEXT, "DIR", "the bundle [current directory]")
_CONSOLE: Option = ("--console-socket", TEXT, "SOCKET", "unix socket, gets the terminal's master")
_PIDFD: Option = ("--pidfd-socket", TEXT, "SOCKET", "unix socket, gets the process's pidfd")
_PID_FILE: Option = ("--pid-file", TEXT, "FILE", "write the process id to FILE")
_DETACH: Option = ("--detach -d", FLAG, "", "do not wait for the process")
_PRESERVE: Option = ("--preserve-fds", NUMBER, "N", "pass N more descriptors from 3 on")
_JSON: Option = ("--format -f", TEXT, "table|json", "output format [table]")
_CREATE: tuple[Option, ...] = (
    _BUNDLE,
    ("--config -f", TEXT, "FILE", "another file than the bundle's config.json"),
    _CONSOLE,
    _PIDFD,
    _PID_FILE,
    ("--no-pivot", FLAG, "", "do not use pivot_root (root file system on a ramdisk)"),
    ("--no-new-keyring", FLAG, "", "keep the session keyring of the caller"),
    _PRESERVE,
    HELP,
)

VERBS: dict[str, Verb] = {
    "create": (
        "make a container; its program waits for start", "ID", 1, 1, False,
        "create --bundle /srv/web --pid-file /run/web.pid web",
        _CREATE,
    ),
    "start": (
        "run a created container's program", "ID", 1, 1, False,
        "start web",
        (HELP,),
    ),
    "state": (
        "print a container's state as JSON", "ID", 1, 1, False,
        "state web",
        (HELP,),
    ),
    "kill": (
        "send a signal to a container's init process", "ID [SIGNAL]", 1, 2, False,
        "kill web SIGTERM",
        (
            ("--all -a", FLAG, "", "send it to every process of the container"),
            HELP,
        ),
    ),
    "delete": (
        "remove a stopped container", "ID", 1, 1, False,
        "delete --force web",
        (
            ("--force -f", FLAG, "", "kill it if it runs; an unknown ID is no error"),
            ("--regex", FLAG, "", "ID is a regular expression: every container it matches"),
            HELP,
        ),
    ),
    "run": (
        "create and start a container, wait for it and delete it", "ID", 1, 1, False,
        "run --bundle /srv/web web",
        (
            *_CREATE,
            _DETACH,
            ("--keep", FLAG, "", "do not delete it when it ends"),
            ("--no-subreaper", FLAG, "", "accepted and ignored"),
        ),
    ),
    "exec": (
        "run another process in a container", "ID COMMAND [ARG...]", 1, MANY, True,
        "exec --tty --cwd /srv web sh",
        (
            _CONSOLE,
            _PIDFD,
            ("--cwd", TEXT, "DIR", "working directory"),
            ("--env -e", LIST, "NAME=VALUE", "add to the environment"),
            ("--tty -t", FLAG, "", "give it a terminal"),
            ("--user -u", TEXT, "UID[:GID]", "run as this user"),
            ("--additional-gids -g", LIST, "GID", "add a supplementary group"),
            ("--process -p", TEXT, "FILE", "the process as JSON, as in config.json"),
            _DETACH,
            _PID_FILE,
            ("--process-label", TEXT, "LABEL", "SELinux label"),
            ("--apparmor", TEXT, "PROFILE", "AppArmor profile"),
            ("--no-new-privs", FLAG, "", "set no_new_privs"),
            ("--cap -c", LIST, "CAP_NAME", "add a capability to all sets but the inheritable"),
            _PRESERVE,
            ("--cgroup", LIST, "[CONTROLLER:]PATH", "join this cgroup below the container's"),
            ("--ignore-paused", FLAG, "", "exec in a paused container too"),
            HELP,
        ),
    ),
    "list": (
        "list the containers", "", 0, 0, False,
        "list --format json",
        (
            _JSON,
            ("--quiet -q", FLAG, "", "print ids only"),
            HELP,
        ),
    ),
    "ps": (
        "list the processes of a container", "ID [PS-OPTION...]", 1, MANY, True,
        "ps --format json web",
        (_JSON, HELP),
    ),
    "pause": (
        "freeze a container", "ID", 1, 1, False,
        "pause web",
        (HELP,),
    ),
    "resume": (
        "thaw a paused container", "ID", 1, 1, False,
        "resume web",
        (HELP,),
    ),
    "update": (
        "change the resource limits of a container", "ID", 1, 1, False,
        "update --memory 64m --cpu-quota 50000 web",
        (
            ("--resources -r", TEXT, "FILE|-", "LinuxResources object; absent fields stay"),
            ("--blkio-weight", TEXT, "N", "10 to 1000"),
            ("--cpu-period", TEXT, "USEC", "length of a CPU period"),
            ("--cpu-quota", TEXT, "USEC", "CPU time in a period, -1 for no limit"),
            ("--cpu-burst", TEXT, "USEC", "CPU time that may be saved up"),
            ("--cpu-share --cpu-shares", TEXT, "N", "relative weight"),
            ("--cpu-rt-period", TEXT, "USEC", "length of a real-time period"),
            ("--cpu-rt-runtime", TEXT, "USEC", "real-time CPU time in a period"),
            ("--cpuset-cpus", TEXT, "LIST", "CPUs to use, 0-3,7"),
            ("--cpuset-mems", TEXT, "LIST", "memory nodes to use"),
            ("--cpu-idle", TEXT, "0|1", "SCHED_IDLE for the whole cgroup"),
            ("--memory", TEXT, "BYTES", "memory limit (k, m, g allowed), -1 for none"),
            ("--memory-reservation", TEXT, "BYTES", "soft limit"),
            ("--memory-swap", TEXT, "BYTES", "memory and swap together, -1 for no limit"),
            ("--kernel-memory", TEXT, "BYTES", "accepted and ignored, as the kernel does"),
            ("--kernel-memory-tcp", TEXT, "BYTES", "accepted and ignored"),
            ("--pids-limit", TEXT, "N", "number of tasks, -1 for no limit"),
            ("--l3-cache-schema", TEXT, "L3:0=MASK;...", "parts of the L3 cache to use (resctrl)"),
            ("--mem-bw-schema", TEXT, "MB:0=N;...", "memory bandwidth to use (resctrl)"),
            HELP,
        ),
    ),
    "events": (
        "print statistics and out-of-memory events as JSON lines", "ID", 1, 1, False,
        "events --stats web",
        (
            ("--stats", FLAG, "", "print the statistics once"),
            ("--interval", TEXT, "TIME", "time between two lines, 500ms, 5s, 1m [5s]"),
            HELP,
        ),
    ),
    "spec": (
        "write a config.json to start from", "", 0, 0, False,
        "spec --bundle /srv/web",
        (
            _BUNDLE,
            ("--rootless", FLAG, "", "for an ordinary user"),
            HELP,
        ),
    ),
    "features": (
        "print what is supported as JSON", "", 0, 0, False,
        "features",
        (HELP,),
    ),
    "checkpoint": (
        "not supported", "ID", 0, MANY, True,
        "",
        (),
    ),
    "restore": (
        "not supported", "ID", 0, MANY, True,
        "",
        (),
    ),
}  # fmt: skip
