"""Every verb of `pycontain`: its options, its arguments, its example and who carries it out."""

from __future__ import annotations

from pycontain.cli.options import Command
from pycontain.cli.options import Option as O

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GLOBAL = (
    O(
        "root",
        "",
        "text",
        "DIR",
        "where images and containers are kept",
        default="/var/lib/pycontain",
    ),
    O("state", "", "text", "DIR", "run-time state, on a tmpfs", default="/run/pycontain"),
    O("error-format", "", "error-format", "FORMAT", "errors as text or json", default="text"),
    O(
        "cgroup-manager",
        "",
        "manager",
        "MANAGER",
        "cgroupfs, systemd or disabled",
        default="cgroupfs",
    ),
    O("runtime", "", "text", "PATH", "OCI runtime to hand bundles to", default="pycontain's own"),
)

FORMAT = O("format", "", "format", "FORMAT", "table or json", default="table")
QUIET = O("quiet", "q", "flag", "", "print ids only")
NO_TRUNC = O("no-trunc", "", "flag", "", "do not shorten ids and commands")
FILTER = O("filter", "f", "setting", "KEY=VALUE", "show only what matches", many=True)
TIME = O(
    "time",
    "t",
    "int",
    "SECONDS",
    "wait this long before killing",
    default="10",
    aliases=("timeout",),
)

ONE_CONTAINER = (("CONTAINER", 1, 1),)
CONTAINERS = (("CONTAINER", 1, 1), ("CONTAINER", 0, -1))
RUN_ARGUMENTS = (("IMAGE", 1, 1), ("COMMAND", 0, -1))

EXEC = (
    O("detach", "d", "flag", "", "do not wait for the command"),
    O("env", "e", "variable", "NAME[=VALUE]", "environment variable", many=True),
    O("env-file", "", "text", "FILE", "file of environment variables", many=True),
    O("interactive", "i", "flag", "", "connect standard input"),
    O("privileged", "", "flag", "", "every capability of the container's bounding set"),
    O("tty", "t", "flag", "", "give the command a terminal"),
    O("user", "u", "user", "USER[:GROUP]", "user by name or id", default="the container's"),
    O("workdir", "w", "text", "DIR", "working directory", default="the container's"),
    O("detach-keys", "", "text", "KEYS", "accepted; detaching by keys is off"),
)

LOGS = (
    O("follow", "f", "flag", "", "go on as the container writes"),
    O("tail", "n", "text", "N", "the last N lines; all for every line", default="all"),
    O("timestamps", "t", "flag", "", "start each line with its time"),
    O("since", "", "text", "TIME", "lines since a time (RFC 3339) or for a duration, e.g. 10m"),
    O("until", "", "text", "TIME", "lines before a time or a duration ago"),
)

PS = (
    O("all", "a", "flag", "", "show stopped containers too"),
    O("latest", "l", "flag", "", "show the latest container"),
    O("last", "n", "natural", "N", "show the last N containers"),
    QUIET, NO_TRUNC, FILTER, FORMAT,
)  # fmt: skip

FORCE_RM = (
    O("force", "f", "flag", "", "kill it first when it runs"),
    O("volumes", "v", "flag", "", "remove its anonymous volumes too"),
)

LOAD = (
    O(
        "input",
        "i",
        "text",
        "FILE",
        "archive or layout directory; - is standard input",
        default="-",
    ),
    O("tag", "t", "text", "NAME", "name for an archive that has none", ours=True),
    O(
        "platform",
        "",
        "platform",
        "OS/ARCH",
        "platform to take from an index",
        default="this machine's",
    ),
    O("quiet", "q", "flag", "", "no progress bar"),
)

IMPORT = (
    O(
        "from-host",
        "",
        "flag",
        "",
        "build NAME from programs of this host: NAME PROGRAM...",
        ours=True,
    ),
    O(
        "change",
        "c",
        "text",
        "INSTRUCTION",
        "CMD, ENV, ENTRYPOINT, USER or WORKDIR of the image",
        many=True,
    ),
    O("message", "m", "text", "TEXT", "comment in the image's history"),
)

IMAGES = (
    O("all", "a", "flag", "", "accepted; there are no intermediate images"),
    O("digests", "", "flag", "", "show digests"),
    QUIET, NO_TRUNC, FILTER, FORMAT,
)  # fmt: skip


def _run() -> Command:
    from pycontain.cli.run_options import RUN

    return Command(
        "run", "containers:run", RUN_ARGUMENTS, RUN,
        "Run a command in a new container.",
        "pycontain run --rm --memory 64m --cpus 0.5 busybox sh -c 'hostname; id'", passes=True,
    )  # fmt: skip


def _create() -> Command:
    from pycontain.cli.run_options import CREATE

    return Command(
        "create", "containers:create", RUN_ARGUMENTS, CREATE,
        "Make a container without starting it.",
        "pycontain create --name web busybox httpd -f", passes=True,
    )  # fmt: skip


def _start() -> Command:
    options = (
        O("attach", "a", "flag", "", "stay and show the output"),
        O("interactive", "i", "flag", "", "connect standard input"),
    )
    return Command(
        "start", "containers:start", CONTAINERS, options, "Start created or stopped containers.",
        "pycontain start --attach web",
    )  # fmt: skip


def _exec() -> Command:
    return Command(
        "exec", "containers:exec_", (("CONTAINER", 1, 1), ("COMMAND", 1, 1), ("ARGUMENT", 0, -1)), EXEC,
        "Run a command in a running container.",
        "pycontain exec -it web sh", passes=True,
    )  # fmt: skip


