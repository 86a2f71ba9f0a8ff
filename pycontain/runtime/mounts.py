"""The mounts of config.json, one after the other, inside the rootfs.

A mount point is opened inside the rootfs (`Draft.mount_point`) and mounted on by descriptor: a bind
is a detached tree that move_mount(2) attaches, another file system is mounted on "." of the opened
directory. A symbolic link of the image therefore leads to no place of the host.

They are made in the listed order. proc, once mounted, is set aside until the last one is made: what
a mount point of the image's making resolves to cannot lie in it then (CVE-2019-16884).
Source: runtime-spec config.md "Mounts".
"""

from __future__ import annotations

import errno
import posix

from pycontain.errors import InvalidError, KernelError, UnsupportedError
from pycontain.runtime import mountoptions
from pycontain.runtime.draft import INSIDE, Draft, attributes, split
from pycontain.syscalls import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Mount
    from pycontain.runtime.mountoptions import MountOptions
    from pycontain.syscalls.ops import Reg

_CLONE = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
_ATTACH = c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH
_DIRECTORY = c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC
_STRICT = INSIDE | c.RESOLVE_NO_SYMLINKS
_TYPE = 0o170000
_DIR = 0o040000

PROC_FILES = (
    "cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime",
    "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled",
)  # fmt: skip
"""What a bind may replace below /proc (lxcfs); anything else could switch hardening off."""

_REAL_DIRECTORIES = ("proc", "sys", "dev")


def write(draft: Draft) -> None:
    """Write every mount."""
    linux = draft.spec.get("linux", {})
    label = linux.get("mountLabel", "")
    for index, entry in enumerate(draft.spec.get("mounts") or []):
        options = mountoptions.parse(entry.get("options") or [])
        draft.program.step("mount " + _kind(entry, options), f"mounts[{index}]")
        _one(draft, index, entry, options, label)
    _put_proc_back(draft)


def _set_proc_aside(draft: Draft, flags: int) -> None:
    """Write: move the proc that was mounted to where no path leads, a mount on top of a root.

    A lookup never crosses what is mounted on the root it starts from.
    """
    program = draft.program
    draft.proc, draft.proc_flags = draft.open("/proc", _DIRECTORY, _STRICT), flags
    if draft.inputs.private_parent or draft.inputs.namespaces.get("mount"):
        # A mount on this root would be seen by others; on the container's, sources of binds that
        # lie in the rootfs are out of reach meanwhile.
        program.call("move_mount", draft.proc, "", draft.root, "", _ATTACH, target="/proc")
    else:
        how = c.MOVE_MOUNT_F_EMPTY_PATH
        program.call("move_mount", draft.proc, "", c.AT_FDCWD, "/", how, target="/proc")
    draft.proc_aside = True


def _put_proc_back(draft: Draft) -> None:
    if not draft.proc_aside or draft.proc is None:
        return
    draft.program.step("put proc in its place", "mounts")
    draft.proc_aside = False
    target = draft.open("/proc", _DIRECTORY, _STRICT)
    draft.program.call("move_mount", draft.proc, "", target, "", _ATTACH, target="/proc")
    draft.release(target)


def finish(draft: Draft) -> None:
    """Write: switch to read-only what had to be writable while mount points were made in it."""
    for index, entry in enumerate(draft.spec.get("mounts") or []):
        options = mountoptions.parse(entry.get("options") or [])
        if entry.get("type") == "tmpfs" and not options.bind and options.flags & c.MS_RDONLY:
            program = draft.program
            program.step("make mount read-only", f"mounts[{index}].options")
            target = draft.open(entry["destination"])
            attr = program.block(attributes(c.MOUNT_ATTR_RDONLY))
            program.call(
                "mount_setattr", target, "", c.AT_EMPTY_PATH, attr, 32, target=entry["destination"]
            )
            draft.release(target)


def is_bind(entry: Mount, options: MountOptions) -> bool:
    return options.bind or entry.get("type") == "bind"


