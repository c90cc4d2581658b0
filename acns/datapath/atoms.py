"""Atoms: one peer with one kind of traffic, allowed or denied; the unit of rules, counters and grants.

Whoever's policy says the same has the same atom, with the same id and grant, after every restart: an edit
that keeps the atom keeps its connections, one that removes it cuts them. An atom is read in both ways of its
direction: packets that open a connection, and what answers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from acns.datapath import drops, names, rules, sets
from acns.datapath.drops import DenyResponse
from acns.datapath.grants import PREFIXES, Grants
from acns.datapath.model import ChainSpec, Rule, SetSpec
from acns.datapath.rules import Way
from acns.datapath.shared import Made
from acns.policy.model import ICMP, Direction, Match, Peer, Traffic

WAYS = {
    Direction.EGRESS: (Way.EGRESS, Way.EGRESS_REPLY),
    Direction.INGRESS: (Way.INGRESS, Way.INGRESS_REPLY),
}
_DENY_PREFIXES = {Direction.EGRESS: "de_", Direction.INGRESS: "di_"}


@dataclass(frozen=True, slots=True)
class Saying:
    """What a match says, wherever it was written."""

    direction: Direction
    deny: bool
    peer: Peer
    traffic: Traffic

    @property
    def text(self) -> str:
        return f"{self.peer.key} {traffic_text(self.traffic)}"

    @property
    def opens(self) -> bool:
        """Whether such packets open connections: not ICMP that is no question (so it cannot be marked)."""
        return not isinstance(self.traffic, ICMP) or self.traffic.type in rules.ICMP_ANSWERS


@dataclass(frozen=True, slots=True)
class Atom:
    """A saying as rules, by way, where it has such packets. `set`: the peer's own, where it has one. `grant`
    is 0 for what denies, or opens no connection. `drops`: the chains that its rules lead to."""

    id: str
    saying: Saying
    set: SetSpec | None
    grant: int
    rules: Mapping[Way, Rule]
    drops: tuple[ChainSpec, ...] = ()


class Atoms:
    """Makes atoms. `made` holds those in use."""

    def __init__(self, grants: Grants, response: DenyResponse) -> None:
        self._grants = grants
        self._response = response
        self.made: Made[Saying, Atom] = Made(self._make)

    def of(self, direction: Direction, match: Match, *, deny: bool) -> Atom:
        """The atom of a match."""
        return self.made.of(Saying(direction, deny, match.peer, match.traffic))

    def _make(self, saying: Saying) -> Atom:
        peer_set = sets.peer_set(saying.peer)
        set_name = peer_set.name if peer_set else ""
        prefix = (_DENY_PREFIXES if saying.deny else PREFIXES)[saying.direction]
        id_ = prefix + names.digest(saying.peer.key, set_name, traffic_text(saying.traffic))
        matches = {
            way: rules.join(rules.peer_match(saying.peer, set_name, way), l4)
            for way in WAYS[saying.direction]
            if (l4 := rules.traffic_match(saying.traffic, way)) is not None
        }
        if saying.deny:
            ends = {way: drops.denied(id_, way, self._response) for way in matches}
            texts = {way: _deny(id_, match, ends[way]) for way, match in matches.items()}
            made = {way: Rule(id_, text, f"deny {saying.text}") for way, text in texts.items()}
            return Atom(id_, saying, peer_set, 0, made, tuple(ends.values()))
        grant = self._grants.of(saying.direction).number(id_) if saying.opens else 0
        texts = {way: _allow(id_, match, way, grant) for way, match in matches.items()}
        # The grant first: who lost the registries reads it back from the kernel's comments.
        made = {way: Rule(id_, text, f"{grant or '-'} {saying.text}") for way, text in texts.items()}
        return Atom(id_, saying, peer_set, grant, made)


def traffic_text(traffic: Traffic) -> str:
    """`443/TCP`, `8000-8100/ANY`, `icmp 8`, or `all traffic`."""
    if traffic is None:
        return "all traffic"
    if isinstance(traffic, ICMP):
        return f"icmp {traffic.type}"
    if traffic.first == 0:
        return f"every port/{traffic.protocol.value}"
    span = str(traffic.first) if traffic.last <= traffic.first else f"{traffic.first}-{traffic.last}"
    return f"{span}/{traffic.protocol.value}"


def _deny(id_: str, match: str, end: ChainSpec) -> str:
    return f"{match} counter name {id_} goto {end.name}"


def _allow(id_: str, match: str, way: Way, grant: int) -> str:
    if not grant:
        return f"{match} counter name {id_} accept"
    mark = rules.set_grant(way.direction, grant)
    if way.is_reply:
        return f"ct state established {match} {mark} accept"
    return f"{match} counter name {id_} {mark} accept"
