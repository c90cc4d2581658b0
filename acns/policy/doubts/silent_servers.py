"""Where a rule looks for DNS servers and surely none is: at a port that a DNS Service's pods do not serve, or
at an address of the cluster that is given as a CIDR, which selects neither pods nor Services.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network

from acns.policy.directory import Directory
from acns.policy.model import DNSServers, ServerAddress

DNS_PORT = 53


def may_answer(servers: DNSServers, directory: Directory) -> bool:
    """Whether a DNS server can be among them, as far as Services and pods tell."""
    inside = directory.cluster_addresses | directory.services.addresses
    if not all(_is_part(network, inside) for network in servers.networks):
        return True
    return any(_may_serve(server, directory) for server in servers.exact)


def _is_part(network: IPv4Network, addresses: Collection[IPv4Address]) -> bool:
    return network.num_addresses <= len(addresses) and all(one in addresses for one in network)


def _may_serve(server: ServerAddress, directory: Directory) -> bool:
    """Of a pod behind a DNS Service it is known where it serves: at ports that Services lead to (their
    ClusterIPs are then among the servers too), and perhaps at those that it names."""
    before = directory.services.before.get(server.address, [])
    pods = directory.residents.get(server.address, ())
    if not pods or not any(front.port == DNS_PORT for front in before):
        return True
    return server.port in {DNS_PORT, *(port.port for pod in pods for port in pod.named_ports)}
