"""The system call tables, against what is known of the ABIs."""

from __future__ import annotations

from pycontain.syscalls import numbers, tables


def test_known_numbers() -> None:
    assert tables.X86_64["execve"] == 59
    assert tables.I386["execve"] == 11
    assert tables.X32["execve"] == tables.X32_BIT + 520
    assert tables.AARCH64["execve"] == 221
    assert {t["mount_setattr"] & 0xFFFF for t in tables.TABLES.values()} == {442}
    assert {t["mseal"] & 0xFFFF for t in tables.TABLES.values()} == {462}


def test_no_number_is_given_twice() -> None:
    for table in tables.TABLES.values():
        assert len(set(table.values())) == len(table)


def test_the_hot_table_agrees_with_the_full_one() -> None:
    full = tables.TABLES[numbers.MACHINE]
    assert {name: full[name] for name in numbers.NR} == numbers.NR
