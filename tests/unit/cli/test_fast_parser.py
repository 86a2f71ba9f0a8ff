"""The fast parser and click read the same command line the same way."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli import commands, fast, main
from pycontain.cli.options import Command, Option, Parsed
from pycontain.errors import PycontainError, UsageError

SAMPLES = {
    "flag": ["true", "false", "1", "F"],
    "bytes": ["64m", "1.5g", "512k", "7"],
    "swap": ["-1", "1g"],
    "cpus": ["0.5", "2"],
    "cpulist": ["0-2,5"],
    "natural": ["0", "7"],
    "int": ["-1", "50"],
    "ulimit": ["nofile=1024:2048"],
    "rate": ["/dev/sda:1m"],
    "operations": ["/dev/sda:100"],
    "weight": ["/dev/sda:100"],
    "name": ["web-1"],
    "hostname": ["box.example"],
    "user": ["1000:1000", "root"],
    "group": ["wheel"],
    "variable": ["A=b=c", "PATH"],
    "pair": ["k=v", "k"],
    "setting": ["a=b"],
    "umask": ["0027"],
    "volume": ["/a:/b:ro", "data:/x", "/only"],
    "mount": ["type=bind,src=/a,dst=/b"],
    "tmpfs": ["/t:size=1m"],
    "device": ["/dev/null:/dev/n:r"],
    "device-rule": ["c 10:200 rwm"],
    "capability": ["NET_ADMIN", "all"],
    "offset": ["monotonic=1h"],
    "signal": ["TERM", "9"],
    "seconds": ["1.5"],
    "address": ["10.0.0.1"],
    "host": ["db:10.0.0.2"],
    "domain": ["example.org"],
    "resolver": ["ndots:2"],
    "restart": ["on-failure:3"],
    "driver": ["none"],
    "log-option": ["max-size=1m"],
    "format": ["json"],
    "json": ["json"],
    "error-format": ["json"],
    "manager": ["disabled"],
    "platform": ["linux/amd64", "x86_64"],
    "pull": ["missing", "never"],
    "ports": ["80", "8000-8010/udp"],
    "text": ["x", "-", "a b", "=", "--", "é"],
}


def by_click(argv: list[str]) -> Parsed | None:
    """Return what click parses, None for help and for mistakes."""
    seen: list[Parsed] = []
    group = main.group()

    def keep(ctx: click.Context, verb: main.Verb) -> None:
        seen.append(main.parsed_of(ctx, verb.table))

    original = main.Verb.invoke
    main.Verb.invoke = lambda self, ctx: keep(ctx, self)  # type: ignore[assignment,method-assign]
    try:
        group.main(argv, prog_name="pycontain", standalone_mode=False)
    except click.ClickException:
        return None
    finally:
        main.Verb.invoke = original  # type: ignore[method-assign]
    return seen[0] if seen else None


def words(draw: st.DrawFn, option: Option) -> list[str]:
    """Draw one way of writing an option."""
    value = draw(st.sampled_from(SAMPLES[option.kind]))
    long = "--" + draw(st.sampled_from([option.name, *option.aliases]))
    ways = [[f"{long}={value}"]]
    if option.kind == "flag":
        ways.append([long])
        if option.short:
            ways += [[f"-{option.short}"], [f"-{option.short}={value}"]]
    else:
        ways.append([long, value])
        if option.short:
            ways += [[f"-{option.short}", value], [f"-{option.short}={value}"]]
            if not value.startswith("="):
                ways.append([f"-{option.short}{value}"])
    return draw(st.sampled_from(ways))


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    command = commands.command_named(draw(st.sampled_from(sorted(commands.VERBS))))
    assert command is not None
    argv: list[str] = []
    for option in draw(st.lists(st.sampled_from(commands.GLOBAL), max_size=2)):
        argv += words(draw, option)
    argv.append(command.name)
    if command.options:
        for option in draw(st.lists(st.sampled_from(list(command.options)), max_size=5)):
            argv += words(draw, option)
    tail = st.sampled_from(["busybox", "sh", "-c", "--", "-x", "--rm", "--help", ""])
    return argv + draw(st.lists(tail, max_size=4))


def outcome(read: object) -> tuple[object, ...]:
    try:
        parsed = read()  # type: ignore[operator]
    except PycontainError as error:
        return "error", str(error)
    if parsed is None:
        return ("left",)
    plain = {name: shown(value) for name, value in parsed.values.items()}
    return parsed.command.name, plain, parsed.given, parsed.arguments, parsed.globals


def shown(value: object) -> object:
    if isinstance(value, list):
        return [shown(item) for item in value]
    if hasattr(value, "__slots__"):
        return {name: getattr(value, name) for name in type(value).__slots__}
    return value


@given(command_lines())
def test_what_the_fast_parser_reads_click_reads_the_same(argv: list[str]) -> None:
    quick = outcome(lambda: fast.parse(argv, commands.GLOBAL, commands.command_named))
    if quick != ("left",):
        assert outcome(lambda: by_click(argv)) == quick


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "--help"],
        ["run", "--memor", "64m", "box"],
        ["run", "--unknown", "box"],
        ["run", "-m"],
        ["nosuchverb"],
        [],
        ["--help"],
    ],
)
def test_help_mistakes_and_abbreviations_are_left_to_click(argv: list[str]) -> None:
    assert fast.parse(argv, commands.GLOBAL, commands.command_named) is None


def test_what_follows_the_image_belongs_to_the_command() -> None:
    parsed = fast.parse(
        ["run", "--rm", "box", "sh", "-c", "x", "--rm"], commands.GLOBAL, commands.command_named
    )
    assert parsed is not None
    assert parsed.arguments == ["box", "sh", "-c", "x", "--rm"]


def test_short_flags_cluster_and_the_last_takes_its_value() -> None:
    parsed = fast.parse(["run", "-itm64m", "box"], commands.GLOBAL, commands.command_named)
    assert parsed is not None
    assert parsed.values == {"interactive": True, "tty": True, "memory": 64 << 20}
    assert parsed.given["memory"] == "--memory 64m"


@pytest.mark.parametrize("name", sorted(commands.VERBS))
def test_every_command_has_help_with_an_example_that_parses(name: str) -> None:
    command = commands.command_named(name)
    assert command is not None
    context = click.Context(main.Verb(command), info_name=name)
    assert (
        command.example in context.get_help().replace("\n", " ")
        or command.example.split(" '")[0] in context.get_help()
    )
    assert command.example.startswith(f"pycontain {name}")


@pytest.mark.parametrize("name", sorted(commands.VERBS))
def test_no_word_names_two_options(name: str) -> None:
    command = commands.command_named(name)
    assert command is not None
    named = [f"--{o.name}" for o in command.options]
    named += [f"--{alias}" for o in command.options for alias in o.aliases]
    named += [f"-{o.short}" for o in command.options if o.short]
    assert len(named) == len(set(named))


def test_too_many_positionals_are_refused() -> None:
    with pytest.raises(UsageError, match="usage: pycontain tag"):
        fast.parse(["tag", "a", "b", "c"], commands.GLOBAL, commands.command_named)


def test_every_kind_has_a_sample() -> None:
    kinds = {o.kind for verb in commands.VERBS for o in _options(verb)}
    assert kinds <= set(SAMPLES)


def _options(verb: str) -> list[Option]:
    command: Command | None = commands.command_named(verb)
    return list(command.options) if command else []
