"""Networks without others, against counting single addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from acns.policy.networks import without

BASE = int(IPv4Address("10.0.0.0"))


@st.composite
def small_networks(draw: st.DrawFn) -> IPv4Network:
    """Within 64 addresses."""
    length = draw(st.integers(26, 32))
    size = 1 << (32 - length)
    return IPv4Network((BASE + draw(st.integers(0, 64 // size - 1)) * size, length))


lists = st.lists(small_networks(), max_size=4).map(tuple)


def addresses(networks: tuple[IPv4Network, ...]) -> list[IPv4Address]:
    return [address for network in networks for address in network]


@given(lists, lists)
def test_what_is_left_is_what_lies_in_the_ones_and_not_in_the_others(
    networks: tuple[IPv4Network, ...], excepted: tuple[IPv4Network, ...]
) -> None:
    left = without(networks, excepted)
    assert sorted(addresses(left)) == sorted(set(addresses(networks)) - set(addresses(excepted)))
    assert list(left) == sorted(left)
