"""The discrete-event clock: requests circulating through vCPU, VMM thread, dom0 or host, device.

Owns the closed queueing network and its two answers. The closed form holds while no server is
busy more than half the time; above that the clock is run. A test holds one to the other as load
goes to zero.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pycontain.vm.sim.constants import uniforms

if TYPE_CHECKING:
    from collections.abc import Sequence

BUSY = 0.5
WARM_REQUESTS = 400
MEASURED_REQUESTS = 2048
"""Two whole blocks of service times, so that a full server shows its mean exactly."""


@dataclass(frozen=True, kw_only=True)
class Station:
    """A server every request visits for `service_s`; `servers` 0 makes it a pure delay."""

    name: str
    service_s: float
    servers: int = 1


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Requests per second, mean response seconds, utilisation by station, and which way."""

    rate: float
    response_s: float
    utilisation: dict[str, float] = field(default_factory=dict)
    simulated: bool = False


def flow(stations: Sequence[Station], customers: int) -> Flow:
    """Return the flow of `customers` requests in flight, by the clock where a server is busy."""
    estimate = closed_form(stations, customers)
    if customers > 1 and max(estimate.utilisation.values(), default=0.0) > BUSY:
        return simulate(stations, customers)
    return estimate


def closed_form(stations: Sequence[Station], customers: int) -> Flow:
    """Return the asymptotic bound: requests over total time, capped by the slowest server."""
    total_s = sum(station.service_s for station in stations)
    rate = customers / total_s if total_s else math.inf
    for station in stations:
        if station.servers and station.service_s:
            rate = min(rate, station.servers / station.service_s)
    return Flow(
        rate=rate,
        response_s=customers / rate if rate else math.inf,
        utilisation=_utilisation(stations, rate),
    )


def _utilisation(stations: Sequence[Station], rate: float) -> dict[str, float]:
    return {
        station.name: min(1.0, rate * station.service_s / station.servers)
        for station in stations
        if station.servers and station.service_s
    }


class _Server:
    """FIFO queue and free servers of one station, with its own stream of service times."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.free = station.servers
        self.queue: deque[int] = deque()
        self._draws = uniforms("clock " + station.name)
        self._next = 0

    def service_s(self) -> float:
        """Return the next service time: half fixed, half exponential (variation 0.5)."""
        draw = self._draws[self._next % len(self._draws)]
        self._next += 1
        return self.station.service_s * (0.5 - 0.5 * math.log(1.0 - draw))


def simulate(
    stations: Sequence[Station], customers: int, requests: int = MEASURED_REQUESTS
) -> Flow:
    """Run the clock over `requests` completions after a warm-up; same result on every host."""
    servers = [_Server(station) for station in stations if station.service_s > 0]
    if not servers:
        return closed_form(stations, customers)
    clock = _Clock(servers, customers)
    begin_s = clock.run_until(WARM_REQUESTS + customers)
    end_s = clock.run_until(WARM_REQUESTS + customers + requests)
    rate = requests / (end_s - begin_s)
    return Flow(
        rate=rate,
        response_s=customers / rate,
        utilisation=_utilisation(stations, rate),
        simulated=True,
    )


class _Clock:
    """Event heap of (time, sequence, customer, station index): a service that ends."""

    def __init__(self, servers: list[_Server], customers: int) -> None:
        self.servers = servers
        self.now_s = 0.0
        self.completed = 0
        self._sequence = 0
        self._heap: list[tuple[float, int, int, int]] = []
        for customer in range(customers):
            self._arrive(customer, 0)

    def run_until(self, completed: int) -> float:
        """Process events until `completed` requests went round; return the time."""
        while self.completed < completed:
            self.now_s, _, customer, index = heapq.heappop(self._heap)
            self._leave(index)
            following = (index + 1) % len(self.servers)
            self.completed += following == 0
            self._arrive(customer, following)
        return self.now_s

    def _arrive(self, customer: int, index: int) -> None:
        server = self.servers[index]
        if not server.station.servers:
            self._start(customer, index)
        elif server.free:
            server.free -= 1
            self._start(customer, index)
        else:
            server.queue.append(customer)

    def _leave(self, index: int) -> None:
        server = self.servers[index]
        if server.queue:
            self._start(server.queue.popleft(), index)
        elif server.station.servers:
            server.free += 1

    def _start(self, customer: int, index: int) -> None:
        self._sequence += 1
        end_s = self.now_s + self.servers[index].service_s()
        heapq.heappush(self._heap, (end_s, self._sequence, customer, index))
