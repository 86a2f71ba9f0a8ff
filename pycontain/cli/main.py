"""The click command line, made from the table: help, completion, mistakes, other groups.

`entry` comes here when the fast parser leaves a command line alone. The commands hand their raw
texts to `options.convert` like the fast parser does, so both mean the same.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pycontain.cli import commands, options
from pycontain.cli.fast import lookup
from pycontain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUPS = {
    "bench": ("pycontain.cli.bench", "bench_group"),
    "hypervisor": ("pycontain.cli.hypervisor", "group"),
    "vm": ("pycontain.cli.bench", "vm_group"),
    "volume": ("pycontain.cli.volumes", "group"),
}
"""Groups another module brings along: name to (module, attribute)."""
_VERB_KEY = "pycontain.globals"


class Verb(click.Command):
    """A click command of one table entry."""

    def __init__(self, command: options.Command) -> None:
        self.table = command
        super().__init__(
            command.name,
            params=[*map(_parameter, command.options), *_arguments(command)],
            help=command.help + "\n\n\b\nExample:\n  " + command.example,
            short_help=command.help,
            context_settings={"allow_interspersed_args": not command.passes},
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        plain, flags = explicit_flags(args, self.table.options, passes=self.table.passes)
        ctx.meta["pycontain.flags"] = flags
        return super().parse_args(ctx, plain)

    def invoke(self, ctx: click.Context) -> int:
        from pycontain.cli.entry import call

        return call(parsed_of(ctx, self.table))


class Commands(click.Group):
    """The verbs of the table and the mounted groups, each made when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*commands.VERBS, *GROUPS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in GROUPS:
            module, attribute = GROUPS[cmd_name]
            found: click.Command = getattr(import_module(module), attribute)
            return found
        command = commands.command_named(cmd_name)
        return Verb(command) if command else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        plain, flags = explicit_flags(args, commands.GLOBAL, passes=True)
        ctx.meta["pycontain.flags"] = flags
        rest = super().parse_args(ctx, plain)
        ctx.meta[_VERB_KEY] = options.convert(commands.GLOBAL, _raw(ctx, commands.GLOBAL))[0]
        return rest


def group() -> Commands:
    """Return the whole command line as a click group."""
    return Commands(
        "pycontain",
        params=list(map(_parameter, commands.GLOBAL)),
        help="Linux containers without a daemon.",
        epilog="pycontain COMMAND --help shows the options of a command and an example.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["--help"]},
    )


def table_group(name: str, help: str, table: Sequence[options.Command]) -> click.Group:
    """Return a group of verbs described like ours; their names begin with the group's."""
    made = click.Group(name, help=help)
    for command in table:
        made.add_command(Verb(command), command.name.removeprefix(name + " "))
    return made


