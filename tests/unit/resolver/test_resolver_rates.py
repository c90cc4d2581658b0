"""The token buckets of pods, on a clock of the test's."""

from __future__ import annotations

import struct

import pytest

from acns.resolver import intercept
from acns.resolver.rates import BURST_S, MANY_PODS, PRESSED, Rates

RATE = 1_000
POD, OTHER = bytes((10, 244, 0, 5)), bytes((10, 244, 0, 6))


def taken(rates: Rates, pod: bytes, *, tries: int, over_s: float, start: float = 0.0) -> int:
    """How many of `tries`, spread evenly over the time, are let through."""
    return sum(rates.take(pod, start + over_s * number / tries) for number in range(tries))


def test_a_pod_gets_its_rate_and_a_burst_however_fast_it_asks() -> None:
    assert taken(Rates(RATE), POD, tries=100_000, over_s=10) in range(
        int((10 + BURST_S) * RATE), int((10 + BURST_S) * RATE) + 3
    )


def test_a_pod_just_within_its_rate_is_never_refused() -> None:
    assert taken(Rates(RATE), POD, tries=10 * RATE, over_s=10) == 10 * RATE


def test_one_pods_flood_is_its_own() -> None:
    rates = Rates(RATE)
    assert taken(rates, POD, tries=10 * RATE, over_s=1) < 10 * RATE
    assert taken(rates, OTHER, tries=40, over_s=1) == 40


def test_a_flood_is_not_paid_for_later_than_it_was_let_through() -> None:
    rates = Rates(RATE)
    taken(rates, POD, tries=100 * RATE, over_s=1)
    assert rates.take(POD, 1 + 2 / RATE)


def test_the_wait_is_the_time_until_there_is_room() -> None:
    rates = Rates(RATE)
    taken(rates, POD, tries=10 * RATE, over_s=0.001)
    wait_s = rates.wait_s(POD, 0.001)
    assert 0 < wait_s <= 1 / RATE
    assert not rates.take(POD, 0.001)
    assert rates.take(POD, 0.001 + wait_s * 1.001)
    assert rates.wait_s(OTHER, 0.001) == 0


def test_what_is_given_back_may_be_taken_again() -> None:
    rates = Rates(RATE)
    within_budget = taken(rates, POD, tries=100_000, over_s=0.001)
    for _ in range(10):
        rates.give_back(POD)
    rates.give_back(OTHER)  # it has taken nothing
    assert taken(rates, POD, tries=100, over_s=0.0001, start=0.001) in (10, 11)
    assert taken(rates, OTHER, tries=100_000, over_s=0.001, start=0.001) in (within_budget, within_budget + 1)


def test_while_pressed_a_flood_falls_to_a_fraction_and_a_usual_pace_is_untouched() -> None:
    rates = Rates(RATE)
    rates.pressed = PRESSED
    flood = taken(rates, POD, tries=100_000, over_s=10)
    assert flood < 1.1 * (10 + BURST_S) * RATE / PRESSED
    assert taken(rates, OTHER, tries=400, over_s=10) == 400


def test_quiet_pods_are_forgotten_and_busy_ones_are_not() -> None:
    rates = Rates(RATE)
    taken(rates, POD, tries=10 * RATE, over_s=0.001)
    for number in range(MANY_PODS):
        rates.take(bytes((10, 1, number >> 8, number & 255)), 0.001)
    assert not rates.take(POD, 0.001)
    for number in range(3 * MANY_PODS):
        rates.take(bytes((10, 2, number >> 8, number & 255)), 0.002 + number * 0.01)
    assert len(rates) <= MANY_PODS + 1


@pytest.mark.parametrize(
    ("filled", "divisor"),
    [(0, 1), (0.06, 1), (0.07, 2), (0.13, 4), (0.26, 8), (0.51, PRESSED), (1.0, PRESSED), (1.2, PRESSED)],
)
def test_the_more_waits_to_be_read_the_smaller_everybodys_rate(filled: float, divisor: int) -> None:
    room = 8 << 20
    memory = struct.pack("=16I", int(filled * room), room, *[0] * 14)

    class Listener:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            return memory[:size]

    assert intercept.pressure(Listener()) == divisor  # type: ignore[arg-type]
