"""--format: the part of Go's templates that docker's users write.

    {{.A.B}}  {{json .}}  {{.A | upper}}  {{index .M "key"}}  {{join .L ","}}
    {{range .L}}…{{else}}…{{end}}  {{if .A}}…{{else}}…{{end}}  {{with .A}}…{{end}}  {{- trims -}}

A field that is not there is an error that names those that are. Source: text/template.
"""

from __future__ import annotations

from pycontain.cli import output
from pycontain.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Node = tuple[str, Any]

BLOCKS = ("if", "range", "with")


def render(template: str, value: object) -> str:
    """Return `template` filled with `value`; raises UsageError for a fault in it."""
    return _run(_parse(template), value, value)


def print_rows(
    template: str, rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]
) -> None:
    """Print rows as --format says: "table", "json", "table TEMPLATE" or TEMPLATE."""
    if template in ("", "table"):
        output.table(list(columns.values()), [[row[key] for key in columns] for row in rows])
    elif template in ("json", "{{json .}}"):
        for row in rows:
            output.json_line(row)
    else:
        # The shell leaves \t and \n as two characters; docker takes them for one.
        text = template.replace(r"\t", "\t").replace(r"\n", "\n")
        nodes = _parse(text.removeprefix("table").strip(" "))
        lines = [_run(nodes, row, row) for row in rows]
        if text.startswith("table "):
            every = dict.fromkeys(key for row in rows for key in row)
            titles = {**{key: key.upper() for key in every or columns}, **columns}
            cells = [line.split("\t") for line in lines]
            output.table(_run(nodes, titles, titles).split("\t"), cells)
        else:
            for line in lines:
                output.text(line + "\n")


def _fault(text: str) -> UsageError:
    return UsageError(f"--format: {text}", hint="such as '{{.Names}}', '{{json .}}', json")


def _parse(template: str) -> list[Node]:
    """Return the tree: ("text", str), ("print", pipe), (block, (pipe, body, otherwise))."""
    root: list[Node] = []
    stack: list[tuple[str, list[str], list[Node], list[Node], list[Node]]] = []
    here = root
    text, opened, rest = template.partition("{{")
    while True:
        if opened and rest[:2] == "- ":
            text, rest = text.rstrip(), rest[1:]
        if text:
            here.append(("text", text))
        if not opened:
            break
        action, closed, rest = _action(rest)
        if not closed:
            raise _fault("unclosed action")
        words = _words(action)
        if not words:
            raise _fault("missing value for command")
        if words[0] in BLOCKS:
            stack.append((words[0], words[1:], [], [], here))
            here = stack[-1][2]
        elif words == ["else"] and stack:
            here = stack[-1][3]
        elif words == ["end"] and stack:
            kind, pipe, body, otherwise, here = stack.pop()
            here.append((kind, (pipe, body, otherwise)))
        elif words[0] in ("else", "end"):
            raise _fault(f"unexpected {{{{{' '.join(words)}}}}}")
        else:
            here.append(("print", words))
        text, opened, rest = rest.partition("{{")
    if stack:
        raise _fault(f"{{{{{stack[-1][0]}}}}} has no {{{{end}}}}")
    return root


def _action(rest: str) -> tuple[str, str, str]:
    """Split after `}}`; "-}}" takes the white space that follows with it."""
    action, closed, rest = rest.partition("}}")
    if action.endswith(" -"):
        return action[:-1], closed, rest.lstrip()
    return action, closed, rest


def _words(action: str) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(action):
        letter = action[at]
        if letter.isspace():
            at += 1
            continue
        end = at + 1
        if letter in "\"`'":
            while end < len(action) and action[end] != letter:
                end += 2 if action[end] == "\\" and letter == '"' else 1
            if end >= len(action):
                raise _fault("unterminated quoted string")
            end += 1
        elif letter not in "|()":
            while end < len(action) and not action[end].isspace() and action[end] not in "|()":
                end += 1
        words.append(action[at:end])
        at = end
    return words


