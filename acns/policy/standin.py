"""Addresses that stand for the world outside, where nobody knows which address is meant.

CIDR rules cut the outside into areas that each set of rules treats alike: one address stands for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from acns.policy.learnings import Learnings
from acns.policy.model import CIDRs, DirectionPolicy
from acns.policy.overview import Local
from acns.policy.wording import peer_text

Networks = tuple[IPv4Network, ...]
"""What one CIDR peer selects."""

_PREFERRED = IPv4Address("192.0.2.1")  # TEST-NET-1, RFC 5737: nobody's
# No host outside has these: this network, private, shared, loopback, link-local, multicast and beyond.
_NOBODY = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.168.0.0/16", "224.0.0.0/3",
        ),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StandIn:
    """`address` stands for a part of the outside. `within`: the CIDRs of rules that tell it from other parts;
    empty for what no rule is more particular about. `inside`: all that it lies in."""

    address: IPv4Address
    within: str
    inside: frozenset[Networks] = frozenset()


def stand_ins(source: Local, learned: Learnings) -> tuple[StandIn, ...]:
    """One for each part of what `source` may reach outside, the largest first."""
    networks = _networks(source.policy.egress)
    areas = _areas(networks)
    everywhere = frozenset.intersection(*areas)
    taken = source.node.cluster_addresses | source.node.service_addresses
    found = []
    for inside, area in sorted(areas.items(), key=lambda one: -_size(one[1])):
        within = [peer_text(CIDRs("", networks[number])) for number in sorted(inside - everywhere)]
        if (address := _free_in(area, taken, learned)) is not None:
            lies_in = frozenset(networks[number] for number in inside)
            found.append(StandIn(address, " and ".join(within), lies_in))
    return tuple(found) or (StandIn(_PREFERRED, ""),)


def _free_in(
    area: list[tuple[int, int]], taken: frozenset[IPv4Address], learned: Learnings
) -> IPv4Address | None:
    """An address that is nobody's in the cluster, and no known name's."""
    if _lies_in(_PREFERRED, area) and not (_PREFERRED in taken or learned.at(_PREFERRED)):
        return _PREFERRED
    free = (address for address in _addresses(area) if address not in taken and not learned.at(address))
    return next(free, None)


def _size(area: Iterable[tuple[int, int]]) -> int:
    return sum(end - start for start, end in area)


def _networks(egress: DirectionPolicy) -> tuple[Networks, ...]:
    peers = (match.peer for match in (*egress.allows, *egress.denies))
    return tuple(dict.fromkeys(peer.networks for peer in peers if isinstance(peer, CIDRs)))


@lru_cache(maxsize=256)
def _areas(networks: tuple[Networks, ...]) -> Mapping[frozenset[int], list[tuple[int, int]]]:
    """The outside, by which of the rules' networks it lies in: half-open ranges of numbers."""
    cuts = {0, 1 << 32}
    for network in (*_NOBODY, *(one for each in networks for one in each)):
        cuts |= set(_ends(network))
    found: dict[frozenset[int], list[tuple[int, int]]] = {}
    for start, end in pairwise(sorted(cuts)):
        address = IPv4Address(start)
        if not _is_in(address, _NOBODY):
            inside = frozenset(number for number, each in enumerate(networks) if _is_in(address, each))
            found.setdefault(inside, []).append((start, end))
    return found


def _ends(network: IPv4Network) -> tuple[int, int]:
    start = int(network.network_address)
    return start, start + network.num_addresses


def _is_in(address: IPv4Address, networks: Iterable[IPv4Network]) -> bool:
    return any(address in network for network in networks)


def _lies_in(address: IPv4Address, area: Iterable[tuple[int, int]]) -> bool:
    return any(start <= int(address) < end for start, end in area)


def _addresses(area: Iterable[tuple[int, int]]) -> Iterator[IPv4Address]:
    return (IPv4Address(number) for start, end in area for number in range(start, end))
