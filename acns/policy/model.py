"""What a policy *means* on one node: the values that resolving produces and every other room consumes.

`resolve` turns a cluster (Kubernetes objects) into one `NodePolicy`: per local endpoint the list of what it
may reach, already expanded to addresses, CIDRs and FQDN selectors, and which DNS servers are gated for which
names. The ruleset compiler, the policy stream to the resolver and the explanations all read these values and
nothing else. Everything is immutable and comparable, so "nothing changed" is `==`. No numbers are given out
here: identities, endpoint ids and grants are numbered by `numbers.NumberRegistry` at the edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from acns.dns.pattern import FQDNSelector
from acns.errors import place_text


class Enforcement(StrEnum):
    """Cilium's policy enforcement modes (`enable-policy`).

    default: a direction of an endpoint is enforced once a policy with that section selects it; always: every
    direction of every endpoint is; never: none is.
    """

    DEFAULT = "default"
    ALWAYS = "always"
    NEVER = "never"


class Direction(StrEnum):
    """Seen from the endpoint: what it opens, or what is opened to it."""

    EGRESS = "egress"
    INGRESS = "ingress"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a rule was written: `policy` is `namespace/name` (clusterwide: `name`), `rule` counts from 0."""

    policy: str
    section: str  # "egress", "ingressDeny", "specs[1].egress", …
    rule: int
    path: str
    line: int
    column: int
    kind: str = "CiliumNetworkPolicy"

    def __str__(self) -> str:
        return f"{self.policy} {self.section}[{self.rule}] ({place_text(self.path, self.line, self.column)})"


class Protocol(StrEnum):
    """L4 protocols of `toPorts`; ANY means TCP, UDP and SCTP."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"
    ANY = "ANY"

    def numbers(self) -> tuple[int, ...]:
        """IANA protocol numbers."""
        return {"TCP": (6,), "UDP": (17,), "SCTP": (132,), "ANY": (6, 17, 132)}[self.value]


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """One entry of `toPorts.ports`, names resolved: a protocol, an inclusive range; first 0 is every port."""

    protocol: Protocol
    first: int
    last: int


@dataclass(frozen=True, slots=True, order=True)
class ICMP:
    """One IPv4 entry of `icmps`."""

    type: int


Traffic = Ports | ICMP | None
"""The L4 side of a rule; None is all traffic, whatever its protocol."""


# --- the L3 side of a rule -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Everything:
    """Any peer: `toPorts` without a peer, `toEntities: [all]`."""

    key: str = "everything"


@dataclass(frozen=True, slots=True)
class World:
    """Every address outside the cluster: neither a pod's nor a node's."""

    key: str = "entity:world"


@dataclass(frozen=True, slots=True)
class Host:
    """The endpoint's own node, under any of its addresses."""

    key: str = "entity:host"


@dataclass(frozen=True, slots=True)
class CIDRs:
    """`toCIDR`, `toCIDRSet` (without what `except` names): selects no pod and no node, even where their
    addresses lie inside."""

    key: str
    networks: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True)
class FQDN:
    """One `toFQDNs` entry; its addresses are learned."""

    selector: FQDNSelector

    @property
    def key(self) -> str:
        return f"fqdn:{self.selector.key}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Pods or nodes that a selector or an entity names; `key` is its text. Who they are at the moment stands
    in `NodePolicy.groups`: a pod that comes or goes changes a group and no rule."""

    key: str


Peer = Everything | World | Host | CIDRs | FQDN | Addresses


@dataclass(frozen=True, slots=True)
class Match:
    """One atom of a rule: this peer, with this traffic."""

    peer: Peer
    traffic: Traffic
    origin: Origin


@dataclass(frozen=True, slots=True)
class DirectionPolicy:
    """What policy says of one direction of an endpoint. Not `enforced`: the lists are empty and nothing is
    filtered. Enforced: what a deny matches is dropped, else what an allow matches passes, else it is dropped.
    """

    enforced: bool = False
    allows: tuple[Match, ...] = ()
    denies: tuple[Match, ...] = ()


# --- DNS -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class ServerAddress:
    """A DNS server as a pod may ask it: a backend's address and port, or a Service's ClusterIP and port.

    `protocol` is 6 or 17; `identity` is the identity key of who is there: of a ClusterIP its backends',
    or one of its own where they differ or are outside.
    """

    address: IPv4Address
    protocol: int
    port: int
    identity: str


@dataclass(frozen=True, slots=True)
class DNSServers:
    """The DNS servers of one `rules.dns` block.

    Pods (and the ClusterIPs before them) come as `exact`; servers outside the cluster as `networks` ×
    `ports` (protocol number, port), with `outside_only` where pods, nodes and ClusterIPs are not meant.
    """

    key: str
    exact: frozenset[ServerAddress] = frozenset()
    networks: tuple[IPv4Network, ...] = ()
    ports: frozenset[tuple[int, int]] = frozenset()
    outside_only: bool = True


@dataclass(frozen=True, slots=True)
class DNSAllow:
    """Names an endpoint may look up at these servers; `names` None is every name (a plain L4 rule says so).

    No name at all, (): servers about which no rule can decide.

    `redirects` tells a `rules.dns` block (its packets go to the resolver) from a plain L4 rule that overlaps
    one: the latter redirects nothing, it only opens every name on what is redirected anyway.
    """

    servers: DNSServers
    names: tuple[FQDNSelector, ...] | None
    redirects: bool
    origin: Origin


# --- endpoints and the node ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod of this node with an address of its own. `labels`: `source:key=value`; `identity`: their key."""

    namespace: str
    pod: str
    address: IPv4Address
    labels: frozenset[str]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.pod}"

    @property
    def identity(self) -> str:
        return identity_key(self.labels)


def identity_key(labels: frozenset[str]) -> str:
    """The identity of a label set, as text: the same set, the same key (as in Cilium)."""
    return ";".join(sorted(labels))


def identity_of_its_own(cluster_ip: IPv4Address) -> str:
    """The identity key of a ClusterIP that nobody else has."""
    return f"clusterIP:{cluster_ip}"


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """What one endpoint may do, and what may be done to it. `dns` belongs to egress."""

    endpoint: Endpoint
    egress: DirectionPolicy = DirectionPolicy()
    ingress: DirectionPolicy = DirectionPolicy()
    dns: tuple[DNSAllow, ...] = ()


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """Everything one node's agents need.

    `endpoints`: local ones, sorted by key, enforced or not. `groups`: for each `Addresses.key` in use, who it
    is now. `cluster_addresses`: pods and nodes, all nodes: no FQDN or CIDR rule ever opens them, and they are
    never learned. `service_addresses`: ClusterIPs, never learned either. `node_addresses`: this node's.
    """

    node: str
    endpoints: tuple[EndpointPolicy, ...]
    cluster_addresses: frozenset[IPv4Address]
    service_addresses: frozenset[IPv4Address]
    node_addresses: frozenset[IPv4Address]
    groups: Mapping[str, frozenset[IPv4Address]] = field(default_factory=dict)

    def fqdn_selectors(self) -> frozenset[FQDNSelector]:
        """Every `toFQDNs` selector in use on the node."""
        return frozenset(
            allow.peer.selector
            for policy in self.endpoints
            for allow in policy.egress.allows
            if isinstance(allow.peer, FQDN)
        )
