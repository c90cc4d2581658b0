"""The memory of names that pods have asked for, and of those that they were given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import dns.message
import pytest

from acns.resolver.judged import Case
from acns.resolver.metrics import TCP
from acns.resolver.new_names import NewNames
from acns.resolver.proxy import Proxy
from acns.resolver.settings import ResolverSettings
from tests.unit.resolver import alone

POD, OTHER = b"\x0a\xf4\0\5", b"\x0a\xf4\0\6"
NOW = 1_000.0


def case(pod: bytes = POD) -> Case:
    """As much of one as counts."""
    asker = SimpleNamespace(source=pod)
    return cast(Case, SimpleNamespace(asker=asker, was_counted=False, was_taken_on=True, is_plain=True))


def packet(name: str, rdtype: str = "A") -> bytes:
    return dns.message.make_query(name, rdtype).to_wire()


@pytest.fixture
def names() -> NewNames:
    """A pod may bring two, and one more a second."""
    return NewNames(ResolverSettings(max_new_names_per_second_per_pod=1, max_new_names_at_once_per_pod=1))


def given(names: NewNames, name: str, pod: bytes = POD) -> bool:
    """Asked for, and its addresses committed."""
    asked = case(pod)
    return names.ask(asked, packet(name), NOW) and names.commit(asked, packet(name), NOW)


def test_a_pod_may_bring_so_many_and_another_as_many(names: NewNames) -> None:
    assert [given(names, f"n{number}.example.com.") for number in range(3)] == [True, True, False]
    assert given(names, "n0.example.com.", OTHER)
    assert not names.may_be_asked(POD, packet("n3.example.com."), NOW)
    assert names.may_be_asked(POD, packet("N0.Example.com.", "AAAA"), NOW)
    assert names.may_be_asked(POD, packet("n3.example.com."), NOW + 1)


def test_names_that_cost_nothing_do_not_push_out_those_that_did(names: NewNames) -> None:
    assert given(names, "paid.example.com.")
    for number in range(30_000):
        asked, empty = case(OTHER), packet(f"n{number}.example.com.")
        assert names.ask(asked, empty, NOW)
        names.is_empty(asked)
    assert given(names, "last.example.com.")
    assert not given(names, "more.example.com.")
    assert names.commit(case(), packet("paid.example.com."), NOW)


def test_a_silent_other_type_does_not_forget_what_was_given(names: NewNames) -> None:
    ipv6 = case()
    assert names.ask(ipv6, packet("www.example.com.", "AAAA"), NOW)
    assert given(names, "www.example.com.")
    names.is_unanswered(ipv6, packet("www.example.com.", "AAAA"))
    assert given(names, "more.example.com.")
    assert not given(names, "most.example.com.")
    assert names.commit(case(), packet("www.example.com."), NOW)


def test_what_is_given_back_is_given_back_once(names: NewNames) -> None:
    asked = case()
    assert names.ask(asked, packet("a.example.com."), NOW)
    for _ in range(3):
        names.is_empty(asked)
        names.is_unanswered(asked, packet("a.example.com."))
    assert [given(names, f"n{number}.example.com.") for number in range(3)] == [True, True, False]


# --- at the resolver's gate ------------------------------------------------------------------------------


def asked(proxy: Proxy, name: str) -> bool:
    """Whether it leaves."""
    query = packet(f"{name}.example.com.")
    return proxy.own_reply(proxy.transports[TCP], alone.case_of(proxy, query), query) is None


def test_a_name_that_has_no_room_in_flight_costs_nothing() -> None:
    settings = ResolverSettings(
        max_new_names_per_second_per_pod=1,
        max_new_names_at_once_per_pod=10,
        max_in_flight_per_endpoint_and_server=4,
    )
    proxy = alone.proxy(settings=settings)
    assert [asked(proxy, f"first{number}") for number in range(4)] == [True] * 4
    assert not any(asked(proxy, f"full{number}") for number in range(30))
    lane = alone.case_of(proxy, packet("first0.example.com.")).lane
    for number in range(4):
        proxy.context.budget.give(lane, len(packet(f"first{number}.example.com.")))
    assert asked(proxy, "now")


def test_a_name_that_may_not_be_asked_takes_no_room_in_flight() -> None:
    settings = ResolverSettings(max_new_names_per_second_per_pod=1, max_new_names_at_once_per_pod=1)
    proxy = alone.proxy(settings=settings)
    assert [asked(proxy, f"n{number}") for number in range(5)] == [True, True, False, False, False]
    assert proxy.in_flight == 2