def _stop() -> Command:
    signal = O("signal", "s", "signal", "SIGNAL", "signal to send first", default="the container's")
    return Command(
        "stop", "containers:stop", CONTAINERS, (TIME, signal), "Stop running containers.",
        "pycontain stop -t 2 web",
    )  # fmt: skip


def _restart() -> Command:
    return Command(
        "restart", "containers:restart", CONTAINERS, (TIME,), "Stop containers and start them again.",
        "pycontain restart web",
    )  # fmt: skip


def _kill() -> Command:
    signal = O("signal", "s", "signal", "SIGNAL", "signal to send", default="KILL")
    return Command(
        "kill", "containers:kill", CONTAINERS, (signal,), "Send a signal to running containers.",
        "pycontain kill -s HUP web",
    )  # fmt: skip


def _rm() -> Command:
    return Command(
        "rm", "containers:remove", CONTAINERS, FORCE_RM, "Remove containers.", "pycontain rm -f web"
    )


def _ps() -> Command:
    return Command(
        "ps", "listing:ps", (), PS, "List containers.", "pycontain ps -a --filter status=exited"
    )


def _logs() -> Command:
    return Command(
        "logs", "logs:logs", ONE_CONTAINER, LOGS, "Show what a detached container wrote.",
        "pycontain logs -f --tail 10 web",
    )  # fmt: skip


def _wait() -> Command:
    return Command(
        "wait", "containers:wait", CONTAINERS, (), "Wait for containers and print their exit status.",
        "pycontain wait web",
    )  # fmt: skip


def _pause() -> Command:
    return Command(
        "pause", "containers:pause", CONTAINERS, (), "Freeze every process of containers.",
        "pycontain pause web",
    )  # fmt: skip


def _unpause() -> Command:
    return Command(
        "unpause", "containers:unpause", CONTAINERS, (), "Let frozen containers go on.",
        "pycontain unpause web",
    )  # fmt: skip


def _rename() -> Command:
    return Command(
        "rename", "containers:rename", (("CONTAINER", 1, 1), ("NAME", 1, 1)), (), "Rename a container.",
        "pycontain rename web old-web",
    )  # fmt: skip


def _stats() -> Command:
    options = (O("no-stream", "", "flag", "", "accepted; one sample is printed"), NO_TRUNC, FORMAT)
    return Command(
        "stats", "listing:stats", (("CONTAINER", 0, -1),), options, "Show what containers use.",
        "pycontain stats web",
    )  # fmt: skip


def _top() -> Command:
    return Command(
        "top",
        "listing:top",
        ONE_CONTAINER,
        (),
        "List the processes of a container.",
        "pycontain top web",
    )


def _inspect() -> Command:
    options = (
        O("format", "f", "json", "FORMAT", "json", default="json"),
        O("type", "", "text", "TYPE", "container or image", default="whichever exists"),
    )
    return Command(
        "inspect", "listing:inspect", (("NAME", 1, 1), ("NAME", 0, -1)), options,
        "Show everything known about containers or images.", "pycontain inspect web",
    )  # fmt: skip


def _images() -> Command:
    return Command(
        "images", "images:images", (("NAME", 0, 1),), IMAGES, "List images.", "pycontain images -q"
    )


def _load() -> Command:
    return Command(
        "load",
        "images:load",
        (),
        LOAD,
        "Load images from an archive.",
        "pycontain load -i busybox.tar",
    )


def _import() -> Command:
    return Command(
        "import", "images:import_", (("SOURCE", 1, 1), ("NAME", 0, -1)), IMPORT,
        "Make an image from a root file system archive, or from programs of this host.",
        "pycontain import --from-host tools /bin/sh /bin/ls",
    )  # fmt: skip


def _rmi() -> Command:
    force = O("force", "f", "flag", "", "untag even when a container uses it")
    return Command(
        "rmi", "images:rmi", (("IMAGE", 1, 1), ("IMAGE", 0, -1)), (force,), "Remove images.",
        "pycontain rmi busybox",
    )  # fmt: skip


def _tag() -> Command:
    return Command(
        "tag", "images:tag", (("IMAGE", 1, 1), ("NAME", 1, 1)), (), "Give an image another name.",
        "pycontain tag busybox box:1",
    )  # fmt: skip


def _history() -> Command:
    return Command(
        "history", "images:history", (("IMAGE", 1, 1),), (QUIET, NO_TRUNC, FORMAT),
        "Show the layers of an image and what made them.", "pycontain history busybox",
    )  # fmt: skip


def _version() -> Command:
    return Command(
        "version", "system:version", (), (FORMAT,), "Show versions.", "pycontain version"
    )


def _info() -> Command:
    return Command(
        "info", "system:info", (), (FORMAT,), "Show what this host offers.", "pycontain info"
    )


VERBS: dict[str, Callable[[], Command]] = {
    "run": _run, "create": _create, "start": _start, "exec": _exec, "stop": _stop, "restart": _restart,
    "kill": _kill, "rm": _rm, "ps": _ps, "logs": _logs, "wait": _wait, "pause": _pause,
    "unpause": _unpause, "rename": _rename, "stats": _stats, "top": _top, "inspect": _inspect,
    "images": _images, "load": _load, "import": _import, "rmi": _rmi, "tag": _tag,
    "history": _history, "version": _version, "info": _info,
}  # fmt: skip
"""Verb to its command; a function each, so one start builds one table."""


def command_named(name: str) -> Command | None:
    """Return the command of a verb, None when there is no such verb here."""
    make = VERBS.get(name)
    return make() if make else None
