"""What `run` and `create` were asked for, as typed values; None or empty is "not given".

The command line fills it from its table of options, the Python API from keyword arguments. Values
are parsed already (see values.py and files.py); nothing here knows texts, images or the host.
"""

from __future__ import annotations

from pycontain.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.spec.files import Device, Mount


class RunOptions:
    """The options of one container; `given` maps an option's name to its words, for --explain.

    A plain class with defaults on the class: sixty values are stored only where they were given.
    """

    # limits
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpus: int | None = None  # billionths of a CPU
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: Sequence[tuple[str, int]] = ()
    device_read_bps: Sequence[tuple[str, int]] = ()
    device_write_bps: Sequence[tuple[str, int]] = ()
    device_read_iops: Sequence[tuple[str, int]] = ()
    device_write_iops: Sequence[tuple[str, int]] = ()
    ulimit: Sequence[tuple[str, int, int]] = ()
    oom_score_adj: int | None = None
    shm_size: int = 64 << 20
    # identity
    platform: tuple[str, str] = ("", "")  # architecture and variant of the image
    name: str = ""
    hostname: str = ""
    domainname: str = ""
    user: tuple[str, str] | None = None
    group_add: Sequence[str] = ()
    workdir: str = ""
    env: Sequence[str] = ()
    env_file: Sequence[str] = ()
    label: Sequence[tuple[str, str]] = ()
    label_file: Sequence[str] = ()
    annotation: Sequence[tuple[str, str]] = ()
    entrypoint: str | None = None
    init: bool = False
    umask: int | None = None
    # files
    volume: Sequence[Mount] = ()
    mount: Sequence[Mount] = ()
    tmpfs: Sequence[Mount] = ()
    read_only: bool = False
    device: Sequence[Device] = ()
    device_cgroup_rule: Sequence[tuple[str, int | None, int | None, str]] = ()
    # isolation
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    network: str = ""
    userns: str = ""
    cgroupns: str = ""
    time_offset: Sequence[tuple[str, int]] = ()
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    privileged: bool = False
    security_opt: Sequence[str] = ()
    sysctl: Sequence[tuple[str, str]] = ()
    cgroup_parent: str = ""
    cgroup_manager: str = ""
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_option: Sequence[str] = ()
    add_host: Sequence[tuple[str, str]] = ()
    # life and terminal
    interactive: bool = False
    tty: bool = False
    detach: bool = False
    sig_proxy: bool = True
    rm: bool = False
    stop_signal: int | None = None
    stop_timeout: int = 10
    restart: tuple[str, int] = ("no", 0)
    cidfile: str = ""
    log_driver: str = "json-file"
    log_opt: Sequence[tuple[str, str]] = ()
    # insight
    explain: bool = False
    timeline: bool = False
    format: str = ""
    runtime: str = ""

    def __init__(self, values: dict[str, object], given: dict[str, str] | None = None) -> None:
        for name in values:
            if name not in RunOptions.__annotations__:
                raise UsageError(f"unknown option {name}")
        self.__dict__.update(values)
        self.given = given or {}

    def mounts(self) -> list[Mount]:
        """Return every mount asked for, in the order the options have in a bundle."""
        return [*self.volume, *self.mount, *self.tmpfs]
