"""Networks without others, against counting single addresses, and against taking out one after the other."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from hypothesis import given
from hypothesis import strategies as st

from acns.policy.networks import common, remainders, without

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


@given(lists, lists)
def test_what_is_left_of_each_is_what_would_be_of_it_alone(
    networks: tuple[IPv4Network, ...], excepted: tuple[IPv4Network, ...]
) -> None:
    for network, left in remainders(networks, excepted):
        assert addresses(left) == addresses(without((network,), excepted))


@given(lists, lists)
def test_what_two_have_in_common_lies_in_both(
    ones: tuple[IPv4Network, ...], others: tuple[IPv4Network, ...]
) -> None:
    both = sorted(set(addresses(ones)) & set(addresses(others)))
    assert common(ones, others) == tuple(collapse_addresses(map(IPv4Network, both)))


def one_after_the_other(
    networks: tuple[IPv4Network, ...], excepted: tuple[IPv4Network, ...]
) -> tuple[IPv4Network, ...]:
    left = list(collapse_addresses(networks))
    for hole in excepted:
        apart = [each for each in left if not each.overlaps(hole)]
        met = [each for each in left if each.overlaps(hole) and not each.subnet_of(hole)]
        left = [*apart, *(part for each in met for part in each.address_exclude(hole))]
    return tuple(sorted(left))


anywhere = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
long_lists = st.lists(st.one_of(small_networks(), anywhere), max_size=20).map(tuple)


@given(long_lists, long_lists)
def test_it_is_the_same_as_taking_out_one_after_the_other(
    networks: tuple[IPv4Network, ...], excepted: tuple[IPv4Network, ...]
) -> None:
    assert without(networks, excepted) == one_after_the_other(networks, excepted)


def test_it_takes_no_longer_the_more_is_left() -> None:
    """Going through what is left for each of them would take half an hour."""
    holes = tuple(IPv4Network(BASE + 3 * n) for n in range(20_000))
    left = without((IPv4Network("10.0.0.0/8"),), holes)
    assert sum(each.num_addresses for each in left) == (1 << 24) - len(holes)
