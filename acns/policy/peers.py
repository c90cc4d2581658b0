"""What a rule's destinations come to on one node, and which addresses they cover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from acns.policy.directory import Directory
from acns.policy.model import FQDN, Addresses, CIDRs, Everything, Host, Peer, Ports, World
from acns.policy.objects import Destination, EgressRule, ToCIDR, ToEndpoints, ToEntity, ToFQDN


def peers_of(rule: EgressRule, directory: Directory, node_name: str) -> tuple[Peer, ...]:
    """The L3 side of a rule. `toPorts` without a peer means any destination, neither of them nothing."""
    if rule.peers is None:
        return (Everything(),) if rule.ports is not None else ()
    found = [peer for each in rule.peers for peer in _peers(each, directory, node_name)]
    return tuple({peer.key: peer for peer in found}.values())


def _peers(destination: Destination, directory: Directory, node_name: str) -> Iterator[Peer]:
    match destination:
        case ToEndpoints(selector):
            yield Addresses(f"endpoints:{selector.key}", directory.selected(selector))
        case ToCIDR(networks):
            if networks:  # all of them IPv6: the rule selects nothing
                unique = tuple(sorted(set(networks)))
                yield CIDRs("cidr:" + ",".join(map(str, unique)), unique)
        case ToFQDN(selector):
            yield FQDN(selector)
        case ToEntity(name):
            yield from _entity(name, directory, node_name)


def _entity(name: str, directory: Directory, node_name: str) -> Iterator[Peer]:
    match name:
        case "all":
            yield Everything()
        case "world":
            yield World()
        case "host":
            yield Host()
        case "remote-node":
            others = directory.node_addresses - directory.addresses_of(node_name)
            yield Addresses("entity:remote-node", others)
        case "cluster":
            # host is part of cluster; as a peer of its own it also covers addresses Kubernetes does not know.
            yield Addresses("entity:cluster", directory.cluster_addresses)
            yield Host()


def covers(peers: Iterable[Peer], address: IPv4Address, directory: Directory, node_name: str) -> bool:
    """Whether one of `peers` selects who is at `address`. What a name resolves to is not known here."""
    return any(_covers(peer, address, directory, node_name) for peer in peers)


def _covers(peer: Peer, address: IPv4Address, directory: Directory, node_name: str) -> bool:
    match peer:
        case Everything():
            return True
        case World():
            return address not in directory.cluster_addresses
        case Host():
            return address in directory.addresses_of(node_name)
        case CIDRs():
            outside = address not in directory.cluster_addresses
            return outside and any(address in network for network in peer.networks)
        case Addresses():
            return address in peer.addresses
    return False


def exact_ports(ports: Iterable[Ports]) -> frozenset[tuple[int, int]]:
    """The (protocol number, port) pairs of TCP and UDP that are written out as one port number."""
    return frozenset(
        (number, each.first)
        for each in ports
        if each.first == each.last != 0
        for number in each.protocol.numbers()
        if number in (6, 17)
    )