def _kind(entry: Mount, options: MountOptions) -> str:
    return "bind" if is_bind(entry, options) else entry.get("type", "")


def _one(draft: Draft, index: int, entry: Mount, options: MountOptions, label: str) -> None:
    parts = split(entry["destination"])
    if not parts:
        raise InvalidError(f"mounts[{index}].destination: the root itself cannot be a mount point")
    kind = _kind(entry, options)
    if parts[0] == "proc":
        _check_proc(index, parts, kind, entry)
    if options.remount:
        _remount(draft, entry, options)
        return
    if parts == ["proc"]:
        # A second one covers the first.
        _put_proc_back(draft)
        draft.program.step("mount " + kind, f"mounts[{index}]")
    if kind == "bind":
        _bind(draft, index, entry, options)
    elif kind == "cgroup":
        _cgroup(draft, entry, options)
    else:
        _file_system(draft, index, entry, options, label, parts)


def _check_proc(index: int, parts: list[str], kind: str, entry: Mount) -> None:
    where = f"mounts[{index}].destination: {entry['destination']!r}"
    if len(parts) == 1:
        if kind == "proc" or (kind == "bind" and _is_proc(entry.get("source", ""))):
            return
        raise InvalidError(f"{where} cannot be mounted because it is not of type proc")
    if kind == "bind" and "/".join(parts[1:]) in PROC_FILES:
        return
    if kind in ("binfmt_misc",) and parts[1:] == ["sys", "fs", "binfmt_misc"]:
        return
    raise InvalidError(f"{where} cannot be mounted because it is inside /proc")


def _is_proc(source: str) -> bool:
    # Process 1 of every proc is a directory; no other file system of the host shows this link.
    try:
        return posix.readlink(source.rstrip("/") + "/self").isdigit() and (
            posix.stat(source).st_ino == 1
        )
    except OSError:
        return False


def _file_system(
    draft: Draft, index: int, entry: Mount, options: MountOptions, label: str, parts: list[str]
) -> None:
    program = draft.program
    kind, path = entry.get("type", ""), entry["destination"]
    data, flags = options.data, options.flags
    if label and kind in _LABELLED:
        data = ",".join(filter(None, [data, f'context="{label}"']))
    if kind == "tmpfs":
        flags &= ~c.MS_RDONLY  # `finish` sets it
    source = entry.get("source") or kind
    if kind == "mqueue" and label:
        data = ""
    if draft.dev_fresh and draft.dev is not None and len(parts) == 2 and parts[0] == "dev":
        # /dev is ours and fresh: a plain name in it is a real directory.
        program.call("mkdirat", draft.dev, parts[1], 0o755, ok=(errno.EEXIST,), target=path)
        draft.chdir(draft.dev, "/dev")
        program.call("mount", source, parts[1], kind, flags, data or None, target=path)
        return
    strict = len(parts) == 1 and parts[0] in _REAL_DIRECTORIES
    target = draft.mount_point(path, resolve=_STRICT if strict else INSIDE)
    draft.forget_cwd()
    draft.chdir(target, path)
    if kind == "sysfs":
        _sysfs(draft, source, options, path)
    elif options.copy_up:
        _copied_up(draft, target, source, kind, flags, data, path)
    else:
        program.call("mount", source, ".", kind, flags, data or None, target=path)
    draft.forget_cwd()
    draft.release(target)
    _propagate(draft, path, options)
    _remember(draft, parts, kind, flags)


_LABELLED = ("tmpfs", "devpts", "ramfs")


