"""A guest of a few instructions on /dev/kvm, timed exit by exit (run as a program, in JSON).

Owns the KVM ioctls and the machine code. `calibrate` decides whether this host's KVM is worth
measuring and runs this module in a process of its own, because an ioctl that never returns can
only be ended from outside. See the kernel's Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import sys
import time
from contextlib import ExitStack

CREATE_VM = 0xAE01
GET_VCPU_MMAP_SIZE = 0xAE04
CREATE_VCPU = 0xAE41
SET_TSS_ADDR = 0xAE47
SET_USER_MEMORY_REGION = 0x4020AE46
RUN = 0xAE80
SET_REGS = 0x4090AE82
GET_SREGS = 0x8138AE83
SET_SREGS = 0x4138AE84

EXIT_IO, EXIT_HLT, EXIT_MMIO = 2, 5, 6
_EXIT_REASON = 8
"""Offset of exit_reason in struct kvm_run."""

MEMORY_BYTES = 0x8000
CODE = 0x1000
LOOPS = 20_000
USER_EXITS = 2_000
DONE_PORT = b"\xe6\x10"
"""out %al, $0x10: leaves to us."""


class Guest:
    """One real-mode vCPU with 32 KiB of memory and no interrupt controller."""

    def __init__(self, code: bytes, resources: ExitStack) -> None:
        self._resources = resources
        kvm = self._file(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        self._vm = self._file(fcntl.ioctl(kvm, CREATE_VM, 0))
        self._memory(code)
        self.vcpu = self._file(fcntl.ioctl(self._vm, CREATE_VCPU, 0))
        size = fcntl.ioctl(kvm, GET_VCPU_MMAP_SIZE, 0)
        self._run = resources.enter_context(mmap.mmap(self.vcpu, size))
        self._registers()

    def _file(self, fd: int) -> int:
        self._resources.callback(os.close, fd)
        return fd

    def _memory(self, code: bytes) -> None:
        name = f"pycontain-guest-{time.monotonic_ns()}"
        memfd = self._file(os.memfd_create(name))
        os.ftruncate(memfd, MEMORY_BYTES)
        memory = self._resources.enter_context(mmap.mmap(memfd, MEMORY_BYTES))
        memory[CODE : CODE + len(code)] = code
        region = struct.pack("=IIQQQ", 0, 0, 0, MEMORY_BYTES, _address_of(name))
        # Three pages Intel without unrestricted guests needs; below 2 GiB, as fcntl takes an int.
        fcntl.ioctl(self._vm, SET_TSS_ADDR, 0x7FFBD000)
        fcntl.ioctl(self._vm, SET_USER_MEMORY_REGION, region)

    def _registers(self) -> None:
        special = bytearray(312)
        fcntl.ioctl(self.vcpu, GET_SREGS, special)
        special[0:8] = bytes(8)  # cs.base
        special[12:14] = bytes(2)  # cs.selector
        fcntl.ioctl(self.vcpu, SET_SREGS, bytes(special))
        general = struct.pack("=18Q", *[0] * 16, CODE, 2)
        fcntl.ioctl(self.vcpu, SET_REGS, general)

    def enter(self) -> int:
        """Run the guest until it leaves to us; return the exit reason."""
        fcntl.ioctl(self.vcpu, RUN, 0)
        return int(struct.unpack_from("=I", self._run, _EXIT_REASON)[0])


def _address_of(name: str) -> int:
    """Return where the mapping of the memfd `name` starts (proc(5), /proc/self/maps)."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            if name in line:
                return int(line.split("-")[0], 16)
    raise OSError(f"mapping {name} is not in /proc/self/maps")


def counted(body: bytes, count: int) -> bytes:
    """Return code that runs `body` `count` times (%esi counts) and then leaves."""
    start = b"\x66\xbe" + struct.pack("<I", count)
    loop = body + b"\x66\x4e"
    return start + loop + b"\x75" + struct.pack("b", -(len(loop) + 2)) + DONE_PORT


def kernel_exit_s(body: bytes) -> float:
    """Return seconds of one exit that the kernel handles, the loop subtracted."""
    return max(0.0, (_loop_s(body) - _loop_s(b"\x90")) / LOOPS)


def _loop_s(body: bytes) -> float:
    with ExitStack() as resources:
        guest = Guest(counted(body, LOOPS), resources)
        begin = time.perf_counter()
        reason = guest.enter()
        end = time.perf_counter()
    if reason != EXIT_IO:
        raise OSError(f"guest left with reason {reason}")
    return end - begin


def user_exit_s(body: bytes, expected: int) -> float:
    """Return seconds of one exit to user space and back, Python's own ioctl subtracted."""
    code = body + b"\xeb" + struct.pack("b", -(len(body) + 2))
    with ExitStack() as resources:
        guest = Guest(code, resources)
        begin = time.perf_counter()
        for _ in range(USER_EXITS):
            if (reason := guest.enter()) != expected:
                raise OSError(f"guest left with reason {reason}, not {expected}")
        whole_s = time.perf_counter() - begin
    return max(0.0, whole_s / USER_EXITS - _empty_ioctl_s())


def _empty_ioctl_s() -> float:
    with open("/dev/kvm", "rb") as kvm:
        begin = time.perf_counter()
        for _ in range(USER_EXITS):
            fcntl.ioctl(kvm, 0xAE00, 0)  # KVM_GET_API_VERSION
        return (time.perf_counter() - begin) / USER_EXITS


def measure(names: list[str], runs: int) -> dict[str, float]:
    """Return the least seconds of each named exit over `runs` repetitions."""
    return {name: min(_PROBES[name]() for _ in range(runs)) for name in names}


_PROBES = {
    "cpuid": lambda: kernel_exit_s(b"\x66\x31\xc0\x0f\xa2"),
    "hypercall_vmcall": lambda: kernel_exit_s(b"\x66\xb8\xff\xff\x00\x00\x0f\x01\xc1"),
    "hypercall_vmmcall": lambda: kernel_exit_s(b"\x66\xb8\xff\xff\x00\x00\x0f\x01\xd9"),
    "pio_user": lambda: user_exit_s(b"\xe6\x10", EXIT_IO),
    "mmio_user": lambda: user_exit_s(b"\xa2\x00\x90", EXIT_MMIO),
    "hlt_user": lambda: user_exit_s(b"\xf4", EXIT_HLT),
}

if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[2:], int(sys.argv[1]))))
