"""The policy stream's snapshot: one node's DNS rules as `PolicyState`.

The resolver knows a DNS server by *identity*: of the endpoint that has the address, else of the longest
streamed prefix around it, else world (2). So every server address is streamed as a /32 under its identity, a
ClusterIP under the identity of the pods behind it, and a CIDR under an identity of its own. Since the longest
prefix alone counts there, a rule for a wide CIDR also lists the identities of the narrower ones inside it, as
Cilium's label-based CIDR identities do.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.policy import numbers
from acns.policy.model import DNSAllow, EndpointPolicy, NodePolicy
from acns.shim.ledger import Ledger

WORLD = numbers.RESERVED_IDENTITIES["reserved:world"]
ANY_SERVER = 0  # what Cilium sends for a rule without server selection
EVERYWHERE = IPv4Network("0.0.0.0/0")

Prefixes = dict[int, set[IPv4Network]]


def policy_state(node: NodePolicy, ledger: Ledger, request_id: str) -> pb.PolicyState:
    """The full snapshot for `node`. Numbers that are new are taken from `ledger`."""
    gated = [policy for policy in node.endpoints if policy.dns]
    networks = {network for policy in gated for network in _networks(policy)} - {EVERYWHERE}
    prefixes = _prefixes(gated, networks, ledger)
    return pb.PolicyState(
        request_id=request_id,
        egress_l7_dns_policy=[
            pb.DNSPolicy(
                source_endpoint_id=ledger.endpoints.number(policy.endpoint.key),
                dns_pattern=sorted(selector.text for selector in allow.names or ()),
                dns_servers=[
                    pb.DNSServer(
                        dns_server_identity=identity, dns_server_port=port, dns_server_proto=protocol
                    )
                    for identity, port, protocol in sorted(set(_servers(allow, networks, ledger)))
                ],
            )
            for policy in gated
            for allow in policy.dns
        ],
        identity_to_endpoint_mapping=_endpoints(node, ledger),
        identity_to_prefix_mapping=[
            pb.IdentityToPrefixMapping(
                identity=identity,
                prefix=[codec.prefix_to_wire(network) for network in sorted(prefixes[identity])],
            )
            for identity in sorted(prefixes)
        ],
    )


def identity_number(key: str, ledger: Ledger) -> int:
    """The numeric identity of an identity key, reserved or allocated."""
    return numbers.RESERVED_IDENTITIES.get(key) or ledger.identities.number(key)


def _networks(policy: EndpointPolicy) -> Iterator[IPv4Network]:
    for allow in policy.dns:
        yield from allow.servers.networks


def _prefixes(gated: list[EndpointPolicy], networks: set[IPv4Network], ledger: Ledger) -> Prefixes:
    prefixes: Prefixes = {}
    for policy in gated:
        for allow in policy.dns:
            for server in allow.servers.exact:
                identity = identity_number(server.identity, ledger)
                prefixes.setdefault(identity, set()).add(IPv4Network(server.address))
    for network in networks:
        prefixes.setdefault(ledger.cidrs.number(str(network)), set()).add(network)
    return prefixes


def _servers(allow: DNSAllow, networks: set[IPv4Network], ledger: Ledger) -> Iterator[tuple[int, int, int]]:
    """(identity, port, protocol number) of every server the rule names."""
    for server in allow.servers.exact:
        yield identity_number(server.identity, ledger), server.port, server.protocol
    for network in allow.servers.networks:
        for identity in _network_identities(network, allow.servers.outside_only, networks, ledger):
            for protocol, port in allow.servers.ports:
                yield identity, port, protocol


def _network_identities(
    network: IPv4Network, outside_only: bool, networks: set[IPv4Network], ledger: Ledger
) -> Iterator[int]:
    if not outside_only:
        yield ANY_SERVER
        return
    if network == EVERYWHERE:
        yield WORLD
    for inner in sorted(networks):
        if inner.subnet_of(network):
            yield ledger.cidrs.number(str(inner))


def _endpoints(node: NodePolicy, ledger: Ledger) -> list[pb.IdentityToEndpointMapping]:
    by_identity: dict[int, list[pb.EndpointInfo]] = {}
    for policy in node.endpoints:
        endpoint = policy.endpoint
        info = pb.EndpointInfo(id=ledger.endpoints.number(endpoint.key), ip=[endpoint.address.packed])
        by_identity.setdefault(identity_number(endpoint.identity, ledger), []).append(info)
    return [
        pb.IdentityToEndpointMapping(identity=identity, endpoint_info=by_identity[identity])
        for identity in sorted(by_identity)
    ]
