"""Every verb of `pycontain`: its options, its arguments, its example and who carries it out."""

from __future__ import annotations

from pycontain.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GLOBAL = (
    Option(
        "root",
        "",
        "text",
        "DIR",
        "where images and containers are kept",
        default="/var/lib/pycontain",
    ),
    Option("state", "", "text", "DIR", "run-time state, on a tmpfs", default="/run/pycontain"),
    Option("error-format", "", "error-format", "FORMAT", "errors as text or json", default="text"),
    Option(
        "cgroup-manager",
        "",
        "manager",
        "MANAGER",
        "cgroupfs, systemd or disabled",
        default="cgroupfs",
    ),
    Option(
        "runtime", "", "text", "PATH", "OCI runtime to hand bundles to", default="pycontain's own"
    ),
)

FORMAT = Option("format", "", "format", "FORMAT", "table or json", default="table")
ROWS = Option(
    "format", "", "text", "FORMAT", "table, json or a template: '{{.ID}}'", default="table"
)
QUIET = Option("quiet", "q", "flag", "", "print ids only")
NO_TRUNC = Option("no-trunc", "", "flag", "", "do not shorten ids and commands")
FILTER = Option("filter", "f", "setting", "KEY=VALUE", "show only what matches", many=True)
TIME = Option(
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
    Option("detach", "d", "flag", "", "do not wait for the command"),
    Option("env", "e", "variable", "NAME[=VALUE]", "environment variable", many=True),
    Option("env-file", "", "text", "FILE", "file of environment variables", many=True),
    Option("interactive", "i", "flag", "", "connect standard input"),
    Option("privileged", "", "flag", "", "every capability of the container's bounding set"),
    Option("tty", "t", "flag", "", "give the command a terminal"),
    Option("user", "u", "user", "USER[:GROUP]", "user by name or id", default="the container's"),
    Option("workdir", "w", "text", "DIR", "working directory", default="the container's"),
)

LOGS = (
    Option("follow", "f", "flag", "", "go on as the container writes"),
    Option("tail", "n", "text", "N", "the last N lines; all for every line", default="all"),
    Option("timestamps", "t", "flag", "", "start each line with its time"),
    Option(
        "since", "", "text", "TIME", "lines since a time (RFC 3339) or for a duration, e.g. 10m"
    ),
    Option("until", "", "text", "TIME", "lines before a time or a duration ago"),
)

PS = (
    Option("all", "a", "flag", "", "show stopped containers too"),
    Option("latest", "l", "flag", "", "show the latest container"),
    Option("last", "n", "natural", "N", "show the last N containers"),
    QUIET,
    NO_TRUNC,
    FILTER,
    ROWS,
)

FORCE_RM = (
    Option("force", "f", "flag", "", "kill it first when it runs"),
    Option("volumes", "v", "flag", "", "remove its anonymous volumes too"),
)

LOAD = (
    Option(
        "input",
        "i",
        "text",
        "FILE",
        "archive or layout directory; - is standard input",
        default="-",
    ),
    Option("tag", "t", "text", "NAME", "name for an archive that has none", ours=True),
    Option(
        "platform",
        "",
        "platform",
        "OS/ARCH",
        "platform to take from an index",
        default="this machine's",
    ),
    Option("quiet", "q", "flag", "", "no progress bar"),
)

IMPORT = (
    Option(
        "from-host",
        "",
        "flag",
        "",
        "build NAME from programs of this host: NAME PROGRAM...",
        ours=True,
    ),
    Option(
        "change",
        "c",
        "text",
        "INSTRUCTION",
        "CMD, ENV, ENTRYPOINT, USER or WORKDIR of the image",
        many=True,
    ),
    Option("message", "m", "text", "TEXT", "comment in the image's history"),
)

IMAGES = (
    Option("all", "a", "flag", "", "accepted; there are no intermediate images"),
    Option("digests", "", "flag", "", "show digests"),
    QUIET,
    NO_TRUNC,
    FILTER,
    ROWS,
)


def _run() -> Command:
    from pycontain.cli.run_options import RUN

    return Command(
        "run",
        "containers:run",
        RUN_ARGUMENTS,
        RUN,
        "Run a command in a new container.",
        "pycontain run --rm --memory 64m --cpus 0.5 busybox sh -c 'hostname; id'",
        passes=True,
    )


def _create() -> Command:
    from pycontain.cli.run_options import CREATE

    return Command(
        "create",
        "containers:create",
        RUN_ARGUMENTS,
        CREATE,
        "Make a container without starting it.",
        "pycontain create --name web busybox httpd -f",
        passes=True,
    )


def _start() -> Command:
    options = (
        Option("attach", "a", "flag", "", "stay and show the output"),
        Option("interactive", "i", "flag", "", "connect standard input"),
    )
    return Command(
        "start",
        "containers:start",
        CONTAINERS,
        options,
        "Start created or stopped containers.",
        "pycontain start --attach web",
    )


def _exec() -> Command:
    return Command(
        "exec",
        "containers:exec_",
        (("CONTAINER", 1, 1), ("COMMAND", 1, 1), ("ARGUMENT", 0, -1)),
        EXEC,
        "Run a command in a running container.",
        "pycontain exec -it web sh",
        passes=True,
    )


