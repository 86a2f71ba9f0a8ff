"""Ranges of ids for `--userns`, and what keep-id makes of a user's map."""

from __future__ import annotations

import pytest

from pycontain.engine import keepid, userns
from pycontain.engine.userns import FIRST, LAST, SIZE, Range
from pycontain.errors import UsageError

IDENTITY = "0123456789abcdef" * 4


def test_the_range_that_was_asked_for() -> None:
    assert userns.explicit("100000:200000:5") == Range(100000, 200000, 5)
    assert userns.explicit("0:0:4294967295") == Range(0, 0, 4294967295)


@pytest.mark.parametrize("mode", ["auto", "private"])
def test_these_leave_the_choice(mode: str) -> None:
    assert userns.explicit(mode) is None


@pytest.mark.parametrize(
    "mode",
    ["", "1", "1:2", "1:2:3:4", "-1:0:1", "a:b:c", "1:1:0", "4294967295:0:1", "1: 1:1", "٣:1:1",
     "9" * 5000 + ":1:1", "nomap", "keep-id", "keep-id:uid=3", "container:x"],
)  # fmt: skip
def test_what_is_no_range_is_refused(mode: str) -> None:
    with pytest.raises(UsageError, match="userns"):
        userns.explicit(mode)


def test_ranges_overlap_by_either_kind_of_id() -> None:
    assert Range(0, 0, 10).overlaps(Range(9, 100, 10))
    assert Range(0, 0, 10).overlaps(Range(100, 9, 10))
    assert not Range(0, 0, 10).overlaps(Range(10, 10, 10))


def test_a_free_range_is_aligned_and_meets_nobody_elses() -> None:
    used: list[Range] = []
    for _ in range(50):
        chosen = userns.free(used, IDENTITY)
        assert not any(chosen.overlaps(other) for other in used)
        assert chosen.uid == chosen.gid
        used.append(chosen)
    computed = [chosen for chosen in used if chosen.uid >= FIRST]
    assert all(chosen.uid % SIZE == 0 and chosen.uid + SIZE <= LAST for chosen in computed)


ROWS = [(0, 1000, 1), (1, 100000, 65536)]


def test_keep_id_puts_the_caller_in_its_own_place() -> None:
    assert keepid.kept(ROWS, 1000) == [(0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)]


def test_keep_id_of_an_id_beyond_the_granted_ones() -> None:
    rows = [(0, 70000, 1), (1, 100000, 65536)]
    assert keepid.kept(rows, 70000) == [(0, 100000, 65536), (70000, 70000, 1)]


def test_keep_id_with_several_granted_ranges() -> None:
    rows = [(0, 5, 1), (1, 100, 3), (4, 200, 4)]
    assert keepid.kept(rows, 5) == [(0, 100, 3), (3, 200, 2), (5, 5, 1), (6, 202, 2)]


@pytest.mark.parametrize("own", [1, 3, 5, 6, 7, 9])
def test_moved_owners_show_as_themselves(own: int) -> None:
    rows = [(0, own + 5000, 1), (1, 100, 3), (4, 200, 4)]
    kept = keepid.kept(rows, own)
    granted = 7
    for identity in range(12):
        there = keepid.moved(identity, (own, granted))
        outside = host_id(rows, there) if there >= 0 else None
        assert outside == host_id(kept, identity)


def host_id(rows: list[tuple[int, int, int]], inside: int) -> int | None:
    for first, outside, count in rows:
        if first <= inside < first + count:
            return outside + inside - first
    return None
