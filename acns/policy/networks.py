"""Sets of IPv4 networks: what is left of some when others are taken out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, collapse_addresses


@lru_cache(maxsize=1024)  # the same rules are resolved again and again
def without(networks: tuple[IPv4Network, ...], excepted: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
    """The addresses of `networks` that lie in none of `excepted`, as few networks as possible, sorted."""
    left: Iterable[IPv4Network] = collapse_addresses(networks)
    for hole in collapse_addresses(excepted):
        left = [part for network in left for part in _without_one(network, hole)]
    return tuple(sorted(left))


def _without_one(network: IPv4Network, hole: IPv4Network) -> Iterable[IPv4Network]:
    if not network.overlaps(hole):
        return (network,)
    return network.address_exclude(hole) if network.prefixlen < hole.prefixlen else ()
