"""What becomes of one packet that opens a connection: a `NodePolicy` read as the kernel will act on it.

Three questions, in the order in which a packet meets them. *Before* Service translation: does a `rules.dns`
block take it to the resolver (`redirects`), and which of them opens the name it asks for (`name_verdict`)?
*After* translation: may the sender send it (`egress_verdict`), may the receiver have it (`ingress_verdict`)?
Who explains a connection to a ClusterIP asks the first with the ClusterIP, the others with each backend.

What this module keeps true:
* A deny that matches beats every allow. Of several that match, the first in the policy's order is named.
* World, CIDR and FQDN peers never mean an address of the cluster, however it was learned.
* A pod always reaches itself: no rule is asked. A node reaches its own pods unless a rule denies it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.policy.model import (
    FQDN,
    Addresses,
    CIDRs,
    DirectionPolicy,
    DNSAllow,
    DNSServers,
    EndpointPolicy,
    Everything,
    Host,
    Match,
    NodePolicy,
    Peer,
    World,
)
from acns.policy.traffic import Packet, includes, packet

Learned = Mapping[FQDNSelector, Container[IPv4Address]]
"""Which addresses each `toFQDNs` selector has open at the moment."""


class Decision(StrEnum):
    """How a packet's fate was settled."""

    UNENFORCED = "unenforced"  # no policy restricts this direction of the endpoint
    ITSELF = "itself"  # a pod's own address
    OWN_NODE = "own-node"  # the node speaks to its own pod, and nothing denies it
    DENIED = "denied"  # by the match
    ALLOWED = "allowed"  # by the match
    UNMATCHED = "unmatched"  # enforced, and nothing allows it


@dataclass(frozen=True, slots=True)
class Verdict:
    """`match` is there where a rule decided: DENIED, ALLOWED."""

    decision: Decision
    match: Match | None = None

    @property
    def allowed(self) -> bool:
        return self.decision not in (Decision.DENIED, Decision.UNMATCHED)


@dataclass(frozen=True, slots=True)
class NameVerdict:
    """What the resolver says to a query. `redirects`: the blocks that bring it there; empty: it is not
    redirected, so nobody looks at the name. `allow`: the rule that opens the name, None where none does."""

    redirects: tuple[DNSAllow, ...]
    allow: DNSAllow | None = None


def egress_verdict(
    policy: EndpointPolicy, node: NodePolicy, destination: IPv4Address, packet: Packet, learned: Learned
) -> Verdict:
    """May the endpoint open this connection? `destination` is who gets it: a backend, never a ClusterIP."""
    if destination == policy.endpoint.address:
        return Verdict(Decision.ITSELF)
    return _verdict(policy.egress, node, destination, packet, learned)


def ingress_verdict(policy: EndpointPolicy, node: NodePolicy, source: IPv4Address, packet: Packet) -> Verdict:
    """May `source` open this connection to the endpoint? `packet` has the port of the endpoint."""
    if source == policy.endpoint.address:
        return Verdict(Decision.ITSELF)
    decided = _verdict(policy.ingress, node, source, packet, {})
    if source in node.node_addresses and decided.decision is not Decision.DENIED:
        return Verdict(Decision.OWN_NODE)
    return decided


def redirects(
    policy: EndpointPolicy, node: NodePolicy, server: IPv4Address, protocol: int, port: int
) -> tuple[DNSAllow, ...]:
    """The `rules.dns` blocks that take a packet to this server, as the pod names it, to the resolver."""
    if server == policy.endpoint.address:
        return ()
    # Exact servers that are denied are not in the policy: a deny speaks of the backend's port.
    denied = any(matching(policy.egress.denies, node, server, packet(protocol, port), {}))
    return tuple(
        allow
        for allow in policy.dns
        if allow.redirects
        and (
            serves_exactly(allow.servers, server, protocol, port)
            or (not denied and serves(allow.servers, node, server, protocol, port))
        )
    )


def opens(
    policy: EndpointPolicy, node: NodePolicy, server: IPv4Address, protocol: int, port: int
) -> tuple[DNSAllow, ...]:
    """The rules without `rules.dns` that open every name on a server to which queries are redirected."""
    return tuple(
        allow
        for allow in policy.dns
        if not allow.redirects and serves(allow.servers, node, server, protocol, port)
    )


def name_verdict(
    policy: EndpointPolicy, node: NodePolicy, server: IPv4Address, protocol: int, port: int, name: Name
) -> NameVerdict:
    """What becomes of a query for `name` to this server."""
    redirecting = redirects(policy, node, server, protocol, port)
    if not redirecting:
        return NameVerdict(())
    opening = (
        allow
        for allow in policy.dns
        if serves(allow.servers, node, server, protocol, port)
        and (allow.names is None or any(selector.matches(name) for selector in allow.names))
    )
    return NameVerdict(redirecting, next(opening, None))


def matching(
    candidates: Iterable[Match], node: NodePolicy, address: IPv4Address, packet: Packet, learned: Learned
) -> Iterator[Match]:
    """Those of `candidates` that speak of this packet with this peer."""
    return (
        match
        for match in candidates
        if includes(match.traffic, packet) and selects(match.peer, node, address, learned)
    )


def selects(peer: Peer, node: NodePolicy, address: IPv4Address, learned: Learned) -> bool:
    """Whether `peer` means who is at `address`."""
    match peer:
        case Everything():
            return True
        case Host():
            return address in node.node_addresses
        case Addresses(key):
            return address in node.groups[key]
    if address in node.cluster_addresses:
        return False
    match peer:
        case World():
            return True
        case CIDRs():
            return any(address in network for network in peer.networks)
        case FQDN(selector):
            return address in learned.get(selector, ())
    return False


def serves_exactly(servers: DNSServers, address: IPv4Address, protocol: int, port: int) -> bool:
    """Whether this server is one of those that are known one by one."""
    return any((one.address, one.protocol, one.port) == (address, protocol, port) for one in servers.exact)


def serves(servers: DNSServers, node: NodePolicy, address: IPv4Address, protocol: int, port: int) -> bool:
    """Whether this server, as a pod names it, is one of `servers`."""
    if serves_exactly(servers, address, protocol, port):
        return True
    if (protocol, port) not in servers.ports:
        return False
    if servers.outside_only and (address in node.cluster_addresses or address in node.service_addresses):
        return False
    return any(address in network for network in servers.networks)


def _verdict(
    direction: DirectionPolicy, node: NodePolicy, address: IPv4Address, packet: Packet, learned: Learned
) -> Verdict:
    if not direction.enforced:
        return Verdict(Decision.UNENFORCED)
    for decision, candidates in (
        (Decision.DENIED, direction.denies),
        (Decision.ALLOWED, direction.allows),
    ):
        if match := next(matching(candidates, node, address, packet, learned), None):
            return Verdict(decision, match)
    return Verdict(Decision.UNMATCHED)
