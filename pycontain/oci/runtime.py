"""The documents of the OCI runtime specification 1.3: config.json, state, features.

Types only, no I/O and no rules: `runtime/validate.py` holds the rules. A hot module imports these
under TYPE_CHECKING. Every field is optional in the types, since a document is validated before it
is used; the specification says which must be there. Source: opencontainers/runtime-spec 1.3.0.
"""

from __future__ import annotations

from typing import TypedDict

SPEC_VERSION = "1.3.0"


class ConsoleSize(TypedDict, total=False):
    """Rows and columns of the terminal."""

    height: int
    width: int


class User(TypedDict, total=False):
    """Ids of the process inside the container's user namespace."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]
    username: str


class Capabilities(TypedDict, total=False):
    """The five sets of capabilities(7)."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict, total=False):
    """One limit of setrlimit(2)."""

    type: str
    soft: int
    hard: int


class Scheduler(TypedDict, total=False):
    """Arguments of sched_setattr(2); times in nanoseconds."""

    policy: str
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


IOPriority = TypedDict("IOPriority", {"class": str, "priority": int}, total=False)


class ExecCPUAffinity(TypedDict, total=False):
    """CPU lists for `exec`, before and after it joins the cgroup."""

    initial: str
    final: str


class Process(TypedDict, total=False):
    """The program and how it runs."""

    terminal: bool
    consoleSize: ConsoleSize
    user: User
    args: list[str]
    env: list[str]
    cwd: str
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    oomScoreAdj: int
    scheduler: Scheduler
    selinuxLabel: str
    ioPriority: IOPriority
    execCPUAffinity: ExecCPUAffinity


class Root(TypedDict, total=False):
    """The container's root file system."""

    path: str
    readonly: bool


class IdMapping(TypedDict, total=False):
    """One line of uid_map or gid_map (user_namespaces(7))."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """One mount, in order."""

    destination: str
    type: str
    source: str
    options: list[str]
    uidMappings: list[IdMapping]
    gidMappings: list[IdMapping]


class Hook(TypedDict, total=False):
    """A program that runs at one stage; timeout in seconds."""

    path: str
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    """The six stages."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Namespace(TypedDict, total=False):
    """A namespace to make, or with `path` to join."""

    type: str
    path: str


class Device(TypedDict, total=False):
    """A device node to make."""

    path: str
    type: str
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class NetDevice(TypedDict, total=False):
    """A network device to move into the container, and its name there."""

    name: str


class DeviceRule(TypedDict, total=False):
    """One rule of the device cgroup; major or minor -1 is any."""

    allow: bool
    type: str
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """Limits in bytes, -1 is no limit."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class Cpu(TypedDict, total=False):
    """CPU shares and bandwidth (microseconds), cpuset."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict, total=False):
    """The limit on tasks."""

    limit: int


class WeightDevice(TypedDict, total=False):
    """I/O weight of one block device."""

    major: int
    minor: int
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict, total=False):
    """Bytes or operations per second of one block device."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """Limits on block devices."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict, total=False):
    """Bytes of huge pages of one size."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict, total=False):
    """Priority of the traffic on one interface (net_prio, v1)."""

    name: str
    priority: int


class Network(TypedDict, total=False):
    """Tags of network traffic (v1)."""

    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    """Limits of one RDMA device."""

    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """What the cgroup of the container limits."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: Cpu
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: Network
    rdma: dict[str, Rdma]
    unified: dict[str, str]


class SeccompArg(TypedDict, total=False):
    """A comparison with one argument of a system call."""

    index: int
    value: int
    valueTwo: int
    op: str


class SeccompRule(TypedDict, total=False):
    """An action for some system calls."""

    names: list[str]
    action: str
    errnoRet: int
    args: list[SeccompArg]


class Seccomp(TypedDict, total=False):
    """The system call filter."""

    defaultAction: str
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[SeccompRule]


class IntelRdt(TypedDict, total=False):
    """Resource control of caches and memory bandwidth."""

    closID: str
    l3CacheSchema: str
    memBwSchema: str
    schemata: list[str]
    enableMonitoring: bool
    enableCMT: bool
    enableMBM: bool


class MemoryPolicy(TypedDict, total=False):
    """Arguments of set_mempolicy(2)."""

    mode: str
    nodes: str
    flags: list[str]


class Personality(TypedDict, total=False):
    """Argument of personality(2)."""

    domain: str
    flags: list[str]


class TimeOffset(TypedDict, total=False):
    """Offset of one clock in a time namespace."""

    secs: int
    nanosecs: int


class Linux(TypedDict, total=False):
    """What only Linux has."""

    namespaces: list[Namespace]
    uidMappings: list[IdMapping]
    gidMappings: list[IdMapping]
    timeOffsets: dict[str, TimeOffset]
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    cgroupsPath: str
    resources: Resources
    rootfsPropagation: str
    seccomp: Seccomp
    sysctl: dict[str, str]
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy
    personality: Personality


class Spec(TypedDict, total=False):
    """One config.json."""

    ociVersion: str
    root: Root
    process: Process
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux


class State(TypedDict, total=False):
    """What `state` prints and what hooks read on stdin."""

    ociVersion: str
    id: str
    status: str
    pid: int
    bundle: str
    annotations: dict[str, str]


class Features(TypedDict, total=False):
    """What `features` prints; `linux` is a tree of small objects (features-linux.md)."""

    ociVersionMin: str
    ociVersionMax: str
    hooks: list[str]
    mountOptions: list[str]
    linux: dict[str, object]
    annotations: dict[str, str]
    potentiallyUnsafeConfigAnnotations: list[str]
