"""What is missing where no rule allows a packet: the rules that come nearest, and why each of them does not.

A deny by default has no rule to point at, so the reader needs to hear which rule was probably meant: one for
this peer with other traffic, one for this traffic with other peers, one that lets only queries pass, one that
names what is not there. What people get wrong most often is said in so many words: CIDRs and names never
select pods, ports are judged after Service translation, ports do not let ICMP through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.policy import traffic, verdict
from acns.policy.directory import Resident
from acns.policy.learnings import Learnings
from acns.policy.model import FQDN, ICMP, CIDRs, Direction, DNSServers, Match, Origin, Ports, World
from acns.policy.objects import Rule, SelectedEndpoints
from acns.policy.overview import Local, Overview
from acns.policy.selectors import Requirement
from acns.policy.traffic import Packet
from acns.policy.wording import peer_text, peers_text, plain, servers_text, traffic_text, who

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Question:
    """One packet at one end. `peer`: the other end, and what it is `called`. `traffic`: in words, of all that
    the packet stands for. `front`: as the pod sent it, before translation."""

    end: Local
    direction: Direction
    peer: IPv4Address
    called: str
    packet: Packet
    traffic: str
    front: Packet
    learned: Learnings

    @property
    def is_address(self) -> bool:
        """Whether the peer is really at that address, which else stands for a name's."""
        return self.called.endswith(f"({self.peer})")

    @property
    def candidates(self) -> tuple[Match, ...]:
        return self.end.side(self.direction).allows


def missing(question: Question, overview: Overview) -> tuple[str, ...]:
    """One line each, the nearest first."""
    lines = [
        *_other_traffic(question),
        *_queries_only(question),
        *_absent(question, overview),
        *_other_peers(question, overview),
        *_never_selected(question, overview),
    ]
    return tuple(dict.fromkeys(lines))[:_SHOWN]


def restricted_by(question: Question, overview: Overview) -> str:
    """Whose rules are too few: `no egress rule of default/a or default/b`."""
    policies = overview.denying(question.end.resident, question.direction)
    if not policies:
        return f"no policy (enforcement is '{overview.enforcement}')"
    return f"no {question.direction} rule of {' or '.join(policy.key for policy in policies)}"


def _other_traffic(question: Question) -> Iterator[str]:
    """Rules for this peer, but with other traffic."""
    here = [one for one in question.candidates if _selects(question, one)]
    for origin, matches in _by_origin(here).items():
        allowed = " and ".join(dict.fromkeys(traffic_text(match.traffic) for match in matches))
        peers = peers_text(match.peer for match in matches)
        yield f"{origin} allows only {allowed} for {peers}{_ports_hint(question, matches)}"


def _queries_only(question: Question) -> Iterator[str]:
    """Rules with rules.dns for this server or for this port: those for both would have taken the packet."""
    packet = question.packet
    if question.direction is not Direction.EGRESS or not isinstance(packet, Ports):
        return
    asked = {(number, packet.first) for number in packet.protocol.numbers()}
    for allow in question.end.policy.dns:
        if allow.redirects and (
            _is_among(question, allow.servers) or not asked.isdisjoint(_ports(allow.servers))
        ):
            yield f"{allow.origin} has rules.dns, but only for {servers_text(allow.servers)}"


def _is_among(question: Question, servers: DNSServers) -> bool:
    if any(one.address == question.peer for one in servers.exact):
        return True
    is_inside = question.peer in question.end.node.cluster_addresses
    return not (servers.outside_only and is_inside) and any(question.peer in one for one in servers.networks)


def _ports(servers: DNSServers) -> frozenset[tuple[int, int]]:
    return servers.ports | {(one.protocol, one.port) for one in servers.exact}


def _absent(question: Question, overview: Overview) -> Iterator[str]:
    """Rules that nothing came of, since what they name is not there."""
    end = question.end
    meant = {match.origin for match in question.candidates} | {allow.origin for allow in end.policy.dns}
    for rule in overview.allowing(end.resident, question.direction):
        if rule.origin not in meant:
            yield from (f"{rule.origin}: {message}" for message in overview.absences(rule.origin))


def _ports_hint(question: Question, matches: list[Match]) -> str:
    if isinstance(question.packet, ICMP) and any(isinstance(one.traffic, Ports) for one in matches):
        return "; ports let no ICMP through, that takes `icmps`"
    if question.front != question.packet and any(
        traffic.includes(one.traffic, question.front) for one in matches
    ):
        return f"; ports are judged after Service translation: write {traffic_text(question.packet)}"
    return ""


def _other_peers(question: Question, overview: Overview) -> Iterator[str]:
    """Rules for this traffic, but with other peers."""
    there = [
        one
        for one in question.candidates
        if traffic.includes(one.traffic, question.packet) and not _selects(question, one)
    ]
    for origin, matches in _by_origin(there).items():
        peers = peers_text(match.peer for match in matches)
        allowed = " and ".join(dict.fromkeys(traffic_text(match.traffic) for match in matches))
        text = f"{origin} allows {allowed}, but only for {peers}"
        yield text + _why_not(question, matches, overview.rule(origin), overview)


def _why_not(question: Question, matches: list[Match], rule: Rule | None, overview: Overview) -> str:
    is_outside = question.peer not in question.end.node.cluster_addresses
    if is_outside and question.is_address and any(isinstance(one.peer, FQDN) for one in matches):
        return f"; no pod on {question.end.node.node} was told {question.peer} for such a name"
    claimants = overview.directory.residents.get(question.peer, ())
    unmet = (_unmet(each, rule) for each in claimants) if rule is not None else ()
    return next(filter(None, unmet), "")


def _unmet(pod: Resident, rule: Rule) -> str:
    """What the pod's labels lack for the selector that asks least."""
    wanted: list[list[Requirement]] = [
        [each for each in peer.selector.requirements if not each.holds(pod.labels)]
        for peer in rule.peers or ()
        if isinstance(peer, SelectedEndpoints)
    ]
    if not wanted or not all(wanted):
        return ""
    _, fewest = min((len(unmet), unmet) for unmet in wanted)
    return f"; {pod.key} is not {' and '.join(map(plain, fewest))}"


def _never_selected(question: Question, overview: Overview) -> Iterator[str]:
    """Peers that look as if they meant a pod or a node."""
    if question.peer not in question.end.node.cluster_addresses:
        return
    for match in question.candidates:
        if not traffic.includes(match.traffic, question.packet):
            continue
        inside = isinstance(match.peer, CIDRs) and any(question.peer in one for one in match.peer.networks)
        if inside or isinstance(match.peer, World):
            yield (
                f"{match.origin}: {peer_text(match.peer)} never selects "
                f"{who(question.peer, overview.directory)}: CIDRs and world mean what is outside the cluster"
            )


def _selects(question: Question, match: Match) -> bool:
    return verdict.selects(match.peer, question.end.node, question.peer, question.learned.open)


def _by_origin(matches: Iterable[Match]) -> dict[Origin, list[Match]]:
    found: dict[Origin, list[Match]] = {}
    for match in matches:
        found.setdefault(match.origin, []).append(match)
    return found
