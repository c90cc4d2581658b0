"""The policy stream's snapshot: one node's DNS rules as `PolicyState`.

The resolver knows a DNS server by *identity*: of the endpoint that has the address, else of the longest
streamed prefix around it, else world (2). So every server address is streamed as a /32 under its identity, a
ClusterIP under the identity of what is behind it, and a CIDR under an identity of its own. Since the longest
prefix alone counts there, a rule for a wide CIDR also lists the identities of the narrower ones inside it, as
Cilium's label-based CIDR identities do. Where a rule is for any server at all, pods, nodes and Services are
asked that no rule names: they are streamed too, as nobody's, since they are part of no world and of no CIDR.

A Service about which an endpoint's rules cannot decide must not be taken for what other rules of it name: it
is streamed under an identity of its own, and that endpoint's rules for any server name all identities but
this.

A snapshot is put together from one part per endpoint. Parts of endpoints that have not changed are kept, and
with each new part its numbers are taken: so after `prepare` the ledger has all that the snapshot will use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.policy import numbers
from acns.policy.model import DNSAllow, EndpointPolicy, NodePolicy, ServerAddress, identity_of_its_own
from acns.shim.ledger import Ledger

WORLD = numbers.RESERVED_IDENTITIES["reserved:world"]
NOBODY = numbers.RESERVED_IDENTITIES["reserved:unmanaged"]  # no rule here selects it
ANY_SERVER = 0  # what Cilium sends for a rule without server selection
EVERYWHERE = IPv4Network("0.0.0.0/0")

Networks = frozenset[IPv4Network]
WireServer = tuple[int, int, int]  # identity, port, protocol number


@dataclass(frozen=True, slots=True)
class _Part:
    """One endpoint's share of the snapshot."""

    policy: EndpointPolicy
    rules: bytes
    """A serialised PolicyState with its rules alone: messages are joined by joining their bytes."""
    id: int
    identity: int
    servers: frozenset[tuple[int, IPv4Address]]
    """Identity and address of the exact servers."""
    networks: Networks
    """The CIDRs among its servers; what the rules list of those also depends on all others'."""
    anywhere: bool
    """Whether a rule of it is for any server."""
    refused: frozenset[ServerAddress]
    """Services about which its rules cannot decide."""


