"""Rules resolved against a cluster, each once for all endpoints that it applies to.

Most rules mean the same whatever happens in the cluster, since groups stand in them by name. Those that do
not (they name ports, Services or CIDR groups) are resolved again when something they ask about has changed,
and count as changed only if something else came of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from acns.dns.pattern import FQDNSelector
from acns.policy.changes import Moves
from acns.policy.model import Addresses, Direction, Everything, Match, Origin, Peer, Ports
from acns.policy.objects import CIDRGroupPeer, NamedPort, Rule, SelectedServices
from acns.policy.peers import peers_of
from acns.policy.ports import Reach, port_names, reach_of
from acns.policy.traffic import DNS_PROTOCOLS
from acns.policy.view import View


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A peer at one TCP or UDP port, by number: where a DNS server may be."""

    peer: Peer = field(compare=False)
    peer_key: str
    protocol: int
    port: int


Targets = tuple[Target, ...]


def key_of(targets: Targets) -> str:
    """The targets in short: peers with the same ports together."""
    ports: dict[str, list[str]] = {}
    for target in targets:
        ports.setdefault(target.peer_key, []).append(f"{target.port}/{target.protocol}")
    peers: dict[str, list[str]] = {}
    for peer, at in ports.items():
        peers.setdefault(",".join(at), []).append(peer)
    return "+".join(f"{'|'.join(who)}@{at}" for at, who in sorted(peers.items()))


@dataclass(frozen=True, slots=True)
class DNSBlock:
    """One `rules.dns`: at these servers, these names."""

    key: str  # of its targets
    targets: Targets
    names: tuple[FQDNSelector, ...]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a rule comes to. `matches`: its L3/L4 side (a `rules.dns` block permits nothing but the queries
    that the resolver lets pass). `plain`: the ports among them at which it would open every name."""

    origin: Origin
    matches: tuple[Match, ...]
    blocks: tuple[DNSBlock, ...]
    plain: Targets

    def groups(self) -> Iterator[str]:
        """The keys of the groups it names."""
        peers = (match.peer for match in self.matches)
        targets = (target.peer for block in self.blocks for target in block.targets)
        return (peer.key for each in (peers, targets) for peer in each if isinstance(peer, Addresses))


@dataclass(slots=True)
class _Entry:
    """A rule, what came of it for each list of own ports, and what that depends on."""

    rule: Rule
    own_names: frozenset[str]
    pod_names: frozenset[str]
    services: bool
    cidr_groups: bool
    peers: tuple[Peer, ...]
    variants: dict[tuple[NamedPort, ...], Resolved]

    def is_stale(self, moves: Moves, touched: set[str]) -> bool:
        if (self.services and moves.services) or (self.cidr_groups and moves.cidr_groups):
            return True
        return not self.pod_names.isdisjoint(moves.port_names) and any(
            isinstance(peer, Everything) or peer.key in touched for peer in self.peers
        )


class Rules:
    """All rules that some endpoint of the node needed, resolved. Rules are told apart by identity: two
    policies may say the same at the same place."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._entries: dict[int, _Entry] = {}
        self._volatile: dict[int, _Entry] = {}  # those of them that can come to something else

    def resolved(self, rule: Rule, ports: tuple[NamedPort, ...]) -> Resolved:
        """For an endpoint with these named ports."""
        entry = self._entries.get(id(rule))
        if entry is None:
            entry = self._entries[id(rule)] = _entry(rule)
            entry.peers = peers_of(rule, self._view)
            if entry.pod_names or entry.services or entry.cidr_groups:
                self._volatile[id(rule)] = entry
        own = tuple(port for port in ports if port.name in entry.own_names) if entry.own_names else ()
        if own not in entry.variants:
            entry.variants[own] = _resolved(entry, own, self._view)
        return entry.variants[own]

    def __len__(self) -> int:
        return len(self._entries)

    def forget(self, rules: Iterable[Rule]) -> None:
        """They are no more."""
        for rule in rules:
            self._entries.pop(id(rule), None)
            self._volatile.pop(id(rule), None)

    def update(self, moves: Moves) -> set[int]:
        """Resolve again what may have changed; returns the ids of the rules that have."""
        return {id_ for id_, entry in self._volatile.items() if self._renewed(entry, moves)}

    def groups(self) -> Iterator[str]:
        """The keys of all groups that are named anywhere."""
        for entry in self._entries.values():
            yield from (peer.key for peer in entry.peers if isinstance(peer, Addresses))
            yield from (key for resolved in entry.variants.values() for key in resolved.groups())

    def _renewed(self, entry: _Entry, moves: Moves) -> bool:
        if not entry.is_stale(moves, self._view.touched):
            return False
        entry.peers = peers_of(entry.rule, self._view)
        renewed = {own: _resolved(entry, own, self._view) for own in entry.variants}
        if renewed == entry.variants:
            return False
        entry.variants = renewed
        return True


def _entry(rule: Rule) -> _Entry:
    names, peers = port_names(rule), rule.peers or ()
    ingress = rule.direction is Direction.INGRESS
    return _Entry(
        rule,
        own_names=names if ingress else frozenset(),
        pod_names=frozenset() if ingress else names,
        services=any(isinstance(peer, SelectedServices) for peer in peers),
        cidr_groups=any(isinstance(peer, CIDRGroupPeer) for peer in peers),
        peers=(),
        variants={},
    )


def _resolved(entry: _Entry, own: tuple[NamedPort, ...], view: View) -> Resolved:
    rule = entry.rule
    plain: list[Reach] = []
    blocks = []
    for block in (None,) if rule.ports is None else rule.ports:
        reach = list(reach_of(rule, block, entry.peers, own, view))
        if block is None or block.dns is None:
            plain += reach
        else:
            targets = _targets(reach)
            blocks.append(DNSBlock(key_of(targets), targets, block.dns))
    matches = tuple(Match(peer, traffic, rule.origin) for peer, traffic in plain)
    return Resolved(rule.origin, matches, tuple(blocks), _targets(plain))


def _targets(reach: Iterable[Reach]) -> Targets:
    """Ports that are written out as one number: a range, or any port, is another, less specific entry."""
    found = {
        Target(peer, peer.key, number, traffic.first)
        for peer, traffic in reach
        if isinstance(traffic, Ports) and traffic.first == traffic.last != 0
        for number in traffic.protocol.numbers()
        if number in DNS_PROTOCOLS
    }
    return tuple(sorted(found))
