"""The command line of a hot verb, parsed without click, by the same table.

`parse` returns None for whatever it does not know for certain: help, an unknown option, a missing
value, completion. Then click parses the same words and has the last word; a test holds the two
equal where this one answers.
"""

from __future__ import annotations

from pycontain.cli.options import Command, Option, Parsed, check_arguments, convert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.cli.options import Raw


def parse(
    argv: Sequence[str],
    global_options: Sequence[Option],
    command_named: Callable[[str], Command | None],
) -> Parsed | None:
    """Return the parsed command line, None to leave it to click.

    `argv` is without the program's name. Raises UsageError where a value does not read: click
    would say the same, since both convert by the table.
    """
    head = split(argv, global_options, passes=True)
    if head is None or not head[1]:
        return None
    command = command_named(head[1][0])
    if command is None:
        return None
    body = split(head[1][1:], command.options, passes=command.passes)
    if body is None:
        return None
    global_values, _ = convert(global_options, head[0])
    values, given = convert(command.options, body[0])
    check_arguments(command, body[1])
    return Parsed(command, values, given, body[1], global_values)


def split(
    argv: Sequence[str], options: Sequence[Option], *, passes: bool
) -> tuple[Raw, list[str]] | None:
    """Return (raw option texts by dest, positionals), None when something is not understood.

    With `passes`, everything from the first positional on is positional.
    """
    table = lookup(options)
    raw: Raw = {}
    rest: list[str] = []
    at, end = 0, len(argv)
    while at < end:
        word = argv[at]
        at += 1
        if word == "--":
            rest.extend(argv[at:])
            break
        if word[:1] != "-" or word == "-":
            rest.append(word)
            if passes:
                rest.extend(argv[at:])
                break
            continue
        used = _option(word, argv[at] if at < end else None, table, raw)
        if used < 0:
            return None
        at += used
    return raw, rest


def lookup(options: Sequence[Option]) -> dict[str, Option]:
    """Return each option by every word that names it (`--memory`, `-m`)."""
    table: dict[str, Option] = {}
    for option in options:
        table["--" + option.name] = option
        if option.short:
            table["-" + option.short] = option
        for alias in option.aliases:
            table["--" + alias] = option
    return table


def _option(word: str, following: str | None, table: dict[str, Option], raw: Raw) -> int:
    """Take one option word; return how many further words it used, -1 when not understood."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        option = table.get(name)
        if option is None:
            return -1
        if equals or option.kind == "flag":
            _store(option, value if equals else "true", raw)
            return 0
        return _store_following(option, following, raw)
    return _cluster(word, following, table, raw)


def _cluster(word: str, following: str | None, table: dict[str, Option], raw: Raw) -> int:
    """Take short options: `-it`, `-m 64m`, `-m64m`, `-m=64m`."""
    for at in range(1, len(word)):
        option = table.get("-" + word[at])
        if option is None:
            return -1
        attached = word[at + 1 :]
        if attached.startswith("="):
            _store(option, attached[1:], raw)
            return 0
        if option.kind == "flag":
            _store(option, "true", raw)
        elif attached:
            _store(option, attached, raw)
            return 0
        else:
            return _store_following(option, following, raw)
    return 0


def _store_following(option: Option, following: str | None, raw: Raw) -> int:
    if following is None:
        return -1
    _store(option, following, raw)
    return 1


def _store(option: Option, text: str, raw: Raw) -> None:
    if not option.many:
        raw[option.dest] = text
        return
    kept = raw.setdefault(option.dest, [])
    if isinstance(kept, list):
        kept.append(text)
