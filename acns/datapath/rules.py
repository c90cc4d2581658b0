"""The texts of single rules: one atom of policy as the match of a packet, and of the packet that answers it.

A rule is written once and read in two directions: `Side.OUT` matches what the pod sends (destination),
`Side.BACK` what comes back (source). Names and CIDRs never reach a pod or a node: they stand behind
`@cluster_addrs` and behind the routing table's word on what is local.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import assert_never

from acns.datapath import constants
from acns.errors import Bug
from acns.policy.model import FQDN as FQDNPeer
from acns.policy.model import Addresses, CIDRs, DNSServers, Everything, Host, Peer, Ports, World

CLUSTER = "cluster_addrs"
SERVICES = "service_addrs"
SELF = "self"

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


class Side(Enum):
    """Which end of a packet is the peer."""

    OUT = "d"
    BACK = "s"

    @property
    def address(self) -> str:
        return f"{self.value}addr"

    @property
    def port(self) -> str:
        return f"{self.value}port"


def protocol(number: int) -> str:
    """The name that nft prints for a protocol with ports."""
    try:
        return _PROTOCOLS[number]
    except KeyError:
        raise Bug(f"protocol {number} has no ports") from None


def join(*parts: str) -> str:
    """Parts of a rule, empty ones left out."""
    return " ".join(part for part in parts if part)


def outside(side: Side) -> str:
    """No pod and no node; nor what this node takes for itself: its addresses, broadcasts."""
    return f"ip {side.address} != @{CLUSTER} fib {side.address} type unicast"


def peer_match(peer: Peer, set_name: str, side: Side) -> str:
    """The L3 part of a rule; `set_name` is the peer's set where it has one."""
    in_set = f"ip {side.address} @{set_name}"
    match peer:
        case Everything():
            return "meta nfproto ipv4"
        case World():
            return outside(side)
        case Host():
            return f"fib {side.address} type local"
        case CIDRs() | FQDNPeer():
            return join(in_set, outside(side))
        case Addresses():
            return in_set
    assert_never(peer)


def ports_match(ports: Ports | None, side: Side) -> str:
    """The L4 part of a rule; None is all traffic, whatever its protocol."""
    if ports is None:
        return ""
    protocols = braces(protocol(number) for number in ports.protocol.numbers())
    if ports.first == 0:
        return f"meta l4proto {protocols}"
    last = max(ports.first, ports.last)
    span = str(ports.first) if last == ports.first else f"{ports.first}-{last}"
    return f"meta l4proto {protocols} th {side.port} {span}"


def set_grant(grant: int) -> str:
    """Write the connection's egress grant, leaving the ingress bits alone."""
    return f"ct mark set ct mark & 0x{constants.INGRESS_GRANT_MASK:08x} | 0x{grant:x}"


def has_grant(grants: Iterable[int]) -> str:
    """The connection's egress grant is one of these."""
    return f"ct mark & 0x{constants.EGRESS_GRANT_MASK:08x} {braces(str(grant) for grant in sorted(grants))}"


def has_packet_mark(mark: int) -> str:
    """The packet's mark, in the bits that are ours."""
    return f"meta mark & 0x{constants.MARK_MASK:x} == 0x{mark:x}"


def to_proxy() -> str:
    """Take the packet past connection tracking and Service translation, to the resolver."""
    rest = ~constants.MARK_MASK & 0xFFFF_FFFF
    return f"notrack meta mark set meta mark & 0x{rest:08x} | 0x{constants.MARK_TO_PROXY:x} accept"


def servers_matches(servers: DNSServers, exact_set: str, network_set: str) -> list[str]:
    """The packets that a `rules.dns` block redirects, before Service translation."""
    matches = []
    if servers.exact:
        matches.append(f"ip daddr . meta l4proto . th dport @{exact_set}")
    if servers.networks and servers.ports:
        pairs = braces(f"{protocol(number)} . {_port(port)}" for number, port in sorted(servers.ports))
        # A ClusterIP is a pod behind another address: a CIDR rule selects it no more than the pod.
        guard = join(outside(Side.OUT), f"ip daddr != @{SERVICES}") if servers.outside_only else ""
        matches.append(join(f"ip daddr @{network_set}", guard, f"meta l4proto . th dport {pairs}"))
    return matches


def braces(items: Iterable[str]) -> str:
    """An anonymous set; a single item stands alone, as nft itself would print it, if it is no pair."""
    texts = list(items)
    if len(texts) == 1 and " " not in texts[0]:
        return texts[0]
    return f"{{ {', '.join(texts)} }}"


def _port(port: int) -> int:
    if port == 0:
        raise Bug("a DNS rule on every port cannot be redirected", hint="name the port in rules.dns")
    return port
