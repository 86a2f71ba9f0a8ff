"""Memory of a guest by definition, page sharing, and how many guests fit on a host.

Owns the equations; every size is bytes. The definition is part of every answer because the four
of them differ by a factor of five (FC20: QEMU 131 MiB private, 25 MiB resident).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontain.errors import InvalidError

if TYPE_CHECKING:
    from pycontain.vm.sim.constants import Costs
    from pycontain.vm.sim.profiles import Profile

MIB = 2**20
SMALL_GUEST = 256 * MIB
LOW_MEMORY = 3328 * MIB
DEFINITIONS = {
    "host": "what the host loses to the guest: resident guest memory, VMM and tables, less sharing",
    "rss": "resident set of the VMM process, guest included",
    "mapped": "private writable mappings of the VMM process, guest memory included",
    "vmm": "private memory of the VMM, guest excluded",
    "vmm_rss": "resident memory of the VMM, guest excluded",
    "guest": "resident memory of the guest alone: kernel, working set, its page cache",
    "guest_total": "MemTotal inside the guest",
}
IDLE = {
    "minimal": "m_idle_minimal",
    "distro": "m_idle_distro",
    "tinyx": "m_idle_tinyx",
    "unikernel": "m_idle_unikernel",
    "server": "m_idle_server",
    "windows": "m_idle_windows",
}
SHARING = {"none": "", "same": "k_share_same", "mixed": "k_share_mixed"}


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """One guest (or container): memory size, working set, and what it holds.

    `guest` of IDLE says what is resident when nothing runs; `idle_bytes` replaces it.
    `page_cache_bytes` is cached in the guest and again in the host unless `dax`. `sharing` of
    SHARING (or `shareable_fraction`) is merged by KSM or TPS; `balloon_bytes` were taken back.
    """

    memory_bytes: float
    working_set_bytes: float = 0.0
    page_cache_bytes: float = 0.0
    guest: str = "minimal"
    idle_bytes: float | None = None
    sharing: str = "none"
    shareable_fraction: float | None = None
    balloon_bytes: float = 0.0
    dax: bool = False
    huge_pages: bool = False
    guests: int = 1

    def __post_init__(self) -> None:
        if self.guest not in IDLE:
            raise InvalidError(f"no kind of guest {self.guest}", hint="one of " + ", ".join(IDLE))
        if self.sharing not in SHARING:
            raise InvalidError(f"no sharing {self.sharing}", hint="one of " + ", ".join(SHARING))


def parts(profile: Profile, foot: Footprint, costs: Costs) -> dict[str, float]:
    """Return the resident bytes of one guest by part; a saving is negative."""
    if profile.type == "os":
        return {
            "working set": foot.working_set_bytes,
            "runtime": costs["m_container"] * MIB,
        }
    resident = resident_guest(foot, costs)
    table_share = costs["k_ept_4k"] / (512 if foot.huge_pages else 1)
    return {
        "guest": resident,
        "vmm": costs[profile.memory["resident"]] * MIB,
        "page tables": table_share * resident,
        "cache twice": 0.0 if foot.dax else min(foot.page_cache_bytes, resident),
        "shared": -shared_bytes(foot, resident, costs),
        "balloon": -min(foot.balloon_bytes, resident),
    }


def resident_guest(foot: Footprint, costs: Costs) -> float:
    """Return the guest memory the host has backed: kernel, struct page, working set, cache."""
    idle = foot.idle_bytes if foot.idle_bytes is not None else costs[IDLE[foot.guest]] * MIB
    # The published idle sizes of Xen guests hold the struct pages of a small guest already.
    known = 0 if foot.guest == "minimal" else SMALL_GUEST
    pages = costs["k_struct_page"] * max(0.0, foot.memory_bytes - known)
    touched = idle + pages + foot.working_set_bytes + foot.page_cache_bytes
    touched += bounce_buffer_bytes(foot, costs)
    return min(foot.memory_bytes, touched)


def bounce_buffer_bytes(foot: Footprint, costs: Costs) -> float:
    """Return the DMA bounce buffer an x86 Linux guest sets aside once memory lies above 4 GiB.

    Part of the 32-bit space is a hole for devices, so that 4 GiB of memory reach above it.
    """
    linux = foot.guest not in ("unikernel", "windows")
    return costs["m_swiotlb"] * MIB if linux and foot.memory_bytes > LOW_MEMORY else 0.0


def shared_bytes(foot: Footprint, resident: float, costs: Costs) -> float:
    """Return the bytes page sharing gives back on average over the guests of a host."""
    name = SHARING[foot.sharing]
    share = costs[name] if name else 0.0
    if foot.shareable_fraction is not None:
        share = foot.shareable_fraction
    return share * resident


def memory_bytes(profile: Profile, foot: Footprint, definition: str, costs: Costs) -> float:
    """Return the memory of `foot.guests` guests by `definition` (of DEFINITIONS)."""
    return foot.guests * _one(profile, foot, definition, costs)


def _one(profile: Profile, foot: Footprint, definition: str, costs: Costs) -> float:
    split = parts(profile, foot, costs)
    match definition:
        case "host":
            return sum(split.values())
        case "rss":
            # A page cached by the host is not in the process; merged pages still are.
            return sum(split.values()) - split.get("cache twice", 0) - split.get("shared", 0)
        case "mapped":
            return foot.memory_bytes + costs[profile.memory["private"]] * MIB
        case "vmm":
            return costs[profile.memory["private"]] * MIB
        case "vmm_rss":
            return costs[profile.memory["resident"]] * MIB
        case "guest":
            return split.get("guest", foot.working_set_bytes)
        case "guest_total":
            kernel = costs["m_kernel"] * MIB + bounce_buffer_bytes(foot, costs)
            return foot.memory_bytes * (1 - costs["k_struct_page"]) - kernel
        case _:
            raise InvalidError(f"no definition of memory {definition}")


@dataclass(frozen=True, kw_only=True)
class Host:
    """The host of a density question: memory, cores, and each guest's mean CPU demand."""

    memory_bytes: float
    cores: int = 0
    cpu_per_guest: float = 0.0
    reserved: bool = False


def density(profile: Profile, foot: Footprint, host: Host, costs: Costs) -> float:
    """Return how many guests fit; `reserved` hosts back all of a guest's memory at once."""
    free = host.memory_bytes - costs[profile.memory["fixed"]] * MIB
    one = _one(profile, foot, "host", costs)
    if host.reserved and profile.type != "os":
        one = foot.memory_bytes + costs[profile.memory["resident"]] * MIB
    fit = max(0.0, free // one)
    if host.cores and host.cpu_per_guest:
        fit = min(fit, host.cores // host.cpu_per_guest)
    return fit
