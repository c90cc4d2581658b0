"""The counted selectors are always those of the policy, and stay the same object while nothing changes."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from acns.dns.pattern import match_name
from acns.policy.model import (
    FQDN,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    Everything,
    Match,
    NodePolicy,
    Origin,
    Peer,
)
from acns.shim.selectors import SelectorCount

ORIGIN = Origin("default/p", "egress", 0, "p.yaml", 1, 1)
SELECTORS = [match_name(f"{letter}.io") for letter in "abcd"]

Sides = dict[int, DirectionPolicy]


def side(*numbers: int) -> DirectionPolicy:
    peers: list[Peer] = [FQDN(SELECTORS[number]) for number in numbers]
    return DirectionPolicy(True, tuple(Match(peer, None, ORIGIN) for peer in (*peers, Everything())))


def node(sides: Sides) -> NodePolicy:
    endpoints = tuple(
        EndpointPolicy(Endpoint("default", f"pod-{number}", IPv4Address(number), frozenset()), egress)
        for number, egress in sorted(sides.items())
    )
    return NodePolicy("node1", endpoints, frozenset(), frozenset(), frozenset())


@given(
    st.lists(
        st.dictionaries(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=4), max_size=4), max_size=8
    )
)
def test_after_any_changes_they_are_those_of_the_last_policy(changes: list[dict[int, list[int]]]) -> None:
    count = SelectorCount()
    for change in changes:
        policy = node({number: side(*numbers) for number, numbers in change.items()})
        assert count.of(policy) == policy.fqdn_selectors()


def test_the_set_is_the_same_object_while_no_selector_comes_or_goes() -> None:
    count = SelectorCount()
    shared = side(0, 1)
    first = count.of(node({1: shared, 2: side(2)}))
    assert count.of(node({1: shared, 2: side(2, 1)})) is first
    assert count.of(node({1: shared, 2: side(2), 3: side(0)})) is first
    assert count.of(node({1: shared})) == {SELECTORS[0], SELECTORS[1]}