def _sysfs(draft: Draft, source: str, options: MountOptions, path: str) -> None:
    program = draft.program
    if not draft.inputs.user_namespace:
        program.call("mount", source, ".", "sysfs", options.flags, None, target=path)
        return
    # A user namespace that does not own the network namespace may not mount sysfs: the host's own,
    # read-only, shows what it may see.
    mounted = program.label()
    program.call(
        "mount", source, ".", "sysfs", options.flags, None,
        ok=(errno.EPERM, errno.EBUSY), on_success=mounted, target=path,
    )  # fmt: skip
    tree = program.fd("open_tree", c.AT_FDCWD, "/sys", _CLONE | c.AT_RECURSIVE, target="/sys")
    attr = program.block(attributes(options.set | c.MOUNT_ATTR_RDONLY, 0, c.MS_PRIVATE))
    program.call("mount_setattr", tree, "", c.AT_EMPTY_PATH | c.AT_RECURSIVE, attr, 32, target=path)
    program.call("move_mount", tree, "", c.AT_FDCWD, ".", c.MOVE_MOUNT_F_EMPTY_PATH, target=path)
    draft.release(tree)
    program.place(mounted)


def _copied_up(
    draft: Draft, target: Reg, source: str, kind: str, flags: int, data: str, path: str
) -> None:
    """A tmpfs that starts with what it covers: the parent copies one to the other."""
    program = draft.program
    how = c.O_DIRECTORY | c.O_CLOEXEC
    below = program.fd("openat", target, ".", how, target=path)
    program.call("mount", source, ".", kind, flags, data or None, target=path)
    above = draft.open(path, how)
    draft.send_fds(draft.inputs.sync, "C", below, above, target=path)
    draft.await_parent("copy of " + path)
    program.close(below)
    program.close(above)


def _remember(draft: Draft, parts: list[str], kind: str, flags: int) -> None:
    """Open the directories that later steps work in, now that they are ours."""
    if parts == ["proc"]:
        _set_proc_aside(draft, flags)
    elif parts == ["sys"] and kind == "sysfs" and not draft.inputs.user_namespace:
        draft.sys, draft.sys_flags = draft.open("/sys", _DIRECTORY, _STRICT), flags
    elif parts == ["dev"] and kind == "tmpfs":
        draft.dev, draft.dev_fresh = draft.open("/dev", _DIRECTORY, _STRICT), True


def _propagate(draft: Draft, path: str, options: MountOptions) -> None:
    program = draft.program
    for flag, recursive in options.propagation:
        target = draft.open(path)
        attr = program.block(attributes(0, 0, flag))
        how = c.AT_EMPTY_PATH | (c.AT_RECURSIVE if recursive else 0)
        program.call("mount_setattr", target, "", how, attr, 32, target=path)
        draft.release(target)


def _bind(draft: Draft, index: int, entry: Mount, options: MountOptions) -> None:
    program = draft.program
    path = entry["destination"]
    source = source_path(draft.inputs.bundle, entry)
    directory = is_directory(source, index)
    if index in draft.inputs.trees:
        tree: Reg | int = draft.inputs.trees[index]
    else:
        flags = _CLONE | (c.AT_RECURSIVE if options.recursive else 0)
        tree = program.fd("open_tree", c.AT_FDCWD, source, flags, target=source)
    _set_attributes(draft, tree, options, path)
    parts = split(path)
    if draft.dev_fresh and draft.dev is not None and len(parts) == 2 and parts[0] == "dev":
        _make_in_dev(draft, parts[1], directory, path)
        program.call(
            "move_mount", tree, "", draft.dev, parts[1], c.MOVE_MOUNT_F_EMPTY_PATH, target=path
        )
    else:
        target = draft.mount_point(path, directory=directory)
        program.call("move_mount", tree, "", target, "", _ATTACH, target=path)
        draft.release(target)
    if not isinstance(tree, int):
        draft.release(tree)
    if parts == ["dev"]:
        draft.dev, draft.dev_fresh = None, False
    if parts == ["proc"]:
        _set_proc_aside(draft, options.flags & _KEPT)


_KEPT = c.MS_NOSUID | c.MS_NODEV | c.MS_NOEXEC


def _make_in_dev(draft: Draft, name: str, directory: bool, path: str) -> None:
    assert draft.dev is not None
    if directory:
        draft.program.call("mkdirat", draft.dev, name, 0o755, ok=(errno.EEXIST,), target=path)
    else:
        mode = 0o100644
        draft.program.call("mknodat", draft.dev, name, mode, 0, ok=(errno.EEXIST,), target=path)


