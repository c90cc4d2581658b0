"""Sets of IPv4 networks: what is left of some when others are taken out, what two have in common.

Lists of networks are as long as whoever writes a policy likes. So they are gone through in order, once, never
each with each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, collapse_addresses, summarize_address_range


@lru_cache(maxsize=1024)  # the same rules are resolved again and again
def without(networks: tuple[IPv4Network, ...], excepted: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
    """The addresses of `networks` that lie in none of `excepted`, as few networks as possible, sorted."""
    spans = _left(_spans(networks), list(_spans(excepted)))
    return tuple(
        network
        for first, last in spans
        for network in summarize_address_range(IPv4Address(first), IPv4Address(last))
    )


def remainders(
    networks: Iterable[IPv4Network], excepted: tuple[IPv4Network, ...]
) -> Iterator[tuple[IPv4Network, tuple[IPv4Network, ...]]]:
    """Each network once, with what `excepted` leaves of it."""
    each_once = tuple(dict.fromkeys(networks))
    left = without(each_once, excepted)
    for network in each_once:
        start = bisect_left(left, network.network_address, key=lambda one: one.broadcast_address)
        end = bisect_right(left, network.broadcast_address, key=lambda one: one.network_address)
        yield network, tuple(one if one.subnet_of(network) else network for one in left[start:end])


def common(ones: tuple[IPv4Network, ...], others: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
    """The addresses that lie in both, likewise."""
    return without(ones, without(ones, others))


def consists_of(network: IPv4Network, addresses: Collection[IPv4Address]) -> bool:
    """Whether every address of it is among these."""
    return network.num_addresses <= len(addresses) and all(one in addresses for one in network)


def _left(spans: Iterable[tuple[int, int]], holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Both are disjoint, and sorted."""
    at = 0
    for first, last in spans:
        while at < len(holes) and holes[at][0] <= last:
            start, end = holes[at]
            if start > first:
                yield first, start - 1
            first = max(first, end + 1)
            if end > last:
                break  # into the next one, perhaps
            at += 1
        if first <= last:
            yield first, last


def _spans(networks: Iterable[IPv4Network]) -> Iterator[tuple[int, int]]:
    """First and last address of each, without those that lie in others."""
    for network in collapse_addresses(networks):
        yield int(network.network_address), int(network.broadcast_address)
