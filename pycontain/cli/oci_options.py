"""The command line of `pycontain-oci` as data, and its parser.

The words are runc's, fixed by what engines send; so the table is written by hand and small, and the
parser knows nothing but it. Help is made of the same table (`oci_help`).
"""

from __future__ import annotations

from pycontain.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FLAG = 0
TEXT = 1
NUMBER = 2
LIST = 3


class Option:
    """One option: its names ("--bundle", "-b"), kind, what stands for the value in help, help."""

    __slots__ = ("about", "key", "kind", "metavar", "names")

    def __init__(self, names: str, kind: int, metavar: str, about: str) -> None:
        self.names = names.split()
        self.key = self.names[0][2:].replace("-", "_")
        self.kind = kind
        self.metavar = metavar
        self.about = about


class Verb:
    """One verb: positional arguments as help shows them, least and most of them, options.

    `rest`: what follows the first positional argument belongs to the container's command.
    """

    __slots__ = ("about", "arguments", "example", "least", "most", "options", "rest")

    def __init__(
        self,
        about: str,
        arguments: str,
        least: int,
        most: int,
        options: Sequence[Option] = (),
        *,
        example: str = "",
        rest: bool = False,
    ) -> None:
        self.about = about
        self.arguments = arguments
        self.least = least
        self.most = most
        self.options = options
        self.example = example
        self.rest = rest


class Options:
    """Parsed options; an option that was not given is False, "", 0 or []."""

    def __init__(self, table: Sequence[Option]) -> None:
        self.given: set[str] = set()
        for option in table:
            setattr(self, option.key, (False, "", 0, [])[option.kind] if option.kind < 3 else [])

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name)


def parse(
    arguments: Sequence[str], table: Sequence[Option], *, rest: bool
) -> tuple[Options, list[str]]:
    """Return options and positional arguments; raises UsageError.

    With `rest` everything from the first positional argument on is left alone, without it options
    may also follow (crun's way; runc wants them first).
    """
    names = {name: option for option in table for name in option.names}
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
        option = names.get(name) or names.get("-" + name)
        if option is None:
            _bundled(argument, names, options)
            continue
        if option.kind != FLAG and not equals:
            if index >= len(arguments):
                raise UsageError(f"option {name} needs a value")
            value = arguments[index]
            index += 1
        _store(options, option, name, value, bool(equals))
    return options, positional


def _bundled(argument: str, names: dict[str, Option], options: Options) -> None:
    letters = [names.get("-" + letter) for letter in argument[1:]]
    if argument.startswith("--") or not letters or not all(o and o.kind == FLAG for o in letters):
        raise UsageError(f"flag provided but not defined: {argument.partition('=')[0]}")
    for option in letters:
        if option is not None:
            _store(options, option, argument, "", False)


def _store(options: Options, option: Option, name: str, value: str, equals: bool) -> None:
    options.given.add(option.key)
    if option.kind == FLAG:
        setattr(options, option.key, _truth(name, value) if equals else True)
    elif option.kind == TEXT:
        setattr(options, option.key, value)
    elif option.kind == LIST:
        getattr(options, option.key).append(value)
    else:
        setattr(options, option.key, whole_number(name, value))


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


def _flag(names: str, about: str) -> Option:
    return Option(names, FLAG, "", about)


def _text(names: str, metavar: str, about: str) -> Option:
    return Option(names, TEXT, metavar, about)


def _number(names: str, metavar: str, about: str) -> Option:
    return Option(names, NUMBER, metavar, about)


def _list(names: str, metavar: str, about: str) -> Option:
    return Option(names, LIST, metavar, about)


HELP = _flag("--help -h", "show this help")

GLOBALS = (
    _text("--root", "DIR", "directory of container state [/run/pycontain-oci]"),
    _text("--log", "FILE", "append messages to FILE instead of standard error"),
    _text("--log-format", "text|json", "format of messages [text]"),
    _flag("--debug", "log what is done"),
    _flag("--systemd-cgroup", "the same as --cgroup-manager systemd"),
    _text("--cgroup-manager", "NAME", "cgroupfs, systemd or disabled [cgroupfs]"),
    _text("--rootless", "WHEN", "true, false or auto: accepted, always detected"),
    _text("--criu", "FILE", "accepted and ignored"),
    _flag("--version -v", "print the version"),
    HELP,
)

_BUNDLE = _text("--bundle -b", "DIR", "the bundle [current directory]")
_CONSOLE = _text("--console-socket", "SOCKET", "unix socket that receives the terminal's master")
_PID_FILE = _text("--pid-file", "FILE", "write the process id to FILE")
_DETACH = _flag("--detach -d", "do not wait for the process")
_PRESERVE = _number("--preserve-fds", "N", "pass N more descriptors from 3 on")
_CREATE = (
    _BUNDLE,
    _text("--config -f", "FILE", "another file than the bundle's config.json"),
    _CONSOLE,
    _PID_FILE,
    _flag("--no-pivot", "do not use pivot_root (root file system on a ramdisk)"),
    _flag("--no-new-keyring", "keep the session keyring of the caller"),
    _PRESERVE,
    HELP,
)
_JSON = _text("--format -f", "table|json", "output format [table]")

