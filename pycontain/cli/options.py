"""The one description of an option and of a command: name, kind, help, default.

`fast.py` parses hot verbs by it and `main.py` makes click commands of it; both end in `convert`,
so a value means the same whichever read it. The tables themselves are in `commands.py` (all verbs)
and `run_options.py` (what `run` and `create` take).
"""

from __future__ import annotations

from pycontain.errors import UsageError
from pycontain.spec import files, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Raw: TypeAlias = "dict[str, str | list[str]]"

CONVERTERS: dict[str, Callable[[str, str], object]] = {
    "flag": values.boolean,
    "text": values.text_value,
    "int": values.integer,
    "natural": values.natural,
    "bytes": values.size_bytes,
    "swap": values.swap_bytes,
    "cpus": values.nano_cpus,
    "cpulist": values.cpu_list,
    "rate": values.rate,
    "operations": values.operations,
    "weight": values.operations,
    "ulimit": values.ulimit,
    "name": values.container_name,
    "hostname": values.host_name,
    "user": values.identity,
    "group": values.group,
    "variable": values.variable,
    "pair": values.key_value,
    "setting": values.setting,
    "umask": values.umask,
    "volume": files.volume,
    "mount": files.mount,
    "tmpfs": files.tmpfs,
    "device": files.device,
    "device-rule": files.device_rule,
    "capability": values.capability,
    "offset": values.offset,
    "signal": values.signal_number,
    "seconds": values.seconds,
    "address": values.address,
    "domain": values.domain,
    "resolver": values.resolver_option,
    "host": values.extra_host,
    "restart": values.restart_policy,
    "driver": values.choice("json-file", "none"),
    "log-option": values.log_option,
    "volume-driver": values.choice("local"),
    "format": values.choice("json", "table"),
    "error-format": values.choice("text", "json"),
    "manager": values.choice("cgroupfs", "systemd", "disabled"),
    "platform": values.platform,
    "pull": values.pull_policy,
    "ports": values.port_range,
}
"""What turns an option's text into its value, by kind."""


class Option:
    """One option of a command.

    name     long name without dashes; dest is its Python name
    short    one letter, or ""
    kind     key of CONVERTERS
    metavar  word for the value in the help
    many     may be repeated; its value is a list
    aliases  further long names
    default  shown in the help; the value itself is the handler's
    ours     docker has no such option
    """

    __slots__ = (
        "aliases",
        "default",
        "dest",
        "help",
        "kind",
        "many",
        "metavar",
        "name",
        "ours",
        "short",
    )

    def __init__(
        self,
        name: str,
        short: str,
        kind: str,
        metavar: str,
        help: str,  # the field's word, as in click
        *,
        many: bool = False,
        aliases: tuple[str, ...] = (),
        default: str = "",
        ours: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.metavar = metavar
        self.help = help
        self.many = many
        self.aliases = aliases
        self.default = default
        self.ours = ours
        self.dest = name.replace("-", "_")


class Command:
    """One verb: its options, its arguments and the function that carries it out.

    arguments  (name, least, most) of each positional; most -1 is "the rest"
    passes     options end at the first positional: what follows belongs to the container's command
    handler    "module:function" under pycontain.cli, called with (Parsed) -> exit status
    """

    __slots__ = ("arguments", "example", "handler", "help", "name", "options", "passes")

    def __init__(
        self,
        name: str,
        handler: str,
        arguments: tuple[tuple[str, int, int], ...],
        options: Sequence[Option],
        help: str,  # the field's word, as in click
        example: str,
        *,
        passes: bool = False,
    ) -> None:
        self.name = name
        self.handler = handler
        self.arguments = arguments
        self.options = options
        self.help = help
        self.example = example
        self.passes = passes


class Parsed:
    """A command line that was understood.

    values     option dest -> value, given ones only
    given      option dest -> the words as given ("--memory 64m"), for --explain
    arguments  positional texts
    globals    values of the options before the verb
    """

    __slots__ = ("arguments", "command", "given", "globals", "values")

    def __init__(
        self,
        command: Command,
        values: dict[str, object],
        given: dict[str, str],
        arguments: list[str],
        globals: dict[str, object],  # the field's word
    ) -> None:
        self.command = command
        self.values = values
        self.given = given
        self.arguments = arguments
        self.globals = globals

    def flag(self, dest: str) -> bool:
        return bool(self.values.get(dest))

    def text(self, dest: str, default: str = "") -> str:
        value = self.values.get(dest, default)
        return value if isinstance(value, str) else default

    def many(self, dest: str) -> list[str]:
        value = self.values.get(dest, [])
        return value if isinstance(value, list) else []


def convert(options: Sequence[Option], raw: Raw) -> tuple[dict[str, object], dict[str, str]]:
    """Return (values, given) of raw texts by dest, converted by kind; raises UsageError."""
    result: dict[str, object] = {}
    given: dict[str, str] = {}
    for option in options:
        text = raw.get(option.dest)
        if text is None:
            continue
        parse, what = CONVERTERS[option.kind], "--" + option.name
        if isinstance(text, list):
            result[option.dest] = [parse(item, what) for item in text]
            given[option.dest] = " ".join(f"{what} {item}" for item in text)
        else:
            result[option.dest] = parse(text, what)
            given[option.dest] = (
                what if option.kind == "flag" and text == "true" else f"{what} {text}"
            )
    return result, given


def check_arguments(command: Command, arguments: list[str]) -> None:
    """Raise UsageError when the number of positionals does not fit the command."""
    least = sum(minimum for _, minimum, _ in command.arguments)
    unbounded = any(most < 0 for _, _, most in command.arguments)
    most = sum(maximum for _, _, maximum in command.arguments)
    if len(arguments) < least or (len(arguments) > most and not unbounded):
        raise UsageError(
            f"usage: pycontain {command.name} [options] {usage(command)}",
            hint=f"see pycontain {command.name} --help",
        )


def usage(command: Command) -> str:
    """Return the positionals as the help shows them: `IMAGE [COMMAND...]`."""
    words = []
    for name, least, most in command.arguments:
        word = name + ("..." if most < 0 else "")
        words.append(word if least else f"[{word}]")
    return " ".join(words)
