"""Peers, traffic and addresses in the words of the policy language, for explanations."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from acns.dns.pattern import FQDNSelector
from acns.policy.directory import Directory
from acns.policy.model import FQDN, ICMP, CIDRs, DNSServers, Everything, Peer, Protocol, Traffic

_SHOWN_NETWORKS = 3
_SHOWN_PEERS = 4
ECHO = 8
HIGHEST_PORT = 65_535

Span = tuple[int, int]
"""First and last port, both included."""


def peer_text(peer: Peer) -> str:
    """Whom a rule means."""
    match peer:
        case Everything():
            return "anybody"
        case FQDN(selector):
            return f"toFQDNs {selector_text(selector)}"
        case CIDRs(networks=networks):
            shown = ", ".join(map(str, networks[:_SHOWN_NETWORKS]))
            more = len(networks) - _SHOWN_NETWORKS
            return f"CIDR {shown}" + (f" and {more} more" if more > 0 else "")
    return plain(peer.key.replace(":", " ", 1))


def names_text(names: tuple[FQDNSelector, ...] | None) -> str:
    """Which names a rule lets be asked for."""
    if names is None:
        return "every name"
    return ", ".join(map(selector_text, names)) or "no name: no rule can decide about this server"


def servers_text(servers: DNSServers) -> str:
    """Which DNS servers a rule means."""
    if servers.key.startswith("undecidable:"):
        return ", ".join(
            f"{one.address} at {_port_text(one.port, one.protocol)}" for one in sorted(servers.exact)
        )
    found, but, denied = servers.key.partition(" but ")
    texts = [_targets_text(each) for each in found.split("+")]
    return "; ".join(texts) + but + ", ".join(map(_key_text, denied.split(", ")))


def _targets_text(key: str) -> str:
    """Of `PEER|PEER@PORT/NUMBER,…`, as `acns.policy.rules.key_of` has it."""
    peers, _, ports = key.rpartition("@")
    at = (port.split("/") for port in ports.split(","))
    listed = ", ".join(_port_text(int(port), int(number)) for port, number in at)
    return f"{' or '.join(map(_key_text, peers.split('|')))} at {listed}"


def _port_text(port: int, number: int) -> str:
    return f"{port}/{next(one for one in Protocol if one.numbers() == (number,))}"


def _key_text(key: str) -> str:
    if key == Everything().key:
        return peer_text(Everything())
    return plain(key.replace("cidr:", "CIDR ", 1).replace(":", " ", 1))


def peers_text(peers: Iterable[Peer]) -> str:
    """Several, the first few of them."""
    texts = [peer_text(peer) for peer in dict.fromkeys(peers)]
    shown = ", ".join(texts[:_SHOWN_PEERS]).replace(", toFQDNs ", ", ")
    return shown + (f" and {len(texts) - _SHOWN_PEERS} more" if len(texts) > _SHOWN_PEERS else "")


def plain(selector: object) -> str:
    """A label selector without what every reader supposes."""
    text = str(selector).replace(",", ", ").replace("any:", "").replace("k8s:", "")
    return text.replace("io.kubernetes.pod.namespace=", "namespace ")


def selector_text(selector: FQDNSelector) -> str:
    """As a policy has it, without the dot that canonical texts end with."""
    kind = "matchName" if selector.kind == "name" else "matchPattern"
    return f"{kind} {selector.text.removesuffix('.')}"


def traffic_text(traffic: Traffic) -> str:
    """`443/TCP`, `icmp-8`, `all traffic`."""
    match traffic:
        case None:
            return "all traffic"
        case ICMP(type=kind):
            return f"icmp-{kind}" + (" (echo request)" if kind == ECHO else "")
    if traffic.first == 0:
        return (
            "every TCP, UDP and SCTP port"
            if traffic.protocol is Protocol.ANY
            else f"every {traffic.protocol} port"
        )
    return spans_text([(traffic.first, traffic.last)], traffic.protocol.value)


def spans_text(spans: Iterable[Span], protocol: str) -> str:
    """`80,443,8000-8100/TCP`; all ports together are `every TCP port`."""
    listed = list(spans)
    if listed == [(1, HIGHEST_PORT)]:
        return f"every {protocol} port"
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in listed) + f"/{protocol}"


def who(address: IPv4Address, directory: Directory) -> str:
    """Whose address that is."""
    if claimants := directory.residents.get(address):
        return f"pod {' and '.join(one.key for one in claimants)}"
    for node, addresses in sorted(directory.nodes.items()):
        if address in addresses:
            return f"node {node}"
    return "outside the cluster"
