"""The compiled default profile in the kernel: it loads, and it decides as the profile says."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

import pytest

from pycontain.runtime import seccomp_compiler, seccomp_profile
from pycontain.spec import defaults
from pycontain.syscalls.tables import TABLES

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64"),
]

NR = TABLES["x86_64"]
libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def outcome(profile: dict, nr: int, *args: int) -> int:
    """Return the errno (0: success) of one call under the filter, or minus the killing signal."""
    program = seccomp_compiler.compile_filter(profile, "x86_64")
    loaded = Program(len(program) // 8, program)
    pid = os.fork()
    if pid == 0:
        libc.prctl(38, 1, 0, 0, 0)
        if libc.syscall(NR["seccomp"], 1, 0, ctypes.byref(loaded)) != 0:
            os._exit(200)
        result = libc.syscall(nr, *[ctypes.c_ulong(a) for a in args])
        os._exit(ctypes.get_errno() if result == -1 else 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def default() -> dict:
    return seccomp_profile.default_profile(defaults.CAPABILITIES, "x86_64")


@pytest.mark.parametrize("name", ["getpid", "getuid", "sched_yield", "uname"])
def test_ordinary_calls_pass(default, name):
    assert outcome(default, NR[name], 0) in (0, errno.EFAULT)


@pytest.mark.parametrize("name", ["mount", "unshare", "bpf", "keyctl", "io_uring_setup", "reboot"])
def test_dangerous_calls_are_eperm(default, name):
    assert outcome(default, NR[name], 0, 0, 0, 0) == errno.EPERM


def test_new_calls_are_enosys(default):
    assert outcome(default, NR["clone3"], 0, 0) == errno.ENOSYS
    assert outcome(default, 600) == errno.ENOSYS


@pytest.mark.parametrize(("family", "expected"), [(38, 1), (40, 1), (1, 0), (2, 0)])
def test_socket_families(default, family, expected):
    assert outcome(default, NR["socket"], family, 2, 0) == expected


def test_x32_calls_are_killed(default):
    assert outcome(default, 0x40000000 + NR["getpid"]) == -31


def test_the_actions_work():
    for action, expected in (("SCMP_ACT_KILL_PROCESS", -31), ("SCMP_ACT_TRAP", -31),
                             ("SCMP_ACT_LOG", 0), ("SCMP_ACT_ALLOW", 0)):  # fmt: skip
        rules = [{"names": ["getppid"], "action": action}]
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
        assert outcome(profile, NR["getppid"]) == expected, action


def test_an_errno_of_choice():
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EIO}]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    assert outcome(profile, NR["mkdir"], 0, 0) == errno.EIO