def source_path(bundle: str, entry: Mount) -> str:
    """Return the absolute source of a bind; a relative one is relative to the bundle."""
    source = entry.get("source", "")
    return source if source.startswith("/") else f"{bundle}/{source}"


def is_directory(source: str, index: int) -> bool:
    """Return whether a bind's source is a directory; raises KernelError when it is not there."""
    try:
        return posix.stat(source).st_mode & _TYPE == _DIR
    except OSError as error:
        raise KernelError(f"mounts[{index}].source:", source, error, call="stat") from None


def _set_attributes(draft: Draft, tree: Reg | int, options: MountOptions, path: str) -> None:
    """Write the flags of a detached tree. Without a word on propagation nothing is shared.

    One flag named is all of them named, as in mount(2): those that are not are switched off, but
    for what the host may have locked where there is a user namespace.
    """
    program = draft.program
    whole = c.AT_EMPTY_PATH | c.AT_RECURSIVE
    changes = options.propagation or [(c.MS_PRIVATE, True)]
    for flag, recursive in changes:
        attr = program.block(attributes(0, 0, flag))
        how = whole if recursive else c.AT_EMPTY_PATH
        program.call("mount_setattr", tree, "", how, attr, 32, target=path)
    clear = options.clear
    if options.named:
        clear |= (_FREE if draft.inputs.user_namespace else _EVERY_FLAG) & ~options.set
    _attribute_call(draft, tree, c.AT_EMPTY_PATH, options.set, clear, path)
    _attribute_call(draft, tree, whole, options.rec_set, options.rec_clear, path)


_FREE = c.MOUNT_ATTR_NOSYMFOLLOW
_EVERY_FLAG = (
    _FREE | c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC
)


def _attribute_call(
    draft: Draft, tree: Reg | int, how: int, set_: int, clear: int, path: str
) -> None:
    program = draft.program
    if draft.inputs.user_namespace and clear & ~c.MOUNT_ATTR_ATIME:
        # What the host locked on a mount stays as it is in a user namespace (mount_namespaces(7)).
        attr = program.block(attributes(0, clear & ~c.MOUNT_ATTR_ATIME))
        program.call("mount_setattr", tree, "", how, attr, 32, ok=(errno.EPERM,), target=path)
        clear &= c.MOUNT_ATTR_ATIME
    if set_ or clear:
        attr = program.block(attributes(set_, clear))
        program.call("mount_setattr", tree, "", how, attr, 32, target=path)


def _remount(draft: Draft, entry: Mount, options: MountOptions) -> None:
    """Change a mount that is there: its flags, and the file system's data when there is any."""
    program, path = draft.program, entry["destination"]
    target = draft.open(path)
    if options.data:
        context = program.fd("fspick", target, "", c.FSPICK_CLOEXEC | c.FSPICK_EMPTY_PATH)
        for word in options.data.split(","):
            key, equals, value = word.partition("=")
            command = c.FSCONFIG_SET_STRING if equals else c.FSCONFIG_SET_FLAG
            program.call(
                "fsconfig", context, command, key, value if equals else None, 0, target=word
            )
        program.call("fsconfig", context, c.FSCONFIG_CMD_RECONFIGURE, None, None, 0, target=path)
        program.close(context)
    _attribute_call(draft, target, c.AT_EMPTY_PATH, options.set, options.clear, path)
    whole = c.AT_EMPTY_PATH | c.AT_RECURSIVE
    _attribute_call(draft, target, whole, options.rec_set, options.rec_clear, path)
    draft.release(target)
    _propagate(draft, path, options)


def _cgroup(draft: Draft, entry: Mount, options: MountOptions) -> None:
    spaces = {n["type"] for n in draft.spec.get("linux", {}).get("namespaces") or []}
    if not draft.inputs.unified:
        _cgroup_v1(draft, entry, options)
    elif "cgroup" in spaces:
        _cgroup_v2(draft, entry, options)
    else:
        own = next(iter(draft.inputs.cgroup_paths.values()), "/sys/fs/cgroup")
        target = draft.mount_point(entry["destination"])
        _attach_directory(draft, own, target, options, entry["destination"])
        draft.release(target)


