"""What a flow's address is called, and what may be spent on flows."""

from __future__ import annotations

from ipaddress import IPv4Address

from acns.shim import flow_names
from acns.shim.allowance import Allowance
from acns.shim.flow_names import FlowNames

A, B = IPv4Address("198.51.100.7"), IPv4Address("198.51.100.8")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_an_address_has_all_the_names_that_were_answered_with_it() -> None:
    names = FlowNames(Clock())
    names.learned((b"shared", b"example", b"com"), [A.packed, B.packed], 60)
    names.learned((b"tracker", b"example", b"org"), [A.packed], 60)
    assert names.of(A) == ("shared.example.com", "tracker.example.org")
    assert names.of(B) == ("shared.example.com",)
    assert names.of(IPv4Address("198.51.100.9")) == ()


def test_a_name_outlives_its_ttl_but_not_for_ever() -> None:
    clock = Clock()
    names = FlowNames(clock)
    names.learned((b"a", b"io"), [A.packed], 60)
    clock.now_s += 60 + flow_names.REMEMBERED_S
    assert names.of(A) == ("a.io",)
    clock.now_s += 1
    assert names.of(A) == ()


def test_a_shorter_ttl_later_does_not_shorten() -> None:
    clock = Clock()
    names = FlowNames(clock)
    names.learned((b"a", b"io"), [A.packed], 600)
    names.learned((b"a", b"io"), [A.packed], 1)
    clock.now_s += 300 + flow_names.REMEMBERED_S
    assert names.of(A) == ("a.io",)


def test_of_too_many_names_the_newest_are_kept() -> None:
    names = FlowNames(Clock())
    for number in range(100, 100 + flow_names.MAX_NAMES + 5):
        names.learned((b"n%d" % number, b"io"), [A.packed], 60)
    assert names.of(A) == tuple(f"n{number}.io" for number in range(105, 105 + flow_names.MAX_NAMES))


def test_memory_is_bounded_whatever_is_learned() -> None:
    names = FlowNames(Clock())
    for number in range(flow_names.MAX_ADDRESSES + 10):
        names.learned((b"a", b"io"), [number.to_bytes(4, "big")], 60)
        if not number % 1000:
            names.take_in()
    assert names.of(IPv4Address(9)) == ()
    assert names.of(IPv4Address(10)) == ("a.io",)


def test_what_is_learned_again_is_not_the_first_to_be_forgotten() -> None:
    names = FlowNames(Clock())
    for number in range(flow_names.MAX_ADDRESSES):
        names.learned((b"a", b"io"), [number.to_bytes(4, "big")], 60)
        names.take_in()
    names.learned((b"a", b"io"), [(0).to_bytes(4, "big")], 60)
    names.learned((b"a", b"io"), [b"\xff" * 4], 60)
    assert (names.of(IPv4Address(0)), names.of(IPv4Address(1))) == (("a.io",), ())


def test_what_nobody_takes_in_does_not_pile_up() -> None:
    names = FlowNames(Clock())
    for number in range(30_000):
        names.learned((b"a", b"io"), [number.to_bytes(4, "big")], 60)
    assert names.of(IPv4Address(0)) == ()
    assert names.of(IPv4Address(29_999)) == ("a.io",)


def test_an_allowance_lets_a_burst_through_and_then_so_much_per_second() -> None:
    clock = Clock()
    allowance = Allowance(per_s=10, burst=100, clock=clock)
    allowance.spend(99)
    assert allowance.recovers_in_s() == 0
    allowance.spend(1)
    assert allowance.recovers_in_s() == 0.1
    clock.now_s += 0.1
    assert allowance.recovers_in_s() == 0
    clock.now_s += 3600
    allowance.spend(100)
    assert allowance.recovers_in_s() == 0.1


def test_what_is_overdrawn_has_to_be_made_up_for() -> None:
    clock = Clock()
    allowance = Allowance(per_s=10, burst=100, clock=clock)
    allowance.spend(120)
    clock.now_s += 2
    assert allowance.recovers_in_s() == 0.1
