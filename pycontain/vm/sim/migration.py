"""Pre-copy live migration, run-time reallocation, and the failure of a host.

Owns what happens to a running guest from outside. Sizes are bytes, rates bytes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pycontain.vm.sim.constants import Costs

GIB = 2**30
MIB = 2**20
MAX_ROUNDS = 30
MAX_SENT = 3.0
HOT_S = 0.1
"""A round this long finds every hot page written again."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A guest to migrate.

    `dirty_rate` is bytes dirtied a second, `wws_bytes` the writable working set that keeps being
    dirtied. `first_rate` and `rate_step` describe adaptive limiting (MIG05): the first round goes
    at `first_rate`, later ones at the dirty rate of the last round plus `rate_step`, the stop at
    `link_rate`. `stop` is "xen" (few pages left) or "kvm" (downtime limit).
    """

    memory_bytes: float
    dirty_rate: float
    wws_bytes: float
    link_rate: float
    first_rate: float = 0.0
    rate_step: float = 0.0
    stop: str = "kvm"
    downtime_limit_s: float | None = None
    max_rounds: int = MAX_ROUNDS


@dataclass(frozen=True, kw_only=True)
class Round:
    """One pass over dirty memory."""

    sent_bytes: float
    rate: float

    @property
    def seconds(self) -> float:
        """Duration of the pass."""
        return self.sent_bytes / self.rate


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """How a migration went: its rounds, the last stop-and-copy one included, and the downtime."""

    rounds: tuple[Round, ...]
    downtime_s: float

    @property
    def total_s(self) -> float:
        """Seconds from the first byte to the resumed guest."""
        return sum(each.seconds for each in self.rounds[:-1]) + self.downtime_s

    @property
    def sent_bytes(self) -> float:
        """Bytes over the wire, without protocol overhead."""
        return sum(each.sent_bytes for each in self.rounds)


def migrate(migration: Migration, costs: Costs) -> Migrated:
    """Run the rounds until little is left, the guest out-writes the link, or rounds run out."""
    rounds: list[Round] = []
    full_rate = migration.link_rate * costs["k_goodput"]
    enough = _stop_bytes(migration, full_rate, costs)
    pending, rate = migration.memory_bytes, full_rate
    if migration.first_rate:
        rate = min(full_rate, migration.first_rate * costs["k_goodput"])
    while not _stops(migration, rounds, pending, enough):
        rounds.append(Round(sent_bytes=pending, rate=rate))
        seconds = rounds[-1].seconds
        left = dirtied_bytes(migration, seconds, costs)
        if len(rounds) > 1 and left >= 0.98 * pending and rate >= full_rate:
            pending = left
            break
        pending = left
        if migration.first_rate:
            lowest = migration.first_rate * costs["k_goodput"]
            rate = min(full_rate, max(lowest, left / seconds + migration.rate_step))
    rounds.append(Round(sent_bytes=pending, rate=full_rate))
    return Migrated(rounds=tuple(rounds), downtime_s=rounds[-1].seconds + costs["t_resume"])


def dirtied_bytes(migration: Migration, seconds: float, costs: Costs) -> float:
    """Return the bytes dirty after a round: the hot part at once, the rest at the dirty rate."""
    hot = costs["k_hot"] * migration.wws_bytes * min(1.0, seconds / HOT_S)
    ceiling = min(migration.wws_bytes, migration.memory_bytes)
    return min(hot + migration.dirty_rate * seconds, ceiling)


def _stop_bytes(migration: Migration, full_rate: float, costs: Costs) -> float:
    if migration.downtime_limit_s is not None:
        return migration.downtime_limit_s * full_rate
    if migration.stop == "xen":
        return costs["m_stop_xen"] * MIB
    return costs["t_stop_kvm"] * full_rate


def _stops(migration: Migration, rounds: list[Round], pending: float, enough: float) -> bool:
    sent = sum(each.sent_bytes for each in rounds)
    return bool(rounds) and (
        pending <= enough
        or len(rounds) >= migration.max_rounds
        or sent > MAX_SENT * migration.memory_bytes
    )


def reallocation_s(costs: Costs, *, memory_bytes: float = 0.0, vcpus: int = 0) -> float:
    """Return the seconds until a running guest has so much more (or less) memory and vCPUs."""
    return abs(memory_bytes) / GIB * costs["t_realloc_gb"] + abs(vcpus) * costs["t_hotplug_cpu"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A host that dies with `guests` on it: they restart elsewhere, or after its own reboot.

    `start_s` is the start of one guest (or container) with its service.
    """

    guests: int
    start_s: float
    same_host: bool = False
    detect_s: float | None = None
    parallel: int | None = None


def recovery_s(failure: Failure, costs: Costs) -> list[float]:
    """Return for each guest of the dead host the seconds until it is back, in restart order."""
    detect = costs["t_detect"] if failure.detect_s is None else failure.detect_s
    begin = costs["t_host_boot"] if failure.same_host else detect
    parallel = failure.parallel or max(1, round(costs["n_restart_parallel"]))
    return [begin + failure.start_s * (1 + index // parallel) for index in range(failure.guests)]