def _run(nodes: list[Node], dot: Any, top: Any) -> str:
    parts: list[str] = []
    for kind, what in nodes:
        if kind == "text":
            parts.append(what)
            continue
        if kind == "print":
            parts.append(show(_pipe(what, dot, top)))
            continue
        pipe, body, otherwise = what
        value = _pipe(pipe, dot, top)
        if not value:
            parts.append(_run(otherwise, dot, top))
        elif kind == "if":
            parts.append(_run(body, dot, top))
        elif kind == "with":
            parts.append(_run(body, value, top))
        else:
            each = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
            parts.extend(_run(body, item, top) for item in each)
    return "".join(parts)


def _pipe(words: list[str], dot: Any, top: Any) -> Any:
    """Return the value of a pipeline: each command's goes to the next as its last argument."""
    commands: list[list[Any]] = [[]]
    depth = 0
    inner: list[str] = []
    for word in words:
        if word == ")" and depth:
            depth -= 1
            if not depth:
                commands[-1].append(_Value(_pipe(inner, dot, top)))
                continue
        if depth:
            inner.append(word)
        if word == "(":
            if not depth:
                inner = []
            depth += 1
        elif not depth and word == "|":
            commands.append([])
        elif not depth:
            commands[-1].append(word)
    if depth or not all(commands):
        raise _fault(f"cannot read {' '.join(words)}")
    value: Any = None
    for number, command in enumerate(commands):
        value = _command(command, [value] if number else [], dot, top)
    return value


class _Value:
    """What stood in parentheses."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _command(command: list[Any], last: list[Any], dot: Any, top: Any) -> Any:
    head = command[0]
    if isinstance(head, str) and head in FUNCTIONS:
        arguments = [_operand(word, dot, top) for word in command[1:]] + last
        try:
            return FUNCTIONS[head](*arguments)
        except (TypeError, ValueError, LookupError, AttributeError):
            raise _fault(f"{head} does not take {len(arguments)} such arguments") from None
    # A field of a value in parentheses: (index .List 0).Name
    value = _operand(head, dot, top)
    for word in command[1:]:
        if not (isinstance(head, _Value) and isinstance(word, str) and word.startswith(".")):
            raise _fault(f"cannot give arguments to {head}")
        value = _field(value, word)
    return value


def _operand(word: Any, dot: Any, top: Any) -> Any:
    if isinstance(word, _Value):
        return word.value
    if word[0] == "$" and (word == "$" or word[1] == "."):
        return _field(top, word[1:] or ".")
    if word[0] == ".":
        return _field(dot, word)
    if word[0] in "\"`'":
        text = word[1:-1]
        return text if word[0] == "`" else text.encode().decode("unicode_escape")
    if word in ("true", "false"):
        return word == "true"
    if word == "nil":
        return None
    try:
        return int(word)
    except ValueError:
        raise _fault(f"function {word!r} not defined") from None


def _field(value: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        if not name:
            continue
        if not isinstance(value, dict):
            raise _fault(f"{path}: {show(value)!r} has no field {name!r}")
        if name not in value:
            raise _fault(f"there is no field {name!r}, only {', '.join(sorted(value)) or 'none'}")
        value = value[name]
    return value


def show(value: Any) -> str:
    """Return a value as Go's %v prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(show, value)) + "]"
    return str(value)


def _json(value: Any) -> str:
    from pycontain.oci import codec

    return codec.dumps(value).decode()


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else value[key]
    return value


def _printf(form: str, *values: Any) -> str:
    words = [value if isinstance(value, (int, float)) else show(value) for value in values]
    return form.replace("%v", "%s").replace("%q", '"%s"').replace("%t", "%s") % tuple(words)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *values: next((v for v in values if not v), values[-1]),
    "eq": lambda value, *others: any(value == other for other in others),
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "index": _index,
    "join": lambda values, separator: separator.join(map(show, values)),
    "json": _json,
    "le": lambda a, b: a <= b,
    "len": len,
    "lower": lambda text: text.lower(),
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: a != b,
    "not": lambda value: not value,
    "or": lambda *values: next((v for v in values if v), values[-1]),
    "print": lambda *values: "".join(map(show, values)),
    "printf": _printf,
    "println": lambda *values: " ".join(map(show, values)) + "\n",
    "split": lambda text, separator: text.split(separator),
    "title": lambda text: text[:1].upper() + text[1:],
    "truncate": lambda text, length: text[:length],
    "upper": lambda text: text.upper(),
}
