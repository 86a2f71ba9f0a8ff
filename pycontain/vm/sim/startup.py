"""Start-up by stages: VMM, firmware, loading, decompression, kernel, init, command.

Owns which stages a profile goes through and which constant each takes. Container start is a
stage of its own, and is better measured than modelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontain.errors import InvalidError

if TYPE_CHECKING:
    from pycontain.vm.sim.constants import Costs
    from pycontain.vm.sim.hardware import Hardware
    from pycontain.vm.sim.profiles import Profile

FIRMWARES = {
    "none": "",
    "qboot": "t_qboot",
    "seabios": "t_seabios",
    "bios": "t_bios",
    "ovmf": "t_ovmf",
    "hvmloader": "t_hvmloader",
}
FORMATS = {"vmlinux": "", "none": "", "bzimage": "t_decompress", "bzimage-xz": "t_decompress_xz"}
KERNELS = {
    "none": "t_kernel_none",
    "minimal": "t_kernel_minimal",
    "fc": "t_kernel_fc",
    "chv": "t_kernel_chv",
    "pci": "t_kernel_pci",
    "cloud": "t_kernel_cloud",
    "distro": "t_kernel_distro",
    "tinyx": "t_kernel_tinyx",
    "unikernel": "t_kernel_unikernel",
    "windows": "t_kernel_windows",
}
INITS = {
    "none": "t_init_none",
    "busybox": "t_init_busybox",
    "openrc": "t_init_openrc",
    "sysv": "t_init_sysv",
    "systemd": "t_init_systemd",
    "full": "t_init_full",
}
RUNTIMES = {"process": "t_fork_exec", "oci": "t_container", "dockerd": "t_dockerd"}
HOST_STAGES = ("vmm", "network", "runtime", "daemon", "process")
PUBLISHED_SPEED = 0.65
"""Speed of skx_2019, the hosts of FC20, MVM19 and QBT19."""

UNTIL = ("kernel", "init", "command")


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What is started. None takes the profile's default.

    `kernel` of KERNELS, `kernel_format` of FORMATS, `firmware` of FIRMWARES, `init` of INITS.
    `devices` are those a Xen toolstack plugs by script; `image_bytes` kernel and ramdisk it reads.
    `since` is "exec" (of the VMM) or "instance_start" (VMM already there). `until` is where the
    clock stops. `concurrency` guests start together; `running_guests` are there already.
    """

    firmware: str | None = None
    kernel_format: str | None = None
    kernel: str | None = None
    init: str = "none"
    boot_loader: bool = False
    network: bool = False
    serial_console: bool = False
    tsc_deadline: bool | None = None
    pci_buses: int = 0
    configuration: str = "api"
    toolstack: str | None = None
    devices: int = 1
    image_bytes: float = 10 * 2**20
    restore: bool = False
    runtime: str = "oci"
    since: str = "exec"
    until: str = "init"
    concurrency: int = 1
    running_guests: int = 0

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.firmware, FIRMWARES, "firmware"),
            (self.kernel_format, FORMATS, "kernel format"),
            (self.kernel, KERNELS, "kernel"),
            (self.init, INITS, "init"),
            (self.runtime, RUNTIMES, "runtime"),
            (self.until, UNTIL, "end of boot"),
        ):
            if value is not None and value not in known:
                raise InvalidError(f"no {what} {value}", hint="one of " + ", ".join(known))


def stages(profile: Profile, boot: Boot, costs: Costs, hardware: Hardware) -> dict[str, float]:
    """Return the seconds of each stage of one start; concurrency is in each of them."""
    if profile.type == "os":
        found = _container(boot, costs)
    elif boot.restore:
        found = {"vmm": _vmm(profile, boot, costs), "restore": costs["t_restore"]}
    else:
        found = _machine(profile, boot, costs, hardware)
    guest, vmm = contention(boot, costs, hardware)
    return {
        name: seconds * (vmm if name in HOST_STAGES else guest)
        for name, seconds in found.items()
        if seconds
    }


