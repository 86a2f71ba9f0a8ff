"""A container made from an image, ready to start: name, directory, layer, Spec, record.

Everything it makes is undone in reverse when a later step fails. Until the record is written the
container is half made: its lock file names it, so a kill at any moment is undone by the next
command (`reconcile`).
"""

from __future__ import annotations

import posix

from pycontain import trees
from pycontain.engine import etc, facts, lookup, users
from pycontain.engine.record import Record
from pycontain.engine.store import Store, new_id
from pycontain.errors import (
    ConflictError,
    InvalidError,
    KernelError,
    PycontainError,
    UnsupportedError,
    UsageError,
)
from pycontain.image.store import ImageStore
from pycontain.rootfs.snapshotter import Snapshotter
from pycontain.runtime import capabilities, seccomp_profile
from pycontain.runtime import container as containers
from pycontain.spec import builder, process
from pycontain.spec.host import Host
from pycontain.syscalls import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pycontain.engine.store import Lock
    from pycontain.image.store import Image
    from pycontain.oci.runtime import Seccomp, Spec
    from pycontain.spec.options import RunOptions


class Draft:
    """A made container that does not run yet; the holder of `lock` is responsible for it."""

    __slots__ = ("directory", "lock", "origins", "record", "rootfs_mounts", "spec")

    def __init__(
        self,
        record: Record,
        directory: str,
        lock: Lock,
        rootfs_mounts: list[dict[str, Any]],
        spec: Spec,
        origins: dict[str, str],
    ) -> None:
        self.record = record
        self.directory = directory
        self.lock = lock
        self.rootfs_mounts = rootfs_mounts
        self.spec = spec
        self.origins = origins


