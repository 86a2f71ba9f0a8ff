"""The discrete-event clock against the closed form."""

from __future__ import annotations

import pytest

from pycontain.vm.sim.clock import BUSY, Station, closed_form, flow, simulate

STATIONS = [
    Station(name="vcpu", service_s=2e-6),
    Station(name="vmm thread", service_s=5e-6),
    Station(name="dom0", service_s=3e-6),
    Station(name="device", service_s=80e-6, servers=0),
]


def test_the_clock_meets_the_closed_form_as_load_goes_to_zero() -> None:
    errors = []
    for customers in (16, 8, 4, 2, 1):
        bound = closed_form(STATIONS, customers).rate
        errors.append(abs(simulate(STATIONS, customers, 4000).rate / bound - 1))
    assert errors[-1] < 0.02
    assert errors[-1] <= min(errors[:2])


def test_the_closed_form_is_used_while_no_server_is_busy() -> None:
    found = flow(STATIONS, 2)
    assert not found.simulated
    assert max(found.utilisation.values()) <= BUSY


def test_the_clock_runs_when_a_server_is_busy_more_than_half() -> None:
    found = flow(STATIONS, 20)
    assert found.simulated
    assert found.rate <= closed_form(STATIONS, 20).rate * 1.02


def test_queueing_costs_most_where_think_time_and_service_balance() -> None:
    knee = simulate(STATIONS, 18, 4000).rate / closed_form(STATIONS, 18).rate
    assert 0.75 < knee < 0.97


def test_a_saturated_server_gives_its_service_rate() -> None:
    found = simulate([Station(name="s", service_s=1e-5)], 64, 4000)
    assert found.rate == pytest.approx(1e5, rel=0.03)


def test_two_servers_serve_twice_as_much() -> None:
    one = simulate([Station(name="s", service_s=1e-5)], 64).rate
    two = simulate([Station(name="s", service_s=1e-5, servers=2)], 64).rate
    assert two == pytest.approx(2 * one, rel=0.05)


def test_requests_never_exceed_the_slowest_server_or_the_total_time() -> None:
    assert closed_form(STATIONS, 1).rate == pytest.approx(1 / 90e-6)
    assert closed_form(STATIONS, 1000).rate == pytest.approx(1 / 5e-6)


def test_the_clock_gives_the_same_answer_twice() -> None:
    assert simulate(STATIONS, 12) == simulate(STATIONS, 12)