def _cgroup_v2(draft: Draft, entry: Mount, options: MountOptions) -> None:
    program, path = draft.program, entry["destination"]
    target = draft.mount_point(path)
    draft.forget_cwd()
    draft.chdir(target, path)
    mounted = program.label()
    # EBUSY and EPERM: a user namespace that does not own its cgroup namespace.
    program.call(
        "mount", "cgroup", ".", "cgroup2", options.flags, options.data or None,
        ok=(errno.EPERM, errno.EBUSY), on_success=mounted, target=path,
    )  # fmt: skip
    _attach_directory(draft, "/sys/fs/cgroup", target, options, path)
    program.place(mounted)
    draft.forget_cwd()
    draft.release(target)


def _attach_directory(
    draft: Draft, source: str, target: Reg, options: MountOptions, path: str, name: str = ""
) -> None:
    program = draft.program
    tree = program.fd("open_tree", c.AT_FDCWD, source, _CLONE, target=source)
    attr = program.block(attributes(options.set, 0, c.MS_PRIVATE))
    program.call("mount_setattr", tree, "", c.AT_EMPTY_PATH, attr, 32, target=path)
    how = c.MOVE_MOUNT_F_EMPTY_PATH if name else _ATTACH
    program.call("move_mount", tree, "", target, name, how, target=path)
    draft.release(tree)


def _cgroup_v1(draft: Draft, entry: Mount, options: MountOptions) -> None:
    """A tmpfs with one directory per hierarchy: the container's own cgroup, nothing above."""
    program, path = draft.program, entry["destination"]
    target = draft.mount_point(path)
    draft.forget_cwd()
    draft.chdir(target, path)
    flags = options.flags & ~c.MS_RDONLY
    program.call("mount", "cgroup", ".", "tmpfs", flags, "mode=755", target=path)
    draft.forget_cwd()
    draft.release(target)
    top = draft.open(path, _DIRECTORY)
    for mount_name, source in hierarchies(draft.inputs.cgroup_paths).items():
        program.call("mkdirat", top, mount_name, 0o755, target=f"{path}/{mount_name}")
        _attach_directory(draft, source, top, options, f"{path}/{mount_name}", mount_name)
        for alias in mount_name.split(","):
            if alias != mount_name:
                program.call("symlinkat", mount_name, top, alias, target=f"{path}/{alias}")
    for below in draft.spec.get("mounts") or []:
        *above, name = split(below["destination"]) or [""]
        if above == split(path):
            # Before it is read-only: podman mounts systemd's hierarchy there.
            program.call("mkdirat", top, name, 0o755, ok=(errno.EEXIST,), target=f"{path}/{name}")
    if options.flags & c.MS_RDONLY:
        attr = program.block(attributes(c.MOUNT_ATTR_RDONLY))
        program.call("mount_setattr", top, "", c.AT_EMPTY_PATH, attr, 32, target=path)
    draft.release(top)


def hierarchies(paths: dict[str, str]) -> dict[str, str]:
    """Return name below /sys/fs/cgroup -> the container's directory in that hierarchy."""
    found: dict[str, str] = {}
    for path in paths.values():
        parts = split(path)
        if parts[:3] == ["sys", "fs", "cgroup"] and len(parts) > 3:
            found[parts[3]] = path
    return found


def check(draft: Draft) -> None:
    """Raise UnsupportedError for mounts that a user namespace would make in the host's."""
    spaces = {n["type"] for n in draft.spec.get("linux", {}).get("namespaces") or []}
    wanted = draft.spec.get("mounts") or draft.inputs.rootfs_mounts
    if "mount" not in spaces and "user" in spaces and wanted:
        raise UnsupportedError("mounts in a user namespace without a mount namespace of its own")