class Maker:
    """Makes containers under one pair of roots."""

    __slots__ = ("_undo", "_volumes_lock", "images", "snapshots", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
        self.images = ImageStore(store.root)
        self.snapshots = Snapshotter(store.root)
        self._undo: list[Callable[[], object]] = []
        self._volumes_lock = -1

    def make(
        self, options: RunOptions, image_name: str, command: Sequence[str], *, start: bool = True
    ) -> Draft:
        """Make a container; nothing is left when this raises. `start`: it is going to run now."""
        self._undo = []
        held = self.images.hold()
        try:
            return self._make(options, image_name, command, start)
        except BaseException:
            self._take_back()
            raise
        finally:
            if self._volumes_lock >= 0:
                posix.close(self._volumes_lock)
                self._volumes_lock = -1
            if held >= 0:
                posix.close(held)

    def _make(
        self, options: RunOptions, image_name: str, command: Sequence[str], start: bool
    ) -> Draft:
        _check(options)
        image = self.images.resolve(image_name)
        _check_platform(options.platform, image)
        record = _record(options, image, image_name)
        record.ran = start
        lock = self._claim(record, options)
        directory = self._make_directory(record)
        rootfs_mounts = self._make_rootfs(directory, image, options)
        record.rootfs_mounts = rootfs_mounts
        host = self._facts(options, image, record, directory)
        spec, origins = builder.build(options, image.config, command, host)
        record.command = spec["process"]["args"]
        record.capabilities = process.root_capabilities(options, host)
        self._remember(record, spec, options)
        return Draft(record, directory, lock, rootfs_mounts, spec, origins)

    def _claim(self, record: Record, options: RunOptions) -> Lock:
        """Take the lock and the name; a random name that is taken is replaced by another."""
        from pycontain.engine.names import random_name

        record.name = options.name or random_name()
        lock = None
        while lock is None:
            # None: another command looks at the new file at this moment, to see who holds it.
            lock = self.store.lock(record.id, record.name)
        self._undo.append(lock.release)
        # Before the act: Ctrl-C may come between the two.
        self._undo.append(lambda: self.store.release_name(record.name, record.id))
        while True:
            try:
                self.store.claim_name(record.name, record.id)
                break
            except ConflictError:
                if options.name:
                    raise
                record.name = f"{random_name()}_{posix.urandom(2).hex()}"
                lock.write(record.name)
        return lock

    def _make_directory(self, record: Record) -> str:
        self._undo.append(lambda: trees.remove(self.store.directory(record.id)))
        return self.store.make_directory(record.id)

    def _make_rootfs(
        self, directory: str, image: Image, options: RunOptions
    ) -> list[dict[str, Any]]:
        self._undo.append(lambda: self.snapshots.remove(directory))
        if _keeps_id(options):
            from pycontain.engine import keepid

            return keepid.prepare(self.snapshots, directory, image.chain_ids)
        mounts = self.snapshots.prepare(directory, image.chain_ids, volatile=options.rm)
        try:
            posix.mkdir(directory + "/rootfs", 0o755)
        except FileExistsError:
            # The copy of an image's files is this directory already.
            return mounts
        return mounts

    def _facts(self, options: RunOptions, image: Image, record: Record, directory: str) -> Host:
        """Look up whatever the Spec depends on beside options and image."""
        with_layers = lookup.Layers(self._layers(image))
        try:
            user = image.config.get("User") or ""
            if not user and _keeps_id(options):
                user = f"{posix.getuid()}:{posix.getgid()}"
            who = users.resolve(with_layers.read, options.user, user, options.group_add)
        finally:
            with_layers.close()
        host = Host(record.id, directory + "/rootfs", who)
        host.namespaces, record.joins = facts.namespaces(options, self.running)
        host.capabilities = _known_capabilities(options)
        host.devices = facts.devices(options.device, privileged=options.privileged)
        host.block_devices = facts.block_devices(options)
        host.cgroups_path = _cgroups_path(options, record)
        host.cpus = posix.cpu_count() or 0 if options.cpus else 0
        host.delegated = record.cgroup_manager != "disabled"
        host.caller = _caller_environment() if options.env else {}
        own = posix.geteuid() == 0 and options.userns not in ("", "host")
        if own:
            from pycontain.engine import userns

            userns.apply(self.store, record.id, options.userns, host)
            userns.map_layers(record.rootfs_mounts, self.store.root, directory)
        elif _keeps_id(options):
            from pycontain.engine import keepid

            keepid.apply(host)
        elif posix.geteuid() != 0:
            _map_ids(host, options)
        if host.uid_maps:
            _check_devices(options)
        host.files = self._files(options, record, directory, host)
        host.mounts = self._mounts(options, image, record, host)
        if own:
            userns.own_files(host.files, host)
        elif _keeps_id(options):
            keepid.own_files(host.files)
        if options.init:
            host.init = native_program("init")
        host.seccomp = _seccomp(options, host)
        return host

    def _layers(self, image: Image) -> list[str]:
        return [self.snapshots.diff(chain) for chain in reversed(image.chain_ids)]

    def running(self, word: str) -> tuple[str, int]:
        """Return (id, pid of init) of a running container."""
        identity = self.store.find(word)
        try:
            other = containers.load(self.store.run_root, identity)
            if other.status() in ("running", "paused"):
                return identity, other.pid
        except PycontainError:
            pass
        raise ConflictError(f"container {word} is not running: its namespaces cannot be joined")

    def _files(
        self, options: RunOptions, record: Record, directory: str, host: Host
    ) -> list[tuple[str, str]]:
        other = record.joins.get("network")
        if other:
            record.hostname = self.store.load(other).hostname
            return etc.places(self.store.directory(other))
        record.hostname = options.hostname or (
            record.id[:12] if host.namespaces.get("uts") == "" else posix.uname().nodename
        )
        shared = "network" not in host.namespaces
        return etc.write(directory, record.hostname, options, host_network=shared)

    def _mounts(
        self, options: RunOptions, image: Image, record: Record, host: Host
    ) -> list[tuple[Any, str]]:
        wanted = options.mounts()
        declared = image.config.get("Volumes")
        if not wanted and not declared:
            return []
        from pycontain.engine import fill, volumes

        wanted += volumes.image_volumes(declared, {mount.destination for mount in wanted})
        if options.explain:
            return volumes.resolve(self.store.root, wanted, [], dry=True)[0]
        # Until the record is written nobody else can see that the volumes are in use.
        self._volumes_lock = volumes.hold(self.store.root, c.LOCK_SH)
        made: list[str] = []
        self._undo.append(lambda: volumes.remove_all(self.store.root, made))
        mounts, empty = volumes.resolve(self.store.root, wanted, made)
        record.volumes = made
        record.mounts = volumes.listing(wanted, mounts)
        fill.fill(self._layers(image), empty)
        if host.uid_maps and posix.geteuid() == 0:
            from pycontain.engine import userns

            userns.own_volumes(self.store.root, mounts, empty, host)
        return mounts

    def _remember(self, record: Record, spec: Spec, options: RunOptions) -> None:
        """Write config.json, the id file and, last, the record."""
        if not options.rm:
            self.store.save_config(record.id, spec)
        if options.cidfile and not options.explain:
            self._write_cidfile(options.cidfile, record.id)
        self.store.save(record, sync=not options.rm)

    def _write_cidfile(self, path: str, identity: str) -> None:
        try:
            fd = posix.open(
                path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644
            )
        except FileExistsError:
            hint = "make sure that container is not running, then remove the file"
            raise ConflictError(f"--cidfile {path}: the file exists", hint=hint) from None
        except OSError as error:
            raise KernelError("write container id file", path, error) from None
        self._undo.append(lambda: posix.unlink(path))
        trees.write_all(fd, identity.encode())
        posix.close(fd)

    def _take_back(self) -> None:
        for step in reversed(self._undo):
            try:
                step()
            except (OSError, PycontainError):
                # The error on its way to the caller is the cause; what is left, `reconcile`
                # removes.
                continue


def native_program(name: str) -> str:
    """Return the path of a static program of ours; raises UnsupportedError when it is not built."""
    path = f"{__file__.rpartition('/')[0].rpartition('/')[0]}/native/bin/{name}"
    try:
        posix.stat(path)
    except OSError:
        hint = "install a C compiler and build again"
        raise UnsupportedError(f"the static program {name} is not built", hint=hint) from None
    return path


def _check(options: RunOptions) -> None:
    if options.rm and options.restart[0] != "no":
        raise UsageError("--rm and --restart contradict each other")
    if options.privileged and options.userns not in ("", "host"):
        raise UsageError("--privileged and --userns contradict each other")


def _check_platform(wanted: tuple[str, str], image: Image) -> None:
    architecture, variant = wanted
    if architecture in ("", image.architecture) and variant in ("", image.variant):
        return
    asked = f"linux/{architecture}" + (f"/{variant}" if variant else "")
    found = f"linux/{image.architecture}" + (f"/{image.variant}" if image.variant else "")
    raise InvalidError(f'image "{image.name or image.id}" is for {found}, not for {asked}')


def _record(options: RunOptions, image: Image, image_name: str) -> Record:
    record = Record(new_id(), "")
    record.image = image_name
    record.image_id = image.id
    record.chain_ids = image.chain_ids
    record.labels = {**(image.config.get("Labels") or {}), **dict(options.label)}
    record.network = options.network or "none"
    record.cgroup_manager = options.cgroup_manager or "cgroupfs"
    record.runtime = options.runtime
    record.auto_remove = options.rm
    record.tty = options.tty
    record.open_stdin = options.interactive
    record.stop_signal = options.stop_signal or _image_signal(image)
    record.stop_timeout = options.stop_timeout
    record.restart = list(options.restart)
    record.log_driver = options.log_driver
    record.log_opts = dict(options.log_opt)
    return record


def _image_signal(image: Image) -> int:
    from pycontain.spec.values import signal_number

    text = image.config.get("StopSignal")
    return signal_number(text, "image stop signal") if text else 15


def _known_capabilities(options: RunOptions) -> list[str]:
    """Return what --cap-add may name; ALL and --privileged mean what this process has itself."""
    if options.privileged or "ALL" in options.cap_add:
        return held_capabilities()
    return capabilities.known()


def held_capabilities() -> list[str]:
    """Return the capabilities of this process's bounding set."""
    for line in trees.read_file("/proc/self/status", 1 << 16).split(b"\n"):
        if line.startswith(b"CapBnd:"):
            return capabilities.names(int(line[7:], 16))
    return capabilities.known()


def _cgroups_path(options: RunOptions, record: Record) -> str:
    if not options.cgroup_parent:
        return ""
    if record.cgroup_manager == "systemd":
        return f"{options.cgroup_parent}:pycontain:{record.id}"
    return f"{options.cgroup_parent.rstrip('/')}/{record.id}"


def _caller_environment() -> dict[str, str]:
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in posix.environ.items()
    }


