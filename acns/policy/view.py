"""A cluster as one node sees it: who is in which group now, whom a peer covers, whose identity is where.

Groups are computed when they are first asked for; from then on a pod that comes, goes or changes is checked
against each of them by itself, so that nothing is looked at that did not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from acns.policy import groups
from acns.policy.changes import Moves
from acns.policy.directory import WORLD_IDENTITY, Directory, Resident
from acns.policy.groups import Group
from acns.policy.model import (
    FQDN,
    Addresses,
    CIDRs,
    Everything,
    Host,
    Peer,
    Protocol,
    World,
    identity_of_its_own,
)


class View:
    """After `update`, `touched` has the keys of the groups in which somebody came, went or changed."""

    def __init__(self, directory: Directory, node_name: str) -> None:
        self.directory = directory
        self.node_name = node_name
        self.touched: set[str] = set()
        self._definitions: dict[str, Group] = {}
        self._members: dict[str, frozenset[IPv4Address]] = {}

    def define(self, key: str, group: Group) -> Addresses:
        """The peer for a group; a key that meant something else (a Service was edited) is another group
        now."""
        if self._definitions.get(key) != group:
            self._definitions[key] = group
            if self._members.pop(key, None) is not None:
                self.touched.add(key)
        return Addresses(key)

    def definition(self, key: str) -> Group:
        return self._definitions[key]

    def members(self, key: str) -> frozenset[IPv4Address]:
        """Who is in a group."""
        if key not in self._members:
            self._members[key] = groups.members(self._definitions[key], self.directory, self.node_name)
        return self._members[key]

    def update(self, moves: Moves) -> None:
        """The directory has changed."""
        self.touched = set()
        claims = [(address, self.directory.residents.get(address, ())) for address in moves.addresses]
        for key in list(self._members):
            group = self._definitions[key]
            if groups.is_of_pods(group):
                asked = groups.anchors(group)
                if asked is not None and moves.labels.isdisjoint(asked):
                    continue  # nobody who moved has, or had, what it asks for
                self._move(key, group, claims)
            elif moves.addresses or moves.nodes or moves.services:
                self._recount(key, group, moves.addresses)

    def keep_only(self, keys: Iterable[str]) -> None:
        """Forget all other groups."""
        live = set(keys)
        for key in self._definitions.keys() - live:
            del self._definitions[key]
            self._members.pop(key, None)

    def covers(self, peer: Peer, address: IPv4Address) -> bool:
        """Whether `peer` selects who is at `address`. What a name resolves to is not known here."""
        match peer:
            case Everything():
                return True
            case Host():
                return address in self.directory.addresses_of(self.node_name)
            case Addresses(key):
                return address in self.members(key)
            case World():
                return address not in self.directory.cluster_addresses
            case CIDRs():
                outside = address not in self.directory.cluster_addresses
                return outside and any(address in network for network in peer.networks)
            case FQDN():
                return False

    def identity(self, address: IPv4Address) -> str:
        return self.directory.identity_at(address, self.node_name)

    def identity_behind(self, cluster_ip: IPv4Address) -> str:
        """The identity that a ClusterIP is known under: its backends', or one of its own where they differ
        (in the middle of a roll-out, say) or are outside: a rule for one address there does not mean the
        world. It is only in the rules that mean every one of them."""
        found = {self.identity(address) for address in self.directory.services.behind[cluster_ip]}
        alike = len(found) == 1 and WORLD_IDENTITY not in found
        return found.pop() if alike else identity_of_its_own(cluster_ip)

    def ports_named(self, name: str, addresses: Iterable[IPv4Address]) -> list[tuple[Protocol, int]]:
        """Which container ports of that name the pods at these addresses have, sorted."""
        found = {
            (Protocol(port.protocol), port.port)
            for address in addresses
            for each in self.directory.residents.get(address, ())
            for port in each.named_ports
            if port.name == name
        }
        return sorted(found)

    def _move(self, key: str, group: Group, claims: Iterable[tuple[IPv4Address, Sequence[Resident]]]) -> None:
        old = self._members[key]
        now = {address for address, claimants in claims if groups.holds(group, claimants)}
        were = {address for address, _ in claims if address in old}
        if now or were:
            self.touched.add(key)
        if now != were:
            self._members[key] = (old - were) | now

    def _recount(self, key: str, group: Group, addresses: Iterable[IPv4Address]) -> None:
        old = self._members[key]
        new = groups.members(group, self.directory, self.node_name)
        if new != old:
            self._members[key] = new
        if new != old or not new.isdisjoint(addresses):
            self.touched.add(key)