def _stop() -> Command:
    signal = Option(
        "signal", "s", "signal", "SIGNAL", "signal to send first", default="the container's"
    )
    return Command(
        "stop",
        "containers:stop",
        CONTAINERS,
        (TIME, signal),
        "Stop running containers.",
        "pycontain stop -t 2 web",
    )


def _restart() -> Command:
    return Command(
        "restart",
        "containers:restart",
        CONTAINERS,
        (TIME,),
        "Stop containers and start them again.",
        "pycontain restart web",
    )


def _kill() -> Command:
    signal = Option("signal", "s", "signal", "SIGNAL", "signal to send", default="KILL")
    return Command(
        "kill",
        "containers:kill",
        CONTAINERS,
        (signal,),
        "Send a signal to running containers.",
        "pycontain kill -s HUP web",
    )


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
        "logs",
        "logs:logs",
        ONE_CONTAINER,
        LOGS,
        "Show what a detached container wrote.",
        "pycontain logs -f --tail 10 web",
    )


def _attach() -> Command:
    options = (
        Option("no-stdin", "", "flag", "", "show the output of a container that has an input"),
        Option("sig-proxy", "", "flag", "", "hand signals to the container", default="true"),
    )
    return Command(
        "attach",
        "logs:attach",
        ONE_CONTAINER,
        options,
        "Show what a running container writes from now on; end with its exit status.",
        "pycontain attach web",
    )


def _wait() -> Command:
    return Command(
        "wait",
        "containers:wait",
        CONTAINERS,
        (),
        "Wait for containers and print their exit status.",
        "pycontain wait web",
    )


def _pause() -> Command:
    return Command(
        "pause",
        "containers:pause",
        CONTAINERS,
        (),
        "Freeze every process of containers.",
        "pycontain pause web",
    )


def _unpause() -> Command:
    return Command(
        "unpause",
        "containers:unpause",
        CONTAINERS,
        (),
        "Let frozen containers go on.",
        "pycontain unpause web",
    )


def _rename() -> Command:
    return Command(
        "rename",
        "containers:rename",
        (("CONTAINER", 1, 1), ("NAME", 1, 1)),
        (),
        "Rename a container.",
        "pycontain rename web old-web",
    )


def _stats() -> Command:
    options = (
        Option("no-stream", "", "flag", "", "accepted; one sample is printed"),
        NO_TRUNC,
        ROWS,
    )
    return Command(
        "stats",
        "listing:stats",
        (("CONTAINER", 0, -1),),
        options,
        "Show what containers use.",
        "pycontain stats web",
    )


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
        Option("format", "f", "text", "FORMAT", "json or a template: '{{.Id}}'", default="json"),
        Option(
            "type", "", "text", "TYPE", "container, image or volume", default="whichever exists"
        ),
    )
    return Command(
        "inspect",
        "listing:inspect",
        (("NAME", 1, 1), ("NAME", 0, -1)),
        options,
        "Show everything known about containers, images or volumes.",
        "pycontain inspect web",
    )


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
        "import",
        "images:import_",
        (("SOURCE", 1, 1), ("NAME", 0, -1)),
        IMPORT,
        "Make an image from a root file system archive, or from programs of this host.",
        "pycontain import --from-host tools /bin/sh /bin/ls",
    )


def _rmi() -> Command:
    force = Option("force", "f", "flag", "", "untag even when a container uses it")
    return Command(
        "rmi",
        "images:rmi",
        (("IMAGE", 1, 1), ("IMAGE", 0, -1)),
        (force,),
        "Remove images.",
        "pycontain rmi busybox",
    )


def _tag() -> Command:
    return Command(
        "tag",
        "images:tag",
        (("IMAGE", 1, 1), ("NAME", 1, 1)),
        (),
        "Give an image another name.",
        "pycontain tag busybox box:1",
    )


def _history() -> Command:
    return Command(
        "history",
        "images:history",
        (("IMAGE", 1, 1),),
        (QUIET, NO_TRUNC, ROWS),
        "Show the layers of an image and what made them.",
        "pycontain history busybox",
    )


def _version() -> Command:
    return Command(
        "version", "system:version", (), (FORMAT,), "Show versions.", "pycontain version"
    )


def _info() -> Command:
    return Command(
        "info", "system:info", (), (FORMAT,), "Show what this host offers.", "pycontain info"
    )


VERBS: dict[str, Callable[[], Command]] = {
    "run": _run,
    "create": _create,
    "start": _start,
    "exec": _exec,
    "stop": _stop,
    "restart": _restart,
    "kill": _kill,
    "rm": _rm,
    "ps": _ps,
    "logs": _logs,
    "attach": _attach,
    "wait": _wait,
    "pause": _pause,
    "unpause": _unpause,
    "rename": _rename,
    "stats": _stats,
    "top": _top,
    "inspect": _inspect,
    "images": _images,
    "load": _load,
    "import": _import,
    "rmi": _rmi,
    "tag": _tag,
    "history": _history,
    "version": _version,
    "info": _info,
}
"""Verb to its command; a function each, so one start builds one table."""


def command_named(name: str) -> Command | None:
    """Return the command of a verb, None when there is no such verb here."""
    make = VERBS.get(name)
    return make() if make else None
