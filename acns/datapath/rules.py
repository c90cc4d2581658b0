"""The texts of single rules: one atom of policy as the match of a packet, and of the packet that answers it.

An atom is written once and read in the ways that packets go at an endpoint. Names and CIDRs never reach a pod
or a node: they stand behind `@cluster_addrs` and behind the routing table's word on what is local.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import assert_never

from acns.datapath import constants, selectors
from acns.errors import Bug
from acns.policy.model import FQDN as FQDNPeer
from acns.policy.model import (
    ICMP,
    Addresses,
    CIDRs,
    Direction,
    DNSServers,
    Everything,
    Host,
    Peer,
    Ports,
    Protocol,
    Traffic,
    World,
)

CLUSTER = "cluster_addrs"
SERVICES = "service_addrs"
SELF = "self"
PORTED = "ported"
"""The protocols of `toPorts`."""

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}

ICMP_ANSWERS = {8: 0, 13: 14, 15: 16, 17: 18}
"""What connection tracking knows as question and answer (invmap of nf_conntrack_proto_icmp.c); other types
open no connection there: they belong to one (errors) or to none."""

_GRANT_BITS = {
    Direction.EGRESS: (constants.EGRESS_GRANT_MASK, 0),
    Direction.INGRESS: (constants.INGRESS_GRANT_MASK, 16),
}


class Way(Enum):
    """The four ways of a packet at an endpoint: whose connection it is of, and which end of it is the peer.

    The values begin the names of the chains that judge it.
    """

    EGRESS = "eg"
    EGRESS_REPLY = "er"
    INGRESS = "in"
    INGRESS_REPLY = "ir"

    @property
    def direction(self) -> Direction:
        """The direction of policy that judges it."""
        return Direction.EGRESS if self in (Way.EGRESS, Way.EGRESS_REPLY) else Direction.INGRESS

    @property
    def is_reply(self) -> bool:
        return self in (Way.EGRESS_REPLY, Way.INGRESS_REPLY)

    @property
    def address(self) -> str:
        """The peer's address in it."""
        return "daddr" if self in (Way.EGRESS, Way.INGRESS_REPLY) else "saddr"

    @property
    def port(self) -> str:
        """The port that was connected to."""
        return "sport" if self.is_reply else "dport"


def ported() -> list[str]:
    """The elements of that set."""
    return [protocol(number) for number in Protocol.ANY.numbers()]


def protocol(number: int) -> str:
    """The name that nft prints for a protocol with ports."""
    try:
        return _PROTOCOLS[number]
    except KeyError:
        raise Bug(f"protocol {number} has no ports") from None


def join(*parts: str) -> str:
    """Parts of a rule, empty ones left out."""
    return " ".join(part for part in parts if part)


def no_cluster(way: Way) -> str:
    """The peer is neither a pod nor a node."""
    return f"ip {way.address} != @{CLUSTER}"


def outside(way: Way) -> str:
    """No pod and no node; nor what this node takes for itself: its addresses, broadcasts."""
    return f"{no_cluster(way)} fib {way.address} type unicast"


def peer_match(peer: Peer, set_name: str, way: Way) -> str:
    """The L3 part of a rule; `set_name` is the peer's own set where it has one."""
    in_set = f"ip {way.address} @{set_name}"
    match peer:
        case FQDNPeer(selector=selector):
            return join(selectors.match(selector, way.address), outside(way))
        case Everything():
            return "meta nfproto ipv4"
        case World():
            return outside(way)
        case Host():
            return f"fib {way.address} type local"
        case CIDRs():
            return join(in_set, outside(way))
        case Addresses():
            return in_set
    assert_never(peer)


def traffic_match(traffic: Traffic, way: Way) -> str | None:
    """The L4 part of a rule; None where no such packet can be."""
    match traffic:
        case None:
            return ""
        case ICMP(type=kind):
            answer = ICMP_ANSWERS.get(kind) if way.is_reply else kind
            return None if answer is None else f"icmp type {answer}"
        case Ports():
            return _ports_match(traffic, way)
    assert_never(traffic)


