"""Capability names, numbers and masks (capabilities(7), linux/capability.h).

What a container gets by default and what --cap-add and --cap-drop make of it. Setting them is the
plan's work.
"""

from __future__ import annotations

import posix

from pycontain.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER
SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
CHECKPOINT_RESTORE
"""

NAMES = tuple("CAP_" + name for name in _NAMES.split())
"""The name of capability N is NAMES[N]."""

NUMBERS = {name: number for number, name in enumerate(NAMES)}

VERSION_3 = 0x20080522


def number(name: str) -> int:
    """Return the number of a capability named with or without CAP_, in any case."""
    return NUMBERS[canonical(name)]


def canonical(name: str) -> str:
    """Return the full upper-case name; raises UsageError for an unknown one."""
    full = name.upper()
    if not full.startswith("CAP_"):
        full = "CAP_" + full
    if full not in NUMBERS:
        raise UsageError(f"unknown capability {name!r}", hint="see capabilities(7)")
    return full


def mask(names: Iterable[str]) -> int:
    """Return the bit mask of capability names."""
    bits = 0
    for name in names:
        bits |= 1 << number(name)
    return bits


def names(bits: int) -> list[str]:
    """Return the names of the bits of a mask, by number; bits without a name are left out."""
    return [name for n, name in enumerate(NAMES) if bits >> n & 1]


def last_cap() -> int:
    """Return the highest capability this kernel knows (/proc/sys/kernel/cap_last_cap)."""
    try:
        fd = posix.open("/proc/sys/kernel/cap_last_cap", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return len(NAMES) - 1
    try:
        return int(posix.read(fd, 16))
    finally:
        posix.close(fd)


def known() -> list[str]:
    """Return the capabilities that both this program and the kernel know."""
    return list(NAMES[: last_cap() + 1])


def adjust(base: Iterable[str], add: Iterable[str], drop: Iterable[str]) -> list[str]:
    """Return `base` with --cap-drop and --cap-add applied, in the order of the numbers.

    ALL stands for every capability of this kernel; `--cap-drop ALL --cap-add X` leaves X, and
    `--cap-add ALL --cap-drop X` leaves all but X. Naming one capability in both is a UsageError.
    """
    add, drop = [n.upper() for n in add], [n.upper() for n in drop]
    added = {canonical(n) for n in add if n != "ALL"}
    dropped = {canonical(n) for n in drop if n != "ALL"}
    both = added & dropped
    if both or ("ALL" in add and "ALL" in drop):
        raise UsageError(f"capability {min(both, default='ALL')} is both added and dropped")
    kept = set(known()) if "ALL" in add else set() if "ALL" in drop else set(base)
    return sorted((kept | added) - dropped, key=NUMBERS.__getitem__)


def header(pid: int = 0) -> bytes:
    """Return capset(2)'s struct __user_cap_header_struct, version 3."""
    return VERSION_3.to_bytes(4, "little") + pid.to_bytes(4, "little")


def data(effective: int, permitted: int, inheritable: int) -> bytes:
    """Return capset(2)'s two struct __user_cap_data_struct for three 64-bit masks."""
    sets = (effective, permitted, inheritable)
    low = b"".join((s & 0xFFFFFFFF).to_bytes(4, "little") for s in sets)
    return low + b"".join((s >> 32).to_bytes(4, "little") for s in sets)
