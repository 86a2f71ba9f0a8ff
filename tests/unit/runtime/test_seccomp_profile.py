"""The default profile's content, and docker's format."""

from __future__ import annotations

import json

import pytest

from pycontain.errors import InvalidError, KernelError
from pycontain.runtime import capabilities, seccomp_profile
from pycontain.spec import defaults
from pycontain.syscalls.tables import TABLES


def allowed(profile: dict) -> set[str]:
    return {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }


def test_what_escapes_containers_is_not_allowed_by_default():
    names = allowed(seccomp_profile.default_profile(defaults.CAPABILITIES, "x86_64"))
    dangerous = (
        "bpf perf_event_open keyctl add_key request_key mount umount2 unshare setns kexec_load "
        "init_module open_by_handle_at userfaultfd io_uring_setup io_uring_enter pivot_root swapon "
        "reboot iopl settimeofday quotactl lookup_dcookie clone3 fsopen move_mount vm86 uselib"
    )
    for name in dangerous.split():
        assert name not in names, name
    assert "chroot" in names, "CAP_SYS_CHROOT is among the defaults"


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_BPF", "bpf"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ],
)
def test_a_capability_opens_its_calls(capability, name):
    assert name not in allowed(seccomp_profile.default_profile((), "x86_64"))
    assert name in allowed(seccomp_profile.default_profile((capability,), "x86_64"))


def test_every_name_is_a_system_call_of_some_abi():
    known = {name for table in TABLES.values() for name in table}
    # Names of other architectures, and calls that exist only inside i386's socketcall.
    foreign = {"riscv_hwprobe", "breakpoint", "cacheflush", "set_tls", "arm_fadvise64_64",
               "arm_sync_file_range", "umount", "send", "recv"}  # fmt: skip
    profile = seccomp_profile.default_profile(capabilities.NAMES, "x86_64")
    assert allowed(profile) - known - foreign == set()


def docker(**rule: object) -> dict:
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", **rule}],
    }


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_TIME"]}}, False),
        ({"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_TIME"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"arches": ["amd64"]}}, True),
        ({"includes": {"arches": ["s390"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
    ],
)
def test_docker_conditions_are_decided(rule, kept):
    profile = seccomp_profile.from_docker(docker(**rule), ["CAP_SYS_ADMIN"], "x86_64", "6.1.0-40")
    assert bool(profile["syscalls"]) is kept
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]


def test_a_file_in_ocis_form_comes_back_as_it_was(tmp_path):
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}],
    }
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile))
    assert seccomp_profile.load_profile(str(file)) == profile


def test_a_broken_or_missing_file_is_named(tmp_path):
    (tmp_path / "broken").write_text("{")
    with pytest.raises(InvalidError, match="broken"):
        seccomp_profile.load_profile(str(tmp_path / "broken"))
    with pytest.raises(KernelError, match="missing"):
        seccomp_profile.load_profile(str(tmp_path / "missing"))