def carries_queries(traffic: Traffic) -> bool:
    """Whether DNS queries can be among it."""
    match traffic:
        case None:
            return True
        case Ports():
            return traffic.protocol is not Protocol.SCTP
        case ICMP():
            return False
    assert_never(traffic)


def _ports_match(ports: Ports, way: Way) -> str:
    numbers = ports.protocol.numbers()
    protocols = protocol(*numbers) if len(numbers) == 1 else f"@{PORTED}"
    if ports.first == 0:
        return f"meta l4proto {protocols}"
    last = max(ports.first, ports.last)
    span = str(ports.first) if last == ports.first else f"{ports.first}-{last}"
    return f"meta l4proto {protocols} th {way.port} {span}"


def set_grant(direction: Direction, grant: int) -> str:
    """Write the connection's grant, leaving the other direction's alone. Stops at a packet without one."""
    mask, shift = _GRANT_BITS[direction]
    return f"ct mark set ct mark & 0x{~mask & 0xFFFF_FFFF:08x} | 0x{grant << shift:x}"


def take_grant(direction: Direction) -> str:
    """The connection has no grant any more. Stops at a packet without a connection."""
    mask, _ = _GRANT_BITS[direction]
    return f"ct mark set ct mark & 0x{~mask & 0xFFFF_FFFF:08x}"


def has_grant(direction: Direction, grants: Iterable[int]) -> str:
    """The connection's grant is one of these."""
    mask, shift = _GRANT_BITS[direction]
    return f"ct mark & 0x{mask:08x} {braces(str(grant << shift) for grant in sorted(grants))}"


def has_packet_mark(mark: int) -> str:
    """The packet's mark, in the bits that are ours."""
    return f"meta mark & 0x{constants.MARK_MASK:x} == 0x{mark:x}"


def to_proxy() -> str:
    """Take the packet past connection tracking and Service translation, for the resolver."""
    rest = ~constants.MARK_MASK & 0xFFFF_FFFF
    return f"notrack meta mark set meta mark & 0x{rest:08x} | 0x{constants.MARK_TO_PROXY:x}"


def answers_a_socket(mark: int) -> str:
    """Deliver the packet here, if it (or what an ICMP error quotes) is a socket's with that mark."""
    socket = f"socket transparent 1 socket mark & 0x{constants.MARK_MASK:x} == 0x{mark:x}"
    rest = ~constants.MARK_MASK & 0xFFFF_FFFF
    marked = f"meta mark set meta mark & 0x{rest:08x} | 0x{constants.MARK_TO_PROXY:x}"
    return f"meta nfproto ipv4 meta l4proto {{ icmp, tcp, udp }} {socket} {marked} accept"


def exact_server_matches(exact_set: str) -> list[str]:
    """The packets that a `rules.dns` block redirects, before Service translation: to these servers."""
    return [f"ip daddr . meta l4proto . th dport @{exact_set}"]


def server_network_matches(servers: DNSServers, network_set: str) -> list[str]:
    """The same, to servers in these networks."""
    guard = join(outside(Way.EGRESS), no_service()) if servers.outside_only else ""
    return [
        join(f"ip daddr @{network_set}", guard, f"meta l4proto {protocol(number)} th dport {_port(port)}")
        for number, port in sorted(servers.ports)
    ]


def no_service() -> str:
    """No ClusterIP: before its translation it is a pod behind another address, which no CIDR selects."""
    return f"ip daddr != @{SERVICES}"


def braces(items: Iterable[str]) -> str:
    """An anonymous set; a single item stands alone, as nft itself would print it."""
    texts = list(items)
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"


def _port(port: int) -> int:
    if port == 0:
        raise Bug("a DNS rule on every port cannot be redirected", hint="name the port in rules.dns")
    return port