class Snapshots:
    """Makes the snapshots of one node; numbers that are new are taken from `ledger`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._parts: dict[str, _Part] = {}
        self._networks: Networks = frozenset()
        self._inside: frozenset[IPv4Address] = frozenset()
        self._refused: frozenset[IPv4Address] = frozenset()

    def prepare(self, node: NodePolicy) -> None:
        """Take over a policy: afterwards all its numbers are in the ledger, and `state` is about it."""
        known = {
            one.endpoint.key: part
            for one in node.endpoints
            if (part := self._parts.get(one.endpoint.key)) and part.policy is one
        }
        self._inside = node.cluster_addresses | node.service_addresses
        changed = [one for one in node.endpoints if one.endpoint.key not in known]
        networks = Networks().union(*(part.networks for part in known.values()), *map(_networks, changed))
        if networks != self._networks:
            self._networks = networks
            known = {key: part for key, part in known.items() if not part.networks}
        refused = frozenset(server.address for one in node.endpoints for server in _refused(one))
        if refused != self._refused:
            self._refused, known = refused, {}
        self._parts = {
            one.endpoint.key: known.get(one.endpoint.key) or self._part(one) for one in node.endpoints
        }

    def state(self) -> pb.PolicyState:
        """The full snapshot, without a request id."""
        state = pb.PolicyState.FromString(b"".join(part.rules for part in self._parts.values()))
        state.identity_to_endpoint_mapping.extend(self._endpoints())
        state.identity_to_prefix_mapping.extend(self._prefixes())
        self._spare_refused(state)
        return state

    def _part(self, policy: EndpointPolicy) -> _Part:
        endpoint_id = self._ledger.endpoints.number(policy.endpoint.key)
        listed = [self._rule(endpoint_id, allow) for allow in policy.dns if allow.names != ()]
        rules = pb.PolicyState(egress_l7_dns_policy=listed)
        servers = frozenset[ServerAddress]().union(*(allow.servers.exact for allow in policy.dns))
        return _Part(
            policy,
            rules.SerializeToString(),
            endpoint_id,
            identity_number(policy.endpoint.identity, self._ledger),
            frozenset((self._identity(server), server.address) for server in servers),
            _networks(policy),
            any(allow.servers.networks and not allow.servers.outside_only for allow in policy.dns),
            _refused(policy),
        )

    def _rule(self, endpoint_id: int, allow: DNSAllow) -> pb.DNSPolicy:
        return pb.DNSPolicy(
            source_endpoint_id=endpoint_id,
            dns_pattern=sorted(selector.text for selector in allow.names or ()),
            dns_servers=_on_the_wire(set(self._servers(allow))),
        )

    def _servers(self, allow: DNSAllow) -> Iterator[WireServer]:
        """Every server the rule names."""
        for server in allow.servers.exact:
            yield self._identity(server), server.port, server.protocol
        for network in allow.servers.networks:
            for identity in self._network_identities(network, allow.servers.outside_only):
                for protocol, port in allow.servers.ports:
                    yield identity, port, protocol

    def _identity(self, server: ServerAddress) -> int:
        own = server.address in self._refused
        return identity_number(identity_of_its_own(server.address) if own else server.identity, self._ledger)

    def _network_identities(self, network: IPv4Network, outside_only: bool) -> Iterator[int]:
        if not outside_only:
            yield ANY_SERVER
            return
        if network == EVERYWHERE:
            yield WORLD
        for inner in sorted(self._networks):
            if inner.subnet_of(network):
                yield self._ledger.cidrs.number(str(inner))

    def _endpoints(self) -> Iterator[pb.IdentityToEndpointMapping]:
        by_identity: dict[int, list[pb.EndpointInfo]] = {}
        for part in self._parts.values():
            info = pb.EndpointInfo(id=part.id, ip=[part.policy.endpoint.address.packed])
            by_identity.setdefault(part.identity, []).append(info)
        for identity in sorted(by_identity):
            yield pb.IdentityToEndpointMapping(identity=identity, endpoint_info=by_identity[identity])

    def _prefixes(self) -> Iterator[pb.IdentityToPrefixMapping]:
        parts = self._parts.values()
        servers = frozenset[tuple[int, IPv4Address]]().union(*(part.servers for part in parts))
        prefixes: dict[int, set[IPv4Network]] = {}
        for identity, address in servers:
            prefixes.setdefault(identity, set()).add(IPv4Network(address))
        if any(part.anywhere for part in parts):
            known = {part.policy.endpoint.address for part in parts}
            if others := self._inside - known - {address for _, address in servers}:
                prefixes[NOBODY] = set(map(IPv4Network, others))
        for network in self._networks.difference(*prefixes.values()):  # what is inside is of no CIDR
            prefixes.setdefault(self._ledger.cidrs.number(str(network)), set()).add(network)
        for identity in sorted(prefixes):
            wire = [codec.prefix_to_wire(network) for network in sorted(prefixes[identity])]
            yield pb.IdentityToPrefixMapping(identity=identity, prefix=wire)

    def _spare_refused(self, state: pb.PolicyState) -> None:
        """Among "any server" are those that an endpoint's rules cannot decide about: its rules name everybody
        else instead."""
        careful = {part.id: part.refused for part in self._parts.values() if part.anywhere and part.refused}
        if not careful:
            return
        known = {WORLD} | {entry.identity for entry in state.identity_to_prefix_mapping}
        known |= {entry.identity for entry in state.identity_to_endpoint_mapping}
        for rule in state.egress_l7_dns_policy:
            if refused := careful.get(rule.source_endpoint_id):
                listed = {_wire_key(server) for server in rule.dns_servers}
                anywhere = {(port, protocol) for identity, port, protocol in listed if identity == ANY_SERVER}
                listed |= {(identity, *asked) for identity in known for asked in anywhere}
                listed -= {(ANY_SERVER, *asked) for asked in anywhere}
                listed -= {(self._identity(one), one.port, one.protocol) for one in refused}
                del rule.dns_servers[:]
                rule.dns_servers.extend(_on_the_wire(listed))


def _on_the_wire(servers: Iterable[WireServer]) -> list[pb.DNSServer]:
    return [
        pb.DNSServer(dns_server_identity=identity, dns_server_port=port, dns_server_proto=protocol)
        for identity, port, protocol in sorted(servers)
    ]


def _wire_key(server: pb.DNSServer) -> WireServer:
    return server.dns_server_identity, server.dns_server_port, server.dns_server_proto


def identity_number(key: str, ledger: Ledger) -> int:
    """The numeric identity of an identity key, reserved or allocated."""
    return numbers.RESERVED_IDENTITIES.get(key) or ledger.identities.number(key)


def _networks(policy: EndpointPolicy) -> Networks:
    return frozenset(
        network for allow in policy.dns for network in allow.servers.networks if network != EVERYWHERE
    )


def _refused(policy: EndpointPolicy) -> frozenset[ServerAddress]:
    return frozenset(server for allow in policy.dns if allow.names == () for server in allow.servers.exact)
