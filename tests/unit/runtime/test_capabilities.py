"""Capability names, masks and what --cap-add and --cap-drop make of them."""

from __future__ import annotations

import pytest

from pycontain.errors import UsageError
from pycontain.runtime import capabilities as caps
from pycontain.spec import defaults


def test_numbers_are_those_of_the_kernel():
    assert len(caps.NAMES) == 41
    numbers = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27,
               "CAP_SETFCAP": 31, "CAP_SYSLOG": 34, "CAP_CHECKPOINT_RESTORE": 40}  # fmt: skip
    assert {name: caps.NUMBERS[name] for name in numbers} == numbers


def test_the_default_set_is_podmans_mask():
    assert caps.mask(defaults.CAPABILITIES) == 0x800405FB
    assert sorted(caps.names(0x800405FB)) == sorted(defaults.CAPABILITIES)


@pytest.mark.parametrize("name", ["SYS_ADMIN", "CAP_SYS_ADMIN", "cap_sys_admin", "Sys_Admin"])
def test_names_come_with_and_without_prefix_in_any_case(name):
    assert caps.number(name) == 21


@pytest.mark.parametrize(
    ("add", "drop", "result"),
    [
        ([], [], ["CAP_CHOWN", "CAP_KILL"]),
        (["net_raw"], [], ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]),
        ([], ["KILL"], ["CAP_CHOWN"]),
        ([], ["all"], []),
        (["NET_RAW"], ["ALL"], ["CAP_NET_RAW"]),
        ([], ["NET_RAW"], ["CAP_CHOWN", "CAP_KILL"]),
    ],
)
def test_add_and_drop(add, drop, result):
    assert caps.adjust(["CAP_KILL", "CAP_CHOWN"], add, drop) == result


def test_add_all_is_what_the_kernel_knows():
    everything = caps.adjust([], ["ALL"], ["SYS_ADMIN"])
    assert set(everything) == set(caps.known()) - {"CAP_SYS_ADMIN"}


@pytest.mark.parametrize(
    ("add", "drop"), [(["KILL"], ["CAP_KILL"]), (["ALL"], ["ALL"]), (["FLY"], []), ([], ["FLY"])]
)
def test_contradictions_and_unknown_names_are_refused(add, drop):
    with pytest.raises(UsageError):
        caps.adjust([], add, drop)


def test_capset_structures():
    assert caps.header(7) == bytes.fromhex("2205082007000000")
    data = caps.data(1 << 40 | 1, 2, 4)
    assert data == bytes([1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 1, 0, 0, *[0] * 8])
