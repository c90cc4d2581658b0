"""Addresses that a toFQDNs entry opens, and that are another name's as well: what it opens beyond its names.

What opens is an address, on the ports of the rule; whoever else is served there is open with it (a content
network serves thousands from one). Which names are where no policy says: a topology does, and an agent has
learned it. Said is it of names that the pod's own toFQDNs do not mean anyway, one of them for each entry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.policy.codes import Code
from acns.policy.doubts.scene import Doubt, Resolutions, Scene, Subject, at_entry
from acns.policy.model import Origin
from acns.policy.objects import Rule, SelectedFQDN

MANY_NAMES = 5_000
"""So many are looked at, in all: nobody reads more, and each is matched with each pattern."""

_HINT = "a policy by names opens addresses: keep its ports few"

_NamesAt = Mapping[IPv4Address, Collection[Name]]


def doubts(scene: Scene) -> Iterator[Doubt]:
    shared = shared_names(scene.resolutions)
    if not shared:
        return
    of = {
        name: [one for one in scene.resolutions[name] if one in shared]
        for each in shared.values()
        for name in each
    }
    said: set[tuple[Origin, FQDNSelector]] = set()
    for subject in scene.subjects:
        for rule, entry, message in _Judge(subject, shared, of).findings():
            key = rule.origin, entry.selector
            if key not in said:
                said.add(key)
                yield at_entry(Code.SHARED_ADDRESS, rule, entry, message, _HINT)


def shared_names(resolutions: Resolutions) -> dict[IPv4Address, list[Name]]:
    """The addresses of more than one name, with these, in order."""
    found: dict[IPv4Address, list[Name]] = {}
    for name in sorted(resolutions):
        for address in resolutions[name]:
            found.setdefault(address, []).append(name)
    many: dict[IPv4Address, list[Name]] = {}
    room = MANY_NAMES
    for address, each in sorted(found.items()):
        if len(each) > 1 and room > 1:
            many[address] = each[:room]
            room -= len(each)
    return many


class _Judge:
    """The toFQDNs of one subject."""

    def __init__(self, subject: Subject, shared: _NamesAt, of: Mapping[Name, list[IPv4Address]]) -> None:
        self._subject = subject
        self._shared = shared
        self._of = of
        wanted = [(rule, peer) for rule in subject.allows_out() for peer in rule.peers or ()]
        self._entries = [(rule, peer) for rule, peer in wanted if isinstance(peer, SelectedFQDN)]
        self._meant: dict[Name, bool] = {}

    def findings(self) -> Iterator[tuple[Rule, SelectedFQDN, str]]:
        """Entries, and what is to be said of them."""
        if not self._subject.denies_out:
            return
        for rule, entry in self._entries:
            if found := next(self._beyond(entry.selector), None):
                name, address, other = found
                message = (
                    f"'{_plain(name)}' opens {address}, which is also {_plain(other)}'s: "
                    f"{self._subject.who} reaches both"
                )
                yield rule, entry, message

    def _beyond(self, entry: FQDNSelector) -> Iterator[tuple[Name, IPv4Address, Name]]:
        """A name of the entry's, an address of that, and whose it is besides."""
        for name in self._of:
            if not entry.matches(name):
                continue
            for address in self._of[name]:
                for other in self._shared[address]:
                    if not self._is_meant(other):
                        yield name, address, other

    def _is_meant(self, name: Name) -> bool:
        if name not in self._meant:
            self._meant[name] = any(entry.selector.matches(name) for _, entry in self._entries)
        return self._meant[name]


def _plain(name: Name) -> str:
    return names.to_text(name).removesuffix(".")
