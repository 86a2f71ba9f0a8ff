"""The container's root: mounted in the child's own namespace, entered, and closed behind.

Owns mount propagation, pivot_root(2), masked and read-only paths. Paths of the container are opened
inside the rootfs (`Draft.open`) or are single names below a proc or sysfs that the plan mounted
itself, where no link can be planted.
"""

from __future__ import annotations

import errno

from pycontain.errors import InvalidError
from pycontain.runtime import mountoptions
from pycontain.runtime.draft import INSIDE, Draft, attributes, split
from pycontain.syscalls import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.syscalls.ops import Data, Reg

_CLONE = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
_ATTACH = c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH
_DIRECTORY = c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC
_QUIET = c.MS_NOSUID | c.MS_NODEV | c.MS_NOEXEC


def leave_mount_namespace(draft: Draft) -> None:
    """Write: mount where the host sees nothing of it, for a container that stays in its namespace.

    `enter` takes the mounts along as a tree that belongs to no namespace and ends with the last
    process whose root it is: the host's mount table stays as it is, and nothing has to be undone.
    """
    program, path = draft.program, "/proc/self/ns/mnt"
    program.step("leave mount namespace", "linux.namespaces")
    draft.mounts_home = program.fd("openat", c.AT_FDCWD, path, c.O_CLOEXEC, target=path)
    program.call("unshare", c.CLONE_NEWNS)


def isolate(draft: Draft) -> None:
    """Write: no mount of the child reaches the host; with rootfsPropagation shared some may."""
    program = draft.program
    program.step("isolate mounts", "linux.rootfsPropagation")
    flag, _ = propagation(draft)
    if flag == c.MS_SHARED:
        # Volumes may stay peers of the host's mounts; the rootfs itself must not (pivot_root(2)).
        parent = draft.inputs.private_parent
        program.call("mount", None, parent, None, c.MS_PRIVATE, None, target=parent)
    else:
        kind = c.MS_PRIVATE if flag == c.MS_PRIVATE else c.MS_SLAVE
        program.call("mount", None, "/", None, c.MS_REC | kind, None, target="/")


def propagation(draft: Draft) -> tuple[int, bool]:
    """Return (MS_*, recursive) of linux.rootfsPropagation; (0, False) when absent."""
    word = draft.spec.get("linux", {}).get("rootfsPropagation", "")
    if not word:
        return 0, False
    if word not in mountoptions.PROPAGATION:
        raise InvalidError(f"linux.rootfsPropagation: unknown value {word!r}")
    return mountoptions.PROPAGATION[word]


def mount(draft: Draft) -> None:
    """Write: mount what makes the rootfs at root.path and open it."""
    program, path = draft.program, draft.inputs.rootfs
    program.step("mount rootfs", "root.path")
    if draft.inputs.root_tree >= 0:
        # Where the child's root may not even go: the parent opened it, any place will do for it.
        tree: Reg | int = draft.inputs.root_tree
        program.call(
            "move_mount", tree, "", c.AT_FDCWD, "/", c.MOVE_MOUNT_F_EMPTY_PATH, target=path
        )
        draft.root = tree
        return
    mounts: list[dict[str, Any]] = draft.inputs.rootfs_mounts
    for entry in mounts:
        _mount_one(draft, entry)
    if mounts:
        draft.root = program.fd("openat", c.AT_FDCWD, path, _DIRECTORY, target=path)
        return
    # A bind of the directory on itself: pivot_root(2) takes a mount only. A slave keeps its master.
    tree = program.fd("open_tree", c.AT_FDCWD, path, _CLONE | c.AT_RECURSIVE, target=path)
    kind = c.MS_SLAVE if propagation(draft)[0] == c.MS_SLAVE else c.MS_PRIVATE
    attr = program.block(attributes(0, 0, kind))
    flags = c.AT_EMPTY_PATH | c.AT_RECURSIVE
    program.call("mount_setattr", tree, "", flags, attr, 32, target=path)
    program.call("move_mount", tree, "", c.AT_FDCWD, path, c.MOVE_MOUNT_F_EMPTY_PATH, target=path)
    draft.root = tree


def _mount_one(draft: Draft, entry: dict[str, Any]) -> None:
    program, path = draft.program, draft.inputs.rootfs
    options = mountoptions.parse(entry.get("options") or [])
    target = path + entry.get("destination", "").rstrip("/")
    kind = entry.get("type", "")
    if options.bind or kind == "bind":
        rec = c.MS_REC if options.recursive else 0
        program.call("mount", entry["source"], target, None, c.MS_BIND | rec, None, target=target)
        if options.flags:
            flags = c.MS_BIND | c.MS_REMOUNT | options.flags
            program.call("mount", None, target, None, flags, None, target=target)
        return
    if entry.get("cwd"):
        # Layers under short names, so that the options of 127 fit the page of mount(2).
        program.call("chdir", entry["cwd"], target=entry["cwd"])
        draft.forget_cwd()
    program.call(
        "mount", entry.get("source", kind), target, kind, options.flags, options.data, target=target
    )