def _container(boot: Boot, costs: Costs) -> dict[str, float]:
    parts = {"process": costs["t_fork_exec"]}
    if boot.runtime != "process":
        parts["runtime"] = costs["t_container"]
    if boot.runtime == "dockerd":
        parts["daemon"] = costs["t_dockerd"]
    return parts


def _machine(profile: Profile, boot: Boot, costs: Costs, hardware: Hardware) -> dict[str, float]:
    startup = profile.startup
    firmware = FIRMWARES[boot.firmware or startup["firmware"]]
    packed = "vmlinux" if boot.kernel == "unikernel" else startup["format"]
    decompress = FORMATS[boot.kernel_format or packed]
    host_pace = pace = pace_of(hardware) ** -costs["k_boot_speed"]
    if profile.techniques[0] == "TCG":
        pace *= costs["x_tcg_kernel"]
    parts = {
        "vmm": _vmm(profile, boot, costs) * host_pace if boot.since == "exec" else 0.0,
        "network": costs[startup.get("net", "t_net")] if boot.network else 0.0,
        "firmware": costs[firmware] * pace if firmware else 0.0,
        "loader": costs["t_grub"] * pace if boot.boot_loader else 0.0,
        "decompress": costs[decompress] * pace if decompress else 0.0,
        "kernel": costs[KERNELS[boot.kernel or startup["kernel"]]] * pace,
        "probes": _probes(profile, boot, costs, hardware),
    }
    if boot.until != "kernel":
        parts["init"] = costs[INITS[boot.init]] * pace
    if boot.until == "command":
        parts["command"] = costs["t_command"]
    return parts


def _vmm(profile: Profile, boot: Boot, costs: Costs) -> float:
    toolstack = boot.toolstack or profile.startup.get("toolstack", "")
    if toolstack == "chaos":
        return costs["t_chaos"]
    seconds = costs[profile.startup["vmm"]]
    if toolstack in ("xl", "xapi"):
        seconds += boot.devices * costs["t_xl_device"]
        seconds += boot.image_bytes / 2**20 * costs["t_xl_per_mb"]
        slowing = costs["t_xs_guest"] + boot.devices * costs["t_xs_device"]
        seconds += boot.running_guests * slowing
    if boot.configuration == "file" and profile.name == "firecracker":
        seconds += costs["t_config_file"]
    return seconds


def pace_of(hardware: Hardware) -> float:
    """Return single-thread speed relative to the hosts the boot times were published for."""
    return hardware.speed / PUBLISHED_SPEED


def _probes(profile: Profile, boot: Boot, costs: Costs, hardware: Hardware) -> float:
    """Return what a kernel waits for: bus scans, the console, a timer without TSC_DEADLINE."""
    if (boot.kernel or profile.startup["kernel"]) in ("unikernel", "none"):
        return 0.0
    seconds = boot.pci_buses * costs["t_pci_scan"]
    seconds += costs["t_serial"] if boot.serial_console else 0.0
    deadline = hardware.has("tsc_deadline") if boot.tsc_deadline is None else boot.tsc_deadline
    # Without TSC_DEADLINE the guest calibrates its timer against another clock (MVM19). PV
    # guests take time from the hypervisor and never do.
    return (
        seconds
        if deadline or profile.techniques[0] == "PV"
        else seconds + costs["t_no_tsc_deadline"]
    )


def contention(boot: Boot, costs: Costs, hardware: Hardware) -> tuple[float, float]:
    """Return how much longer each of `concurrency` starts takes: in the guest, on the host.

    Starts share the cores; the host's part also queues for locks (memory maps, tap devices).
    """
    others = boot.concurrency - 1
    if others <= 0:
        return 1.0, 1.0
    waves = max(1.0, boot.concurrency / hardware.cores)
    shared = 1.0 + costs["k_boot_cpu"] * (waves - 1.0)
    return (
        shared + others * costs["k_boot_contention"],
        shared + others * costs["k_vmm_contention"],
    )
