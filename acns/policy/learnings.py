"""What names are known to resolve to on a node: the addresses that `toFQDNs` selectors have open, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector

_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_BROADCAST = IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Learning:
    """One address that is open for `selectors`, from a query for `name` by the pod `asked_by`.

    `name` and `learned_at` are None where only the kernel knew the address, from before the agent's start.
    `of_kernel`: the agent cannot be asked, and this is what its kernel's set holds. Times are seconds since
    the epoch.
    """

    name: Name | None
    address: IPv4Address
    selectors: tuple[FQDNSelector, ...]
    expires_at: float
    learned_at: float | None = None
    asked_by: str = ""
    of_kernel: bool = False


@dataclass(frozen=True)
class Learnings:
    """All of a node. Without any, nothing is known: a cluster that does not run, or has just started."""

    all: tuple[Learning, ...] = field(default=())

    @classmethod
    def supposing(
        cls, selectors: Iterable[FQDNSelector], name: Name, addresses: Iterable[IPv4Address]
    ) -> Learnings:
        """As if `name` had been looked up, and had these addresses; those never learned open nothing."""
        found = tuple(one for one in selectors if one.matches(name))
        return cls(
            tuple(
                Learning(name, address, found if _is_learned(address) else (), expires_at=0.0)
                for address in addresses
            )
        )

    @cached_property
    def open(self) -> Mapping[FQDNSelector, frozenset[IPv4Address]]:
        """Selector → addresses."""
        found: dict[FQDNSelector, set[IPv4Address]] = {}
        for one in self.all:
            for selector in one.selectors:
                found.setdefault(selector, set()).add(one.address)
        return {selector: frozenset(addresses) for selector, addresses in found.items()}

    def at(self, address: IPv4Address) -> tuple[Learning, ...]:
        """What is known of an address."""
        return self._by_address.get(address, ())

    def of(self, name: Name) -> tuple[Learning, ...]:
        """What a name is known to resolve to."""
        return tuple(one for one in self.all if one.name == name)

    @cached_property
    def _by_address(self) -> Mapping[IPv4Address, tuple[Learning, ...]]:
        found: dict[IPv4Address, list[Learning]] = {}
        for one in self.all:
            found.setdefault(one.address, []).append(one)
        return {address: tuple(each) for address, each in found.items()}


def _is_learned(address: IPv4Address) -> bool:
    """As `acns.fqdn.addresses` has it."""
    never = address.is_loopback or address.is_link_local or address.is_multicast
    return not (never or address in _THIS_NETWORK or address == _BROADCAST)
