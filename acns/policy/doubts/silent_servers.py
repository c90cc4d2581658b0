"""Where a rule looks for DNS servers and surely none is: at a port that a DNS Service's pods do not serve, at
an address of the cluster that is given as a CIDR, which selects neither pods nor Services, or where queries
over UDP are denied, which every client tries first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Network

from acns.policy.directory import Directory
from acns.policy.doubts import peers
from acns.policy.doubts.traffic import traffic_by_words
from acns.policy.model import CIDRs, DNSServers, Everything, Match, Peer, Protocol, ServerAddress, World
from acns.policy.networks import consists_of, without
from acns.policy.objects import PortSpec, Rule
from acns.policy.servers import ANYWHERE
from acns.policy.traffic import includes, packet

DNS_PORT = 53
UDP = 17


def may_answer(servers: DNSServers, denies: Iterable[Match], directory: Directory) -> bool:
    """Whether a DNS server can be among them, as far as Services, pods and denies tell."""
    inside = directory.cluster_addresses | directory.services.addresses
    if not all(consists_of(network, inside) for network in _networks(servers, denies)):
        return True
    over_udp = (server for server in servers.exact if server.protocol == UDP)
    return any(_may_serve(server, directory) for server in over_udp)


def may_answer_by_words(asking: Iterable[Rule], denies: Collection[Rule]) -> bool:
    """Where there are no pods: whether queries over UDP to what some rules.dns means are not denied."""
    return any(
        not any(_denies(deny, rule, port) for deny in denies)
        for rule in asking
        for block in rule.ports or ()
        if block.dns is not None
        for port in block.ports
        if port.protocol in (Protocol.UDP, Protocol.ANY)
    )


def _denies(deny: Rule, rule: Rule, port: PortSpec) -> bool:
    if deny.selects_nothing or port.name:
        return False
    query = packet(UDP, port.first)
    return any(includes(each, query) for each in traffic_by_words(deny)) and all(
        any(peers.includes(wide, narrow) for wide in peers.peers_by_words(deny))
        for narrow in peers.peers_by_words(rule)
    )


def _networks(servers: DNSServers, denies: Iterable[Match]) -> Iterator[IPv4Network]:
    """Where queries over UDP get through. What is `exact` has lost what is denied of it already."""
    for protocol, port in servers.ports:
        if protocol == UDP:
            query = packet(UDP, port)
            hits = [deny.peer for deny in denies if includes(deny.traffic, query)]
            yield from without(servers.networks, tuple(_denied(hits, servers.outside_only)))


def _denied(found: Iterable[Peer], outside_only: bool) -> Iterator[IPv4Network]:
    for peer in found:
        match peer:
            case Everything():
                yield ANYWHERE
            case World() if outside_only:
                yield ANYWHERE
            case CIDRs() if outside_only:
                yield from peer.networks


def _may_serve(server: ServerAddress, directory: Directory) -> bool:
    """Of a pod behind a DNS Service it is known where it serves: at ports that Services lead to (their
    ClusterIPs are then among the servers too), and perhaps at those that it names."""
    before = directory.services.before.get(server.address, [])
    pods = directory.residents.get(server.address, ())
    if not pods or not any(front.port == DNS_PORT for front in before):
        return True
    return server.port in {DNS_PORT, *(port.port for pod in pods for port in pod.named_ports)}
