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
from acns.policy.model import Origin, Ports
from acns.policy.selectors import Selector

Ref = tuple[str, str, str]  # kind, namespace ("" where the kind has none), name


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an object was written; an empty path means it came from an API server."""

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
    """`addresses`: its IPv4 addresses of every type (InternalIP, ExternalIP)."""

    name: str
    addresses: tuple[IPv4Address, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
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


# --- policies: as written, checked, not yet resolved against a cluster --------------------------------------


@dataclass(frozen=True, slots=True)
class ToEndpoints:
    """One entry of `toEndpoints`, its namespace scope already in the selector."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class ToCIDR:
    """The IPv4 entries of one rule's `toCIDR`."""

    networks: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True)
class ToEntity:
    name: str


@dataclass(frozen=True, slots=True)
class ToFQDN:
    selector: FQDNSelector


Destination = ToEndpoints | ToCIDR | ToEntity | ToFQDN


@dataclass(frozen=True, slots=True)
class PortBlock:
    """One entry of `toPorts`. `dns` None: no `rules.dns`, a plain L4 rule."""

    ports: tuple[Ports, ...]
    dns: tuple[FQDNSelector, ...] | None = None


@dataclass(frozen=True, slots=True)
class EgressRule:
    """One entry of `egress`. `peers` None: none is given; (): given, but selects nothing. Same for `ports`
    (`toPorts`). With neither, the rule allows nothing (`egress: [{}]`)."""

    origin: Origin
    peers: tuple[Destination, ...] | None = None
    ports: tuple[PortBlock, ...] | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """`subject` selects the pods, scope included; `default_deny` False: `enableDefaultDeny` opts out."""

    subject: Selector
    egress: tuple[EgressRule, ...]
    default_deny: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """A CiliumNetworkPolicy, or a CiliumClusterwideNetworkPolicy (`namespace` None), and its warnings."""

    kind: str
    namespace: str | None
    name: str
    specs: tuple[Spec, ...]
    problems: tuple[Problem, ...] = field(default=(), compare=False)
    place: Place = field(default=Place(), compare=False)

    @property
    def ref(self) -> Ref:
        return (self.kind, self.namespace or "", self.name)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


Object = Namespace | Node | Pod | Service | EndpointSlice | Policy