def enter(draft: Draft) -> None:
    """Write: make the rootfs the root and let go of the old one."""
    program = draft.program
    draft.forget_cwd()
    if "mount" not in _spaces(draft):
        program.step("enter rootfs", "root.path")
        if draft.mounts_home is not None:
            _return_with_mounts(draft, draft.mounts_home)
        program.call("fchdir", draft.root, target=draft.inputs.rootfs)
        program.call("chroot", ".", target=draft.inputs.rootfs)
        return
    program.step("pivot root", "root.path")
    program.call("fchdir", draft.root, target=draft.inputs.rootfs)
    shared = propagation(draft)[0] == c.MS_SHARED
    if draft.inputs.no_pivot:
        # For a root on the initial ramfs, which cannot be pivoted away from.
        if shared:
            # What is unmounted or covered from here on would be so for the host as well.
            program.call("mount", None, "/", None, c.MS_REC | c.MS_SLAVE, None, target="/")
        _hide_kernel_mounts(draft)
        program.call("mount", ".", "/", None, c.MS_MOVE, None, target="/")
        program.call("chroot", ".", target="/")
        program.call("chdir", "/", target="/")
    else:
        # The old root ends up on top of the new one at "/" (pivot_root(2), NOTES).
        old = program.fd("openat", c.AT_FDCWD, "/", _DIRECTORY, target="/") if shared else None
        program.call("pivot_root", ".", ".", target=draft.inputs.rootfs)
        if old is not None:
            # Its mounts are peers of the host's still: the host would lose every one of them.
            program.call("fchdir", old, target="old root")
            flags = c.MS_REC | c.MS_SLAVE
            program.call("mount", None, ".", None, flags, None, target="old root")
            program.close(old)
        program.call("umount2", ".", c.MNT_DETACH, target="old root")
        program.call("chdir", "/", target="/")
    _finish(draft)


def _return_with_mounts(draft: Draft, home: Reg) -> None:
    program, path = draft.program, draft.inputs.rootfs
    flags = _CLONE | c.AT_EMPTY_PATH | c.AT_RECURSIVE
    draft.root = program.fd("open_tree", draft.root, "", flags, target=path)
    if draft.spec.get("root", {}).get("readonly"):
        attr = program.block(attributes(c.MOUNT_ATTR_RDONLY))
        program.call("mount_setattr", draft.root, "", c.AT_EMPTY_PATH, attr, 32, target=path)
    program.call("setns", home, c.CLONE_NEWNS, target="mount namespace")


def _hide_kernel_mounts(draft: Draft) -> None:
    """Write: take away the old root's proc and sysfs, for the move leaves it where it is.

    As long as one is whole the kernel lets a user namespace of the container mount its own, without
    the masked and read-only paths (mount_too_revealing in fs/namespace.c).
    """
    program = draft.program
    for path in draft.inputs.kernel_mounts:
        gone = program.label()
        # EINVAL: locked, since this mount namespace belongs to a user namespace of its own.
        program.call(
            "umount2", path, c.MNT_DETACH,
            ok=(errno.EINVAL, errno.EPERM), on_success=gone, target=path,
        )  # fmt: skip
        program.call("mount", "tmpfs", path, "tmpfs", 0, None, target=path)
        program.place(gone)


def _spaces(draft: Draft) -> set[str]:
    return {n["type"] for n in draft.spec.get("linux", {}).get("namespaces") or []}


def _finish(draft: Draft) -> None:
    program = draft.program
    flag, recursive = propagation(draft)
    if flag:
        program.step("set propagation of root", "linux.rootfsPropagation")
        rec = c.MS_REC if recursive else 0
        program.call("mount", None, "/", None, flag | rec, None, target="/")
    if draft.spec.get("root", {}).get("readonly"):
        program.step("make root read-only", "root.readonly")
        attr = program.block(attributes(c.MOUNT_ATTR_RDONLY))
        program.call("mount_setattr", c.AT_FDCWD, "/", 0, attr, 32, target="/")


def protect(draft: Draft) -> None:
    """Write: read-only paths, then masked ones. A path that is not there needs nothing."""
    linux = draft.spec.get("linux", {})
    for n, path in enumerate(linux.get("readonlyPaths") or []):
        draft.program.step("make path read-only", f"linux.readonlyPaths[{n}]")
        _read_only(draft, path)
    for n, path in enumerate(linux.get("maskedPaths") or []):
        draft.program.step("mask path", f"linux.maskedPaths[{n}]")
        _mask(draft, path)