def run(argv: Sequence[str]) -> int:
    """Run one command line through click; return its exit status. Raises our errors only."""
    root = click.version_option(_version(), "--version", prog_name="pycontain")(group())
    try:
        result = root.main(list(argv), prog_name="pycontain", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.ctx:
            from pycontain.cli import refused

            refused.check(error.ctx.command.name or "", error.option_name)
        path = (
            error.ctx.command_path
            if isinstance(error, click.UsageError) and error.ctx
            else "pycontain"
        )
        raise UsageError(_one_line(error.format_message()), hint=f"see {path} --help") from None
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


def parsed_of(ctx: click.Context, command: options.Command) -> options.Parsed:
    """Return what click parsed, converted by the table."""
    raw = _raw(ctx, command.options)
    values, given = options.convert(command.options, raw)
    words = [str(word) for word in ctx.params["words"]]
    options.check_arguments(command, words)
    return options.Parsed(command, values, given, words, ctx.meta.get(_VERB_KEY, {}))


def explicit_flags(
    argv: Sequence[str], table: Sequence[options.Option], *, passes: bool
) -> tuple[list[str], dict[str, str]]:
    """Take `--flag=VALUE` out of a command line, and the equals sign out of `-x=VALUE`.

    click knows neither, docker both. Returns the rest and the last explicit value by dest; a flag
    that is also given bare counts by its last appearance.
    """
    known = lookup(table)
    rest: list[str] = []
    flags: dict[str, str] = {}
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--" or (passes and (word[:1] != "-" or word == "-")):
            rest.append(word)
            break
        name, equals, value = word.partition("=")
        option = known.get(name)
        if option is None:
            words, dests, wants = _cluster(word, known)
            rest.extend(words)
            flags.update(dests)
        else:
            wants = option.kind != "flag" and not equals
            if option.kind == "flag":
                flags[option.dest] = value if equals else "true"
            rest.extend(_plain(word, option))
        if wants and at < len(argv):
            rest.append(argv[at])
            at += 1
    return [*rest, *argv[at:]], flags


def _plain(word: str, option: options.Option) -> list[str]:
    name, equals, value = word.partition("=")
    if not equals:
        return [word]
    if option.kind == "flag":
        return []
    return [f"--{option.name}={value}"] if name.startswith("--") else [name, value]


def _cluster(word: str, known: dict[str, options.Option]) -> tuple[list[str], dict[str, str], bool]:
    """Return (words for click, flag values, a value follows) of `-itm=64m` and the like."""
    if word.startswith("--") or len(word) < 2 or word[0] != "-":
        return [word], {}, False
    flags: dict[str, str] = {}
    for at in range(1, len(word)):
        option = known.get("-" + word[at])
        if option is None:
            return [word], {}, False
        rest = word[at + 1 :]
        if option.kind == "flag" and rest.startswith("="):
            flags[option.dest] = rest[1:]
            return ([word[:at]] if at > 1 else []), flags, False
        if option.kind == "flag":
            flags[option.dest] = "true"
        elif rest.startswith("="):
            return [word[: at + 1], rest[1:]], flags, False
        else:
            return [word], flags, not rest
    return [word], flags, False


def _raw(ctx: click.Context, table: Sequence[options.Option]) -> options.Raw:
    raw: options.Raw = {}
    for option in table:
        value = ctx.params.get(option.dest)
        if ctx.get_parameter_source(option.dest) is not ParameterSource.COMMANDLINE:
            continue
        if option.kind == "flag":
            raw[option.dest] = "true"
        elif option.many:
            raw[option.dest] = [str(item) for item in value or ()]
        else:
            raw[option.dest] = str(value)
    flags: dict[str, str] = ctx.meta.get("pycontain.flags", {})
    raw.update(flags)
    return raw


def _parameter(option: options.Option) -> click.Option:
    names = [option.dest, "--" + option.name, *("--" + alias for alias in option.aliases)]
    if option.short:
        names.append("-" + option.short)
    text = option.help + (f"  [default: {option.default}]" if option.default else "")
    how: dict[str, Any] = {"help": text, "multiple": option.many}
    if option.kind == "flag":
        how["is_flag"] = True
    else:
        how |= {"metavar": option.metavar, "type": _type(option)}
    return click.Option(names, **how)


def _type(option: options.Option) -> click.ParamType[Any]:
    """Return click's type: text, but for completion the words of a choice and names of files."""
    if option.name in ("env-file", "label-file", "cidfile", "input"):
        return click.Path()
    if option.name in ("root", "state"):
        return click.Path()
    return click.STRING


def _arguments(command: options.Command) -> list[click.Argument]:
    """Return one argument that takes every positional: `check_arguments` counts them."""
    if not command.arguments:
        return [click.Argument(["words"], nargs=-1, metavar="", type=click.UNPROCESSED)]
    word = command.arguments[0][0]
    return [
        click.Argument(
            ["words"], nargs=-1, metavar=options.usage(command), type=click.UNPROCESSED,
            shell_complete=_completer(word),
        )
    ]  # fmt: skip


def _completer(word: str) -> Any:
    """Return click's completion callback for a positional: names of containers or images."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from pycontain.cli import complete as completion

        return completion.names(word, incomplete)

    return complete


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line[:1].lower() + line[1:]


def _version() -> str:
    from pycontain.cli.system import VERSION

    return VERSION