def _check_devices(options: RunOptions) -> None:
    for device in options.device:
        if device.source != device.destination:
            # No node can be made there: the host's own is bound, by its path.
            raise UsageError(
                f"--device {device.source}:{device.destination}: a user namespace shows a device "
                "under its own path only"
            )


def _keeps_id(options: RunOptions) -> bool:
    if not options.userns or posix.geteuid() == 0:
        return False
    from pycontain.engine import keepid

    return keepid.wanted(options)


def _map_ids(host: Host, options: RunOptions) -> None:
    """An ordinary user is root in a user namespace; ids beyond one need newuidmap(1)."""
    from pycontain.rootfs import userns

    maps = userns.id_maps()
    if maps.count <= max([host.identity.uid, host.identity.gid, *host.identity.groups]):
        hint = (
            ""
            if maps.helpers
            else "install uidmap and give this user ranges in /etc/subuid and /etc/subgid"
        )
        raise UsageError(f"user id {host.identity.uid} is not mapped for this user", hint=hint)
    host.namespaces = {"user": "", **host.namespaces}
    host.uid_maps = [{"containerID": a, "hostID": b, "size": n} for a, b, n in maps.uids]
    host.gid_maps = [{"containerID": a, "hostID": b, "size": n} for a, b, n in maps.gids]
    host.delegated = False


def _seccomp(options: RunOptions, host: Host) -> Seccomp | None:
    chosen = process.security(options).get("seccomp", "")
    if chosen == "unconfined" or (options.privileged and not chosen):
        return None
    # Root's, whoever init runs as: `exec` has the same filter, and may be root.
    held = process.root_capabilities(options, host)
    if chosen:
        return seccomp_profile.load_profile(chosen, held)
    return seccomp_profile.default_profile(held)