def _kernel_name(draft: Draft, path: str) -> tuple[Reg, str, int] | None:
    """Return (directory, name, mount flags) of a path right below a proc or sysfs of ours."""
    parts = split(path)
    if len(parts) != 2:
        return None
    if parts[0] == "proc" and draft.proc is not None and parts[1] not in _PROC_LINKS:
        return draft.proc, parts[1], draft.proc_flags
    if parts[0] == "sys" and draft.sys is not None:
        return draft.sys, parts[1], draft.sys_flags
    return None


_PROC_LINKS = ("self", "thread-self", "net", "mounts")


def _read_only(draft: Draft, path: str) -> None:
    program = draft.program
    absent = program.label()
    place = _kernel_name(draft, path)
    if place is not None:
        directory, name, flags = place
        draft.chdir(directory)
        program.call(
            "mount", name, name, None, c.MS_BIND | c.MS_REC, None,
            ok=(errno.ENOENT,), on_error=absent, target=path,
        )  # fmt: skip
        flags |= c.MS_BIND | c.MS_REMOUNT | c.MS_RDONLY
        program.call("mount", None, name, None, flags, None, target=path)
    else:
        target = _open_if_there(draft, path, absent)
        tree = program.fd(
            "open_tree", target, "", _CLONE | c.AT_EMPTY_PATH | c.AT_RECURSIVE, target=path
        )
        attr = program.block(attributes(c.MOUNT_ATTR_RDONLY))
        program.call("mount_setattr", tree, "", c.AT_EMPTY_PATH, attr, 32, target=path)
        program.call("move_mount", tree, "", target, "", _ATTACH, target=path)
        draft.release(tree)
        draft.release(target)
    program.place(absent)


def _open_if_there(draft: Draft, path: str, absent: Any) -> Reg:
    program = draft.program
    register = program.register()
    how = draft.how(c.O_PATH | c.O_CLOEXEC, INSIDE)
    missing = (errno.ENOENT, errno.ENOTDIR)
    program.call(
        "openat2", draft.root, path.lstrip("/") or ".", how, 24,
        into=register, ok=missing, on_error=absent, target=path,
    )  # fmt: skip
    return register


def _mask(draft: Draft, path: str) -> None:
    place = _kernel_name(draft, path)
    if place is None:
        _mask_any(draft, path)
    elif path in _KERNEL_FILES:
        program, absent = draft.program, draft.program.label()
        draft.chdir(place[0])
        # The null device is the host's: the child has not left the host's root yet.
        program.call(
            "mount", "/dev/null", place[1], None, c.MS_BIND, None,
            ok=_GONE, on_error=absent, target=path,
        )  # fmt: skip
        program.call("mount_setattr", c.AT_FDCWD, place[1], 0, _guarded(draft), 32, target=path)
        program.place(absent)
    elif path in _KERNEL_DIRECTORIES:
        draft.chdir(place[0])
        _empty(draft, place[1], path, ok=_GONE)
    else:
        _mask_any(draft, path)


def _guarded(draft: Draft) -> Data:
    """Return attributes that keep the owner and mode of the host's null device from the inside."""
    return draft.program.block(attributes(c.MOUNT_ATTR_RDONLY))


_GONE = (errno.ENOENT,)
_KERNEL_FILES = (
    "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
)  # fmt: skip
_KERNEL_DIRECTORIES = ("/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware")
"""What these are is fixed by the kernel; a wrong guess fails, it never leaves a path open."""


def _empty(draft: Draft, where: str, path: str, ok: tuple[int, ...] = ()) -> None:
    label = draft.spec.get("linux", {}).get("mountLabel", "")
    data = f'nr_inodes=1,context="{label}"' if label else "nr_inodes=1"
    flags = c.MS_RDONLY | _QUIET
    draft.program.call("mount", "tmpfs", where, "tmpfs", flags, data, ok=ok, target=path)


def _mask_any(draft: Draft, path: str) -> None:
    program = draft.program
    absent = program.label()
    target = _open_if_there(draft, path, absent)
    null = program.fd("open_tree", c.AT_FDCWD, "/dev/null", _CLONE, target="/dev/null")
    guarded = _guarded(draft)
    program.call("mount_setattr", null, "", c.AT_EMPTY_PATH, guarded, 32, target=path)
    # A file cannot be mounted on a directory: then it is masked by an empty directory.
    program.call(
        "move_mount", null, "", target, "", _ATTACH,
        ok=(errno.EINVAL, errno.ENOTDIR), on_success=absent, target=path,
    )  # fmt: skip
    draft.forget_cwd()
    program.call("fchdir", target, target=path)
    _empty(draft, ".", path)
    draft.release(null)
    draft.release(target)
    program.place(absent)
