"""Addresses that are open under more than one selector: what a rule opens beyond its name.

Cilium labels an address with every selector that learned it, so permissions for one name hold for all names
at the same address (a content network serves thousands from one). Which addresses those are shows only at
run time, from what was learned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """An address with all its names, and the selectors under which it is open, each with its own of them."""

    address: IPv4Address
    names: tuple[Name, ...]
    selectors: Mapping[FQDNSelector, tuple[Name, ...]]

    def beyond(self, selector: FQDNSelector) -> tuple[Name, ...]:
        """The names that a rule with `selector` opens although it does not match them."""
        mine = set(self.selectors[selector])
        return tuple(name for name in self.names if name not in mine)


def shared_addresses(
    learned: Mapping[Name, Collection[IPv4Address]], selectors: Iterable[FQDNSelector]
) -> list[SharedAddress]:
    """The addresses that some selector opens for a name which another selector, and not it, matches; by
    address. `learned`: name → its addresses at the moment."""
    wanted = list(selectors)
    by_name = {name: [each for each in wanted if each.matches(name)] for name in learned}
    names: dict[IPv4Address, list[Name]] = {}
    for name in sorted(name for name, found in by_name.items() if found):
        for address in learned[name]:
            names.setdefault(address, []).append(name)
    found = (_shared(address, here, by_name) for address, here in sorted(names.items()) if len(here) > 1)
    return [each for each in found if any(each.beyond(selector) for selector in each.selectors)]


def _shared(
    address: IPv4Address, names: list[Name], selectors: Mapping[Name, list[FQDNSelector]]
) -> SharedAddress:
    by_selector: dict[FQDNSelector, tuple[Name, ...]] = {}
    for name in names:
        for selector in selectors[name]:
            by_selector[selector] = (*by_selector.get(selector, ()), name)
    return SharedAddress(address, tuple(names), by_selector)