VERBS: dict[str, Verb] = {
    "create": Verb(
        "make a container; its program waits for start", "ID", 1, 1, _CREATE,
        example="create --bundle /srv/web --pid-file /run/web.pid web",
    ),
    "start": Verb("run a created container's program", "ID", 1, 1, (HELP,), example="start web"),
    "state": Verb("print a container's state as JSON", "ID", 1, 1, (HELP,), example="state web"),
    "kill": Verb(
        "send a signal to a container's init process", "ID [SIGNAL]", 1, 2,
        (_flag("--all -a", "send it to every process of the container"), HELP),
        example="kill web SIGTERM",
    ),
    "delete": Verb(
        "remove a stopped container", "ID", 1, 1,
        (_flag("--force -f", "kill it if it runs; an unknown ID is no error"), HELP),
        example="delete --force web",
    ),
    "run": Verb(
        "create and start a container, wait for it and delete it", "ID", 1, 1,
        (
            *_CREATE[:-1], _DETACH, _flag("--keep", "do not delete it when it ends"),
            _flag("--no-subreaper", "accepted and ignored"), HELP,
        ),
        example="run --bundle /srv/web web",
    ),
    "exec": Verb(
        "run another process in a container", "ID COMMAND [ARG...]", 1, 1 << 30,
        (
            _CONSOLE,
            _text("--cwd", "DIR", "working directory"),
            _list("--env -e", "NAME=VALUE", "add to the environment"),
            _flag("--tty -t", "give it a terminal"),
            _text("--user -u", "UID[:GID]", "run as this user"),
            _list("--additional-gids -g", "GID", "add a supplementary group"),
            _text("--process -p", "FILE", "the process as JSON, as in config.json"),
            _DETACH,
            _PID_FILE,
            _text("--process-label", "LABEL", "SELinux label"),
            _text("--apparmor", "PROFILE", "AppArmor profile"),
            _flag("--no-new-privs", "set no_new_privs"),
            _list("--cap -c", "CAP_NAME", "add a capability to every set"),
            _PRESERVE,
            _list("--cgroup", "[CONTROLLER:]PATH", "join this cgroup below the container's"),
            _flag("--ignore-paused", "exec in a paused container too"),
            HELP,
        ),
        example="exec --tty --cwd /srv web sh", rest=True,
    ),
    "list": Verb(
        "list the containers", "", 0, 0, (_JSON, _flag("--quiet -q", "print ids only"), HELP),
        example="list --format json",
    ),
    "ps": Verb(
        "list the processes of a container", "ID [PS-OPTION...]", 1, 1 << 30, (_JSON, HELP),
        example="ps --format json web", rest=True,
    ),
    "pause": Verb("freeze a container", "ID", 1, 1, (HELP,), example="pause web"),
    "resume": Verb("thaw a paused container", "ID", 1, 1, (HELP,), example="resume web"),
    "update": Verb(
        "change the resource limits of a container", "ID", 1, 1,
        (
            _text("--resources -r", "FILE|-", "LinuxResources object; absent fields stay"),
            _text("--blkio-weight", "N", "10 to 1000"),
            _text("--cpu-period", "USEC", "length of a CPU period"),
            _text("--cpu-quota", "USEC", "CPU time in a period, -1 for no limit"),
            _text("--cpu-burst", "USEC", "CPU time that may be saved up"),
            _text("--cpu-share --cpu-shares", "N", "relative weight"),
            _text("--cpu-rt-period", "USEC", "length of a real-time period"),
            _text("--cpu-rt-runtime", "USEC", "real-time CPU time in a period"),
            _text("--cpuset-cpus", "LIST", "CPUs to use, 0-3,7"),
            _text("--cpuset-mems", "LIST", "memory nodes to use"),
            _text("--cpu-idle", "0|1", "SCHED_IDLE for the whole cgroup"),
            _text("--memory", "BYTES", "memory limit (k, m, g allowed), -1 for none"),
            _text("--memory-reservation", "BYTES", "soft limit"),
            _text("--memory-swap", "BYTES", "memory and swap together, -1 for no limit"),
            _text("--kernel-memory", "BYTES", "accepted and ignored, as the kernel does"),
            _text("--kernel-memory-tcp", "BYTES", "accepted and ignored"),
            _text("--pids-limit", "N", "number of tasks, -1 for no limit"),
            _text("--l3-cache-schema", "TEXT", "refused: no resource control"),
            _text("--mem-bw-schema", "TEXT", "refused: no resource control"),
            HELP,
        ),
        example="update --memory 64m --cpu-quota 50000 web",
    ),
    "events": Verb(
        "print statistics and out-of-memory events as JSON lines", "ID", 1, 1,
        (
            _flag("--stats", "print the statistics once"),
            _text("--interval", "TIME", "time between two lines, 500ms, 5s, 1m [5s]"),
            HELP,
        ),
        example="events --stats web",
    ),
    "spec": Verb(
        "write a config.json to start from", "", 0, 0,
        (_BUNDLE, _flag("--rootless", "for an ordinary user"), HELP),
        example="spec --bundle /srv/web",
    ),
    "features": Verb("print what is supported as JSON", "", 0, 0, (HELP,), example="features"),
    "checkpoint": Verb("not supported", "ID", 0, 1 << 30, (), rest=True),
    "restore": Verb("not supported", "ID", 0, 1 << 30, (), rest=True),
}  # fmt: skip
