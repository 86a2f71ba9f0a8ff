"""What the builder has to be told about the host and the image: facts, looked up by the engine."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontain.oci.runtime import Device, IdMapping, Mount, Seccomp


class Identity:
    """Who the process is: looked up in the image's /etc/passwd and /etc/group."""

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, uid: int, gid: int, groups: Sequence[int], home: str, name: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = list(groups)
        self.home = home
        self.name = name


class Host:
    """Facts for one container.

    id               64 hexadecimal digits
    rootfs           where the root file system will be mounted
    identity         the user of the process
    capabilities     every capability this kernel knows, by name
    seccomp          the filter for the container's capabilities, None for no filter
    files            (destination, source) of /etc/hosts, hostname, resolv.conf
    mounts           (OCI mount, origin) of each --volume, --mount, --tmpfs and image volume
    devices          (OCI device, access) of each --device
    block_devices    /dev/NAME to (major, minor), for the block I/O limits
    namespaces       OCI namespace type to the path to join, "" for a new one; absent is the host's
    caller           environment of the caller, for `--env NAME`
    uid_maps         of the user namespace; empty without one
    cpus             how many CPUs the host has, 0 when nobody asked
    delegated        cgroup limits can be set (False for an ordinary user without delegation)
    cgroups_path     linux.cgroupsPath
    init             path of the static init to run the command under, "" for none
    hard_limits      rlimit name to this process's hard limit; nothing is raised beyond
    """

    __slots__ = (
        "block_devices",
        "caller",
        "capabilities",
        "cgroups_path",
        "cpus",
        "delegated",
        "devices",
        "files",
        "gid_maps",
        "hard_limits",
        "id",
        "identity",
        "init",
        "mounts",
        "namespaces",
        "rootfs",
        "seccomp",
        "uid_maps",
    )

    def __init__(self, id: str, rootfs: str, identity: Identity) -> None:
        self.id = id
        self.rootfs = rootfs
        self.identity = identity
        self.capabilities: Sequence[str] = ()
        self.seccomp: Seccomp | None = None
        self.files: list[tuple[str, str]] = []
        self.mounts: list[tuple[Mount, str]] = []
        self.devices: list[tuple[Device, str]] = []
        self.block_devices: Mapping[str, tuple[int, int]] = {}
        self.namespaces: dict[str, str] = {}
        self.caller: Mapping[str, str] = {}
        self.uid_maps: list[IdMapping] = []
        self.gid_maps: list[IdMapping] = []
        self.cpus = 0
        self.delegated = True
        self.cgroups_path = ""
        self.init = ""
        self.hard_limits: Mapping[str, int] = {}
