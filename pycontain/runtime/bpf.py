"""An assembler for classic BPF, made for seccomp filters (linux/filter.h, seccomp(2)).

A filter is built backwards: what an instruction jumps to exists before the instruction does, so
every offset is known when it is written, and a target out of the 8-bit reach gets a trampoline.
Knows nothing of system calls; `seccomp` decides what to build.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Interval: TypeAlias = "tuple[int, int]"
    """(first number, leaf): the leaf holds up to the next interval's first number."""

LD_ABS = 0x20
"""BPF_LD | BPF_W | BPF_ABS: A = word k of struct seccomp_data."""
AND = 0x54
JA = 0x05
JEQ = 0x15
JGT = 0x25
JGE = 0x35
JSET = 0x45
RET = 0x06

NR = 0
ARCH = 4
ARGS = 16
"""Offsets in struct seccomp_data."""

MAX_INSTRUCTIONS = 4096
REACH = 254
"""Longest jump taken directly: the limit is 255, one less lets a trampoline slip in between."""


class Assembler:
    """Instructions in reverse; a place is a distance from the end, so it never changes."""

    __slots__ = ("_code", "_returns")

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, int] = {}

    def ret(self, action: int) -> int:
        """Return a place that returns `action`; one within reach is shared."""
        place = self._returns.get(action, -1)
        # Half the reach is left for what is put before the jump meanwhile.
        if place < 0 or len(self._code) - place > REACH // 2:
            place = self._returns[action] = self._put(RET, action)
        return place

    def load(self, offset: int, then: int) -> int:
        """A = word at `offset`, then go on at `then`."""
        self._fall(then)
        return self._put(LD_ABS, offset)

    def mask(self, bits: int, then: int) -> int:
        """A &= bits, then go on at `then`."""
        self._fall(then)
        return self._put(AND, bits)

    def jump(self, test: int, value: int, yes: int, no: int) -> int:
        """Go to `yes` if A `test` value, else to `no`."""
        if yes == no:
            return yes
        if self._distance(yes) > REACH:
            yes = self._trampoline(yes)
        if self._distance(no) > REACH:
            no = self._trampoline(no)
        return self._put(test, value, self._distance(yes), self._distance(no))

    def tree(self, intervals: Sequence[Interval], leaf: Callable[[int], int]) -> int:
        """Binary search A among sorted intervals; `leaf` makes the place of an interval's leaf."""
        if len(intervals) == 1:
            return leaf(intervals[0][1])
        middle = len(intervals) // 2
        above = self.tree(intervals[middle:], leaf)
        below = self.tree(intervals[:middle], leaf)
        return self.jump(JGE, intervals[middle][0], above, below)

    def program(self, start: int) -> bytes:
        """Return the filter as an array of struct sock_filter that begins at `start`."""
        self._fall(start)
        if len(self._code) > MAX_INSTRUCTIONS:
            raise OverflowError(f"{len(self._code)} instructions, the kernel takes 4096")
        return b"".join(
            [
                (code | jt << 16 | jf << 24 | k << 32).to_bytes(8, "little")
                for code, jt, jf, k in reversed(self._code)
            ]
        )

    def _put(self, code: int, k: int, jt: int = 0, jf: int = 0) -> int:
        self._code.append((code, jt, jf, k))
        return len(self._code) - 1

    def _distance(self, place: int) -> int:
        return len(self._code) - place - 1

    def _trampoline(self, place: int) -> int:
        code, _, _, k = self._code[place]
        if code == RET:
            # As long as a jump, and one instruction less to run.
            return self._put(RET, k)
        return self._put(JA, self._distance(place))

    def _fall(self, place: int) -> None:
        """Make `place` what the next instruction falls through to."""
        if self._distance(place):
            self._trampoline(place)


def merge(intervals: Sequence[Interval]) -> list[Interval]:
    """Drop intervals whose leaf is that of the one before."""
    merged: list[Interval] = []
    for first, leaf in intervals:
        if not merged or merged[-1][1] != leaf:
            merged.append((first, leaf))
    return merged
