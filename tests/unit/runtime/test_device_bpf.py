"""Device rules as a BPF program, run in a small interpreter."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidError
from pycontain.runtime import device_bpf

BLOCK, CHAR = 1, 2
BITS = {"m": 1, "r": 2, "w": 4}
DENY_ALL = {"allow": False, "access": "rwm"}


def decides(rules: list, kind: int, access: str, major: int, minor: int) -> bool:
    wanted = sum(BITS[letter] for letter in access)
    context = struct.pack("<III", wanted << 16 | kind, major, minor)
    code = list(struct.iter_unpack("<BBhi", device_bpf.instructions(rules)))
    registers = [0] * 11
    at = 0
    while True:
        op, regs, offset, imm = code[at]
        dst, src = regs & 15, regs >> 4
        at += 1
        if op == 0x61:
            registers[dst] = int.from_bytes(context[offset : offset + 4], "little")
        elif op == 0xBF:
            registers[dst] = registers[src]
        elif op == 0x54:
            registers[dst] &= imm
        elif op == 0x74:
            registers[dst] >>= imm
        elif op == 0xB7:
            registers[dst] = imm
        elif op == 0x55:
            at += offset if registers[dst] != imm else 0
        elif op == 0x15:
            at += offset if registers[dst] == imm else 0
        elif op == 0x95:
            return bool(registers[0])


def test_no_rule_refuses():
    assert not decides([], CHAR, "r", 1, 3)
    assert not decides([DENY_ALL], CHAR, "r", 1, 3)
    assert decides([{"allow": True}], CHAR, "rw", 1, 3)


def test_later_rules_win():
    null = {"type": "c", "major": 1, "minor": 3, "access": "rwm"}
    assert decides([DENY_ALL, {"allow": True, **null}], CHAR, "rw", 1, 3)
    assert not decides([{"allow": True, **null}, DENY_ALL], CHAR, "rw", 1, 3)
    rules = [{"allow": True}, {"allow": False, **null}]
    assert not decides(rules, CHAR, "r", 1, 3)
    assert decides(rules, CHAR, "r", 1, 5)
    assert decides(rules, BLOCK, "r", 1, 3)


def test_wildcards_and_types():
    rules = [DENY_ALL, {"allow": True, "type": "c", "major": 136, "access": "rw"}]
    assert decides(rules, CHAR, "rw", 136, 77)
    assert not decides(rules, CHAR, "rw", 137, 0)
    assert not decides(rules, BLOCK, "rw", 136, 0)
    assert not decides(rules, CHAR, "m", 136, 0)


def test_accesses_of_one_device_add_up():
    device = {"allow": True, "type": "c", "major": 1, "minor": 3}
    rules = [DENY_ALL, {**device, "access": "r"}, {**device, "access": "w"}]
    assert decides(rules, CHAR, "rw", 1, 3)
    assert not decides(rules, CHAR, "rwm", 1, 3)


def test_denying_one_access_refuses_every_open_that_wants_it():
    rules = [{"allow": True}, {"allow": False, "type": "b", "access": "w"}]
    assert decides(rules, BLOCK, "r", 8, 0)
    assert not decides(rules, BLOCK, "rw", 8, 0)
    assert decides(rules, CHAR, "rw", 1, 3)


RULE = st.fixed_dictionaries(
    {"allow": st.booleans()},
    optional={
        "type": st.sampled_from(["a", "b", "c"]),
        "major": st.sampled_from([-1, 1, 8]),
        "minor": st.sampled_from([-1, 0, 3]),
        "access": st.sampled_from(["r", "w", "m", "rw", "rwm"]),
    },
)


@given(
    st.lists(RULE, max_size=6),
    st.sampled_from([BLOCK, CHAR]),
    st.sampled_from(["r", "w", "m"]),
    st.sampled_from([1, 8]),
    st.sampled_from([0, 3]),
)
def test_the_last_matching_rule_decides_a_single_access(rules, kind, access, major, minor):
    expected = False
    for rule in rules:
        letter = rule.get("type", "a")
        same = letter == "a" or (
            letter == "bc"[kind - 1]
            and rule.get("major", -1) in (-1, major)
            and rule.get("minor", -1) in (-1, minor)
        )
        if same and access in rule.get("access", "rwm"):
            expected = rule["allow"]
    assert decides(rules, kind, access, major, minor) is expected


@pytest.mark.parametrize("rule", [{"type": "x"}, {"access": "rx"}])
def test_a_rule_out_of_form_is_refused(rule):
    with pytest.raises(InvalidError):
        device_bpf.instructions([rule])
