"""The Kubernetes objects that policy depends on, as plain values.

Whatever the source (a folder of manifests, an API server's watch), objects arrive as these: only the fields
that decide something, checked, immutable, comparable (where an object was written does not make it another
one). `ref` names an object uniquely. A `Policy` is checked as a whole: whoever holds one may enforce it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from acns.dns.pattern import FQDNSelector
from acns.errors import Problem
from acns.policy.model import Direction, Origin, Protocol
from acns.policy.selectors import Selector

Ref = tuple[str, str, str]  # kind, namespace ("" where the kind has none), name


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an object was written. Lines are 0 where it came from an API server: `path` then names it."""

    path: str = ""
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    place: Place = field(default=Place(), compare=False)

    @property
    def ref(self) -> Ref:
        return ("Namespace", "", self.name)


@dataclass(frozen=True, slots=True)
class Node:
    """`addresses`: its IPv4 addresses of every type (InternalIP, ExternalIP). `pod_cidrs`: where its pods'
    addresses come from (`spec.podCIDRs`)."""

    name: str
    addresses: tuple[IPv4Address, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    pod_cidrs: tuple[IPv4Network, ...] = ()
    place: Place = field(default=Place(), compare=False)

    @property
    def ref(self) -> Ref:
        return ("Node", "", self.name)


@dataclass(frozen=True, slots=True, order=True)
class NamedPort:
    """A container port with a name."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Pod:
    """`pod_ip` is its IPv4 address; `service_account` "" where none is named (static pods)."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    node_name: str = ""
    pod_ip: IPv4Address | None = None
    phase: str = "Running"
    host_network: bool = False
    service_account: str = "default"
    named_ports: tuple[NamedPort, ...] = ()
    place: Place = field(default=Place(), compare=False)

    @property
    def ref(self) -> Ref:
        return ("Pod", self.namespace, self.name)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def is_endpoint(self) -> bool:
        """Whether it owns its address: finished pods keep theirs in `status` while it is given out again
        (Succeeded, Failed), and hostNetwork pods share the node's."""
        return self.pod_ip is not None and not self.host_network and self.phase not in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, order=True)
class ServicePort:
    """`target_port` is a number or the name of a container port; EndpointSlices hold what came of it."""

    name: str
    protocol: str
    port: int
    target_port: int | str


@dataclass(frozen=True, slots=True)
class Service:
    """`cluster_ips` is empty for headless and ExternalName Services."""

    namespace: str
    name: str
    cluster_ips: tuple[IPv4Address, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    place: Place = field(default=Place(), compare=False)

    @property
    def ref(self) -> Ref:
        return ("Service", self.namespace, self.name)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class SlicePort:
    """A port of the backends; `name` is that of the Service's port."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    addresses: tuple[IPv4Address, ...]
    ready: bool = True
    node_name: str = ""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Backends of the Service named `service` in the same namespace ("" where the slice belongs to none)."""

    namespace: str
    name: str
    service: str
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()
    place: Place = field(default=Place(), compare=False)

    @property
    def ref(self) -> Ref:
        return ("EndpointSlice", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class CIDRGroup:
    """A CiliumCIDRGroup: a named list of CIDRs; its IPv4 ones."""

    name: str
    networks: tuple[IPv4Network, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    place: Place = field(default=Place(), compare=False)

    @property
    def ref(self) -> Ref:
        return ("CiliumCIDRGroup", "", self.name)


# --- policies: as written, checked, not yet resolved against a cluster --------------------------------------


@dataclass(frozen=True, slots=True)
class SelectedEndpoints:
    """One entry of `toEndpoints`/`fromEndpoints`, its namespace scope already in the selector. `scoped`: it
    names no namespace, so that scope is the policy's own namespace, which nobody wrote."""

    selector: Selector
    scoped: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class CIDRBlocks:
    """The IPv4 entries of one rule's `toCIDR`/`fromCIDR`, or one of its `toCIDRSet`: `networks` without what
    lies in `excepted`."""

    networks: tuple[IPv4Network, ...]
    excepted: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True, slots=True)
class CIDRGroupPeer:
    """A `toCIDRSet` entry that names a CiliumCIDRGroup (`name`) or selects some by their labels
    (`selector`)."""

    name: str = ""
    selector: Selector | None = None
    excepted: tuple[IPv4Network, ...] = ()
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class Entity:
    """One entry of `toEntities`/`fromEntities`."""

    name: str


@dataclass(frozen=True, slots=True)
class SelectedFQDN:
    """One entry of `toFQDNs`."""

    selector: FQDNSelector
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class SelectedServices:
    """One entry of `toServices`: by `name` in `namespace`, or by `selector` on the Services' labels, in
    `namespace` or, where that is "", in all of them."""

    namespace: str
    name: str = ""
    selector: Selector | None = None


PeerSpec = SelectedEndpoints | CIDRBlocks | CIDRGroupPeer | Entity | SelectedFQDN | SelectedServices


@dataclass(frozen=True, slots=True)
class PortSpec:
    """One entry of `ports`: an inclusive range (first 0: every port), or a named port, which each pod
    resolves for itself."""

    protocol: Protocol
    first: int = 0
    last: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class PortBlock:
    """One entry of `toPorts`. `dns` None: no `rules.dns`, a plain L4 rule."""

    ports: tuple[PortSpec, ...]
    dns: tuple[FQDNSelector, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of a section. `peers` None: none is given; (): given, but selects nothing. Same for `ports`
    (`toPorts`). `icmps`: the IPv4 types, None where the field is absent; exclusive with `ports`."""

    origin: Origin
    direction: Direction
    deny: bool = False
    peers: tuple[PeerSpec, ...] | None = None
    ports: tuple[PortBlock, ...] | None = None
    icmps: tuple[int, ...] | None = None

    @property
    def selects_nothing(self) -> bool:
        """With neither a peer nor traffic a rule matches nothing (`egress: [{}]`)."""
        return self.peers is None and self.ports is None and self.icmps is None


@dataclass(frozen=True, slots=True)
class Spec:
    """`subject` selects the pods, scope included. `default_deny`: the directions in which it makes them deny
    what no rule allows (a section that is present does, unless `enableDefaultDeny` says otherwise)."""

    subject: Selector
    rules: tuple[Rule, ...]
    default_deny: frozenset[Direction] = frozenset(Direction)

    def of(self, direction: Direction) -> tuple[Rule, ...]:
        """The rules of one direction, allows and denies."""
        return tuple(rule for rule in self.rules if rule.direction is direction)


@dataclass(frozen=True, slots=True)
class Policy:
    """A CiliumNetworkPolicy, a NetworkPolicy, or a CiliumClusterwideNetworkPolicy (`namespace` None), and its
    warnings. `ignored`: the codes of warnings that its text silences, by line (0: all of it)."""

    kind: str
    namespace: str | None
    name: str
    specs: tuple[Spec, ...]
    problems: tuple[Problem, ...] = field(default=(), compare=False)
    place: Place = field(default=Place(), compare=False)
    ignored: Mapping[int, frozenset[str]] = field(default_factory=dict, hash=False)

    @property
    def ref(self) -> Ref:
        return (self.kind, self.namespace or "", self.name)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


Object = Namespace | Node | Pod | Service | EndpointSlice | CIDRGroup | Policy
