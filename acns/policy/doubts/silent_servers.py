"""Where a rule looks for DNS servers and surely none is: at a port that a DNS Service's pods do not serve, at
an address of the cluster that is given as a CIDR, which selects neither pods nor Services, or where queries
over a protocol are denied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from acns.policy.directory import Directory
from acns.policy.doubts.scene import Scene
from acns.policy.model import CIDRs, DNSServers, Everything, Match, Peer, ServerAddress, World
from acns.policy.networks import consists_of, without
from acns.policy.servers import ANYWHERE
from acns.policy.traffic import includes, packet

DNS_PORT = 53
TCP, UDP = 6, 17


def may_answer(servers: DNSServers, protocol: int, denies: Iterable[Match], scene: Scene) -> bool:
    """Whether a DNS server can be among them that is asked over this protocol, as far as Services, pods and
    denies tell."""
    if not all(consists_of(network, scene.inside) for network in _networks(servers, protocol, denies)):
        return True
    exact = (server for server in servers.exact if server.protocol == protocol)
    return any(_may_serve(server, scene.directory) for server in exact)


def _networks(servers: DNSServers, protocol: int, denies: Iterable[Match]) -> Iterator[IPv4Network]:
    """Where queries get through. What is `exact` has lost what is denied of it already."""
    for number, port in servers.ports:
        if number == protocol:
            query = packet(protocol, port)
            hits = [deny.peer for deny in denies if includes(deny.traffic, query)]
            yield from without(servers.networks, tuple(_denied(hits, servers.outside_only)))


def _denied(peers: Iterable[Peer], outside_only: bool) -> Iterator[IPv4Network]:
    for peer in peers:
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
