"""Id maps: of the container's user namespace, and of idmapped mounts.

Root writes the maps itself. An ordinary user may map his own ids alone; for more the setuid helpers
newuidmap and newgidmap check /etc/subuid and /etc/subgid. Source: user_namespaces(7),
newuidmap(1), mount_setattr(2).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pycontain.errors import KernelError, UnsupportedError
from pycontain.runtime import mountoptions
from pycontain.runtime.mounts import is_bind, source_path
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import IdMapping, Linux, Spec
    from pycontain.runtime.draft import Inputs

_HELPERS = {"uid": "newuidmap", "gid": "newgidmap"}
_PLACES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin")


def text(mappings: list[IdMapping]) -> str:
    """Return the content of uid_map or gid_map."""
    return "".join(
        f"{m.get('containerID', 0)} {m.get('hostID', 0)} {m.get('size', 0)}\n" for m in mappings
    )


def write(pid: int, linux: Linux) -> None:
    """Write both maps of the process `pid`; raises KernelError or UnsupportedError."""
    write_maps(pid, linux.get("uidMappings") or [], linux.get("gidMappings") or [])


def write_maps(pid: int, uids: list[IdMapping], gids: list[IdMapping]) -> None:
    if posix.geteuid() == 0:
        _put(pid, "uid_map", text(uids))
        _put(pid, "gid_map", text(gids))
        return
    _write_as_user(pid, "uid", uids, posix.geteuid())
    _write_as_user(pid, "gid", gids, posix.getegid())


def _write_as_user(pid: int, kind: str, mappings: list[IdMapping], own: int) -> None:
    if len(mappings) == 1 and mappings[0].get("size") == 1 and mappings[0].get("hostID") == own:
        if kind == "gid":
            # Without privilege a group map may be written only once groups cannot be dropped.
            _put(pid, "setgroups", "deny")
        _put(pid, f"{kind}_map", text(mappings))
        return
    _run_helper(_HELPERS[kind], pid, mappings)


def _put(pid: int, name: str, content: str) -> None:
    path = f"/proc/{pid}/{name}"
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, content.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        hint = "see the mappings in linux.uidMappings and linux.gidMappings"
        raise KernelError("write id map", path, error, call="write", hint=hint) from None


def _run_helper(name: str, pid: int, mappings: list[IdMapping]) -> None:
    program = _find(name)
    words = [name, str(pid), *text(mappings).split()]
    child = posix.posix_spawn(program, words, {}, setsigmask=[], setsigdef=[_signal.SIGPIPE])
    _, status = posix.waitpid(child, 0)
    if status:
        file = "/etc/subuid" if name == "newuidmap" else "/etc/subgid"
        raise UnsupportedError(
            f"{name} refused the id map {text(mappings).strip()!r}",
            hint=f"{file} must grant this user these ids",
        )


def _find(name: str) -> str:
    for place in _PLACES:
        try:
            posix.stat(f"{place}/{name}")
        except OSError:
            continue
        return f"{place}/{name}"
    raise UnsupportedError(f"{name} is not installed", hint="install the package uidmap")


def trees(spec: Spec, inputs: Inputs) -> dict[int, int]:
    """Return index in mounts -> detached tree, for the binds this process has to open itself.

    Those are idmapped ones, and, where the child has a user namespace, all: its root may not be
    able to reach the source.
    """
    found: dict[int, int] = {}
    try:
        for index, mount in enumerate(spec.get("mounts") or []):
            options = mountoptions.parse(mount.get("options") or [])
            if not is_bind(mount, options) or options.remount:
                continue
            mapped = bool(options.idmap or mount.get("uidMappings"))
            if mapped or inputs.user_namespace:
                source = source_path(inputs.bundle, mount)
                found[index] = _tree(source, options.recursive)
            if mapped:
                uids = mount.get("uidMappings") or spec["linux"].get("uidMappings") or []
                gids = mount.get("gidMappings") or spec["linux"].get("gidMappings") or []
                deep = options.idmap == "ridmap"
                joined = inputs.namespaces.get("user", -1)
                if uids or joined < 0:
                    _map_tree(found[index], uids, gids, deep=deep, source=source)
                else:
                    _attach_ids(found[index], joined, deep=deep, source=source)
    except BaseException:
        for fd in found.values():
            posix.close(fd)
        raise
    return found


def root_tree(path: str) -> int:
    """Return a detached, private copy of the mounts at `path`."""
    tree = _tree(path, recursive=True)
    try:
        flags = c.AT_EMPTY_PATH | c.AT_RECURSIVE
        kernel.mount_setattr(tree, "", flags, propagation=c.MS_PRIVATE)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def mapped_tree(source: str, uids: list[IdMapping], gids: list[IdMapping]) -> int:
    """Return a detached, private, id-mapped copy of the mount at `source`."""
    tree = _tree(source, recursive=False)
    try:
        kernel.mount_setattr(tree, "", c.AT_EMPTY_PATH, propagation=c.MS_PRIVATE)
        _map_tree(tree, uids, gids, deep=False, source=source)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def _tree(source: str, recursive: bool) -> int:
    flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC | (c.AT_RECURSIVE if recursive else 0)
    try:
        return kernel.open_tree(c.AT_FDCWD, source, flags)
    except OSError as error:
        raise KernelError("open source of mount", source, error, call="open_tree") from None


def _map_tree(
    tree: int, uids: list[IdMapping], gids: list[IdMapping], *, deep: bool, source: str
) -> None:
    namespace = user_namespace(uids, gids)
    try:
        _attach_ids(tree, namespace, deep=deep, source=source)
    finally:
        posix.close(namespace)


def _attach_ids(tree: int, namespace: int, *, deep: bool, source: str) -> None:
    """Map the ids of `tree` as the user namespace does."""
    flags = c.AT_EMPTY_PATH | (c.AT_RECURSIVE if deep else 0)
    try:
        kernel.mount_setattr(tree, "", flags, c.MOUNT_ATTR_IDMAP, userns_fd=namespace)
    except OSError as error:
        hint = "its file system may not support id-mapped mounts"
        raise KernelError("map ids of", source, error, call="mount_setattr", hint=hint) from None


def user_namespace(uids: list[IdMapping], gids: list[IdMapping]) -> int:
    """Return a descriptor of a new user namespace with these maps; a child makes it and goes."""
    ready_out, ready_in = posix.pipe2(posix.O_CLOEXEC)
    child = posix.fork()
    if child == 0:
        _hold_namespace(ready_in)
    posix.close(ready_in)
    try:
        # One byte: the namespace is there. End of file: it could not be made.
        if not posix.read(ready_out, 1):
            raise UnsupportedError("cannot make a user namespace for an id-mapped mount")
        write_maps(child, uids, gids)
        return posix.open(f"/proc/{child}/ns/user", posix.O_RDONLY | posix.O_CLOEXEC)
    finally:
        posix.close(ready_out)
        posix.kill(child, _signal.SIGKILL)
        posix.waitpid(child, 0)


def _hold_namespace(ready: int) -> None:
    try:
        kernel.prctl(c.PR_SET_PDEATHSIG, _signal.SIGKILL)
        kernel.unshare(c.CLONE_NEWUSER)
        posix.write(ready, b"1")
        while True:
            _signal.pause()
    finally:
        posix._exit(1)
