"""The plan as text: every step, call and argument, and the place in config.json it comes from.

Nothing is run and nothing on the host is changed. Descriptors the parent would hold are shown by
name. Whoever knows which option or default a place comes from joins that by `Row.path`.
Not on the hot path.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontain.runtime import gather, namespaces, plan, seccomp
from pycontain.runtime.draft import Inputs
from pycontain.syscalls import constants as c
from pycontain.syscalls.ops import ANY, Data, Reg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontain.oci.runtime import Spec
    from pycontain.runtime.launch import LaunchOptions
    from pycontain.syscalls.ops import Arg, Op, Program

_FIRST_NAME = 1 << 20
"""Numbers from here on stand for descriptors that have a name instead."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One call of the plan.

    index  its number, as in the error of a failed launch
    who    parent, child (shares the parent's memory) or stub (its own program)
    step   what it is part of; path its place in config.json, "" for what no place asks for
    call   the call with its arguments; note what it tolerates and where it goes on then
    """

    index: int
    who: str
    step: str
    path: str
    call: str
    note: str = ""


def rows(spec: Spec, options: LaunchOptions) -> list[Row]:
    """Return the plan that `launch_init` would carry out. Raises what planning raises."""
    names: dict[int, str] = {}
    inputs = _inputs(spec, options, names)
    program = plan.init(spec, inputs)
    flags = namespaces.clone_flags(namespaces.asked(spec.get("linux", {})))
    first = Row(
        index=-1, who="parent", step="make the child", path="linux.namespaces",
        call=f"clone3({_flags(flags | c.CLONE_VM | c.CLONE_PIDFD, _CLONE)})",
    )  # fmt: skip
    return [first, *program_rows(program, names)]


def program_rows(program: Program, names: Mapping[int, str]) -> list[Row]:
    """Return one row for each op of `program`."""
    found = []
    for index, op in enumerate(program.ops):
        in_stub = 0 <= program.exec_index < index
        found.append(
            Row(
                index=index,
                who="stub" if in_stub else "child",
                step=op.step,
                path=op.path,
                call=call_text(program, op, names),
                note=_note(op),
            )
        )
    return found


def _inputs(spec: Spec, options: LaunchOptions, names: dict[int, str]) -> Inputs:
    def named(name: str) -> int:
        names[_FIRST_NAME + len(names)] = name
        return _FIRST_NAME + len(names) - 1

    linux = spec.get("linux", {})
    root = spec.get("root", {}).get("path", "")
    inputs = Inputs(root if root.startswith("/") else f"{options.bundle}/{root}", options.bundle)
    inputs.rootfs_mounts = options.rootfs_mounts
    inputs.sync = named("parent")
    inputs.stub = gather.STUB
    inputs.hooks = bool(spec.get("hooks"))
    inputs.network = options.network is not None or bool(linux.get("netDevices"))
    inputs.no_pivot = options.no_pivot
    inputs.keyring = not options.no_new_keyring
    inputs.preserve_fds = options.preserve_fds
    inputs.last_capability = gather.last_capability()
    inputs.console = named("console socket")
    if options.park:
        inputs.park_dir = named(options.park.rpartition("/")[0])
        inputs.park_name = options.park.rpartition("/")[2]
    for kind, path in namespaces.asked(linux).items():
        inputs.user_namespace |= kind == "user"
        if path:
            inputs.namespaces[kind] = named(path)
    if linux.get("seccomp"):
        inputs.seccomp = seccomp.program(linux["seccomp"])
    if options.cgroup is not None:
        inputs.cgroup_fds = [named(file) for file in options.cgroup.join_files()]
        inputs.cgroup_paths = options.cgroup.paths()
    if linux.get("rootfsPropagation") in ("shared", "rshared"):
        inputs.private_parent = "/"
    return inputs


def call_text(program: Program, op: Op, names: Mapping[int, str]) -> str:
    """Return `r1 = openat2(r0, "proc", …)` for one op."""
    if op.call == "execstub":
        kept = ", ".join(_show(program, arg, names) for arg in op.args[1:])
        return f"execveat({_show(program, op.args[0], names)}, stub; keeps {kept})"
    formats = _FORMATS.get(op.call, ())
    if op.call == "prctl" and op.target:
        return f"prctl({_prctl(program, op.args[0])}, {op.target})"
    parts = []
    for n, arg in enumerate(op.args):
        form = formats[n] if n < len(formats) else None
        parts.append(form(program, arg) if form and arg is not None else _show(program, arg, names))
    text = f"{op.call}({', '.join(parts)})"
    return f"{op.into!r} = {text}" if op.into is not None else text


def _note(op: Op) -> str:
    words = []
    if op.ok:
        errors = ["any error" if n == ANY else errno.errorcode.get(n, str(n)) for n in op.ok]
        words.append("tolerates " + ", ".join(errors))
        if op.on_error is not None:
            words.append(f"then goes to {op.on_error.index}")
    if op.on_success is not None:
        words.append(f"on success goes to {op.on_success.index}")
    return ", ".join(words)


def _show(program: Program, arg: Arg, names: Mapping[int, str]) -> str:
    if arg is None:
        return "NULL"
    if isinstance(arg, str | bytes):
        text = arg.decode("utf-8", "backslashreplace") if isinstance(arg, bytes) else arg
        return '"' + ascii(text)[1:-1].replace('"', '\\"') + '"'
    if isinstance(arg, Reg):
        return repr(arg)
    if isinstance(arg, Data):
        return _data(program, arg)
    if arg in names:
        return f"<{names[arg]}>"
    if arg == c.AT_FDCWD:
        return "AT_FDCWD"
    return str(arg) if -4096 < arg < 4096 else hex(arg & 0xFFFFFFFFFFFFFFFF)


def _data(program: Program, arg: Data) -> str:
    content = bytes(program.data[arg.offset : arg.offset + arg.size])
    if arg.size <= 8 and not any(content):
        return "&buffer"
    return f"&{arg.size} bytes"


def _flags(value: int, table: Sequence[tuple[int, str]]) -> str:
    words = []
    for bit, name in table:
        if value & bit:
            words.append(name)
            value &= ~bit
    if value or not words:
        words.append(hex(value) if value else "0")
    return "|".join(words)


def _table(*prefixes: str, without: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    found = [
        (value, name)
        for name, value in vars(c).items()
        if name.startswith(prefixes) and isinstance(value, int) and value and name not in without
    ]
    return sorted(found)


_OPEN = _table("O_", without=("O_TMPFILE", "O_EXCL"))
_CLONE = _table("CLONE_", without=("CLONE_FILES",))
_MS = [*_table("MS_"), (1 << 16, "MS_POSIXACL"), (1 << 23, "MS_I_VERSION")]
_RESOLVE = _table("RESOLVE_")
_ATTR = _table("MOUNT_ATTR_", without=("MOUNT_ATTR_ATIME",))
_AT = [(0x1000, "AT_EMPTY_PATH"), (0x8000, "AT_RECURSIVE"), (0x100, "AT_SYMLINK_NOFOLLOW")]
_TREE = [(1, "OPEN_TREE_CLONE"), (c.O_CLOEXEC, "OPEN_TREE_CLOEXEC"), *_AT]
_MOVE = _table("MOVE_MOUNT_")
_PRCTL = {v: n for n, v in vars(c).items() if n.startswith("PR_") and "AMBIENT_" not in n}


def _bits(table: Sequence[tuple[int, str]]) -> Callable[[Program, Arg], str]:
    return lambda program, arg: _flags(arg, table) if isinstance(arg, int) else repr(arg)


def _octal(program: Program, arg: Arg) -> str:
    return oct(arg).replace("0o", "0") if isinstance(arg, int) else repr(arg)


def _open_how(program: Program, arg: Arg) -> str:
    words = _words(program, arg)
    return f"{{{_flags(words[0], _OPEN)}, resolve={_flags(words[2], _RESOLVE)}}}"


def _mount_attr(program: Program, arg: Arg) -> str:
    set_, clear, propagation, _ = _words(program, arg)
    parts = [f"set={_flags(set_, _ATTR)}"] if set_ else []
    parts += [f"clear={_flags(clear, _ATTR)}"] if clear else []
    parts += [f"propagation={_flags(propagation, _MS)}"] if propagation else []
    return "{" + ", ".join(parts) + "}"


def _words(program: Program, arg: Arg) -> list[int]:
    assert isinstance(arg, Data)
    content = program.data[arg.offset : arg.offset + arg.size]
    return [int.from_bytes(content[n : n + 8], "little") for n in range(0, len(content), 8)]


def _strings(program: Program, arg: Arg) -> str:
    """A NULL-terminated array of pointers, as offsets into the data block."""
    found = []
    for offset in _words(program, arg)[:-1]:
        end = program.data.index(0, offset)
        found.append(_show(program, bytes(program.data[offset:end]), {}))
    shown = found[:8] + (["…"] if len(found) > 8 else [])
    return "[" + ", ".join(shown) + "]"


def _prctl(program: Program, arg: Arg) -> str:
    return _PRCTL.get(arg, repr(arg)) if isinstance(arg, int) else repr(arg)


_FORMATS: dict[str, tuple[Callable[[Program, Arg], str] | None, ...]] = {
    "openat2": (None, None, _open_how),
    "openat": (None, None, _bits(_OPEN)),
    "mount": (None, None, None, _bits(_MS)),
    "umount2": (None, _bits([(2, "MNT_DETACH")])),
    "mkdirat": (None, None, _octal),
    "mknodat": (None, None, _octal, lambda _, n: hex(n) if isinstance(n, int) else repr(n)),
    "umask": (_octal,),
    "unshare": (_bits(_CLONE),),
    "setns": (None, _bits(_CLONE)),
    "open_tree": (None, None, _bits(_TREE)),
    "move_mount": (None, None, None, None, _bits(_MOVE)),
    "mount_setattr": (None, None, _bits(_AT), _mount_attr),
    "fchownat": (None, None, None, None, _bits(_AT)),
    "prctl": (_prctl,),
    "execve": (None, _strings, lambda program, arg: f"{len(_words(program, arg)) - 1} variables"),
}
