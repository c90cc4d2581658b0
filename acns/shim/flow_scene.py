"""What the flow log goes by: the cluster, the policy and the ruleset as they were last committed together.

A `Scene` is handed over whole by whoever commits and never changes, so the flow log's thread reads it without
a lock. It answers who is at an address and which policies decided, in the flow's vocabulary; what an answer
costs is paid at the first flow that asks, not at the commit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from acns.datapath.model import Description
from acns.errors import place_text
from acns.policy import selectors
from acns.policy.cluster import Cluster
from acns.policy.model import Direction, EndpointPolicy, NodePolicy, Origin, identity_key
from acns.policy.numbers import RESERVED_IDENTITIES
from acns.policy.objects import Place, Pod, Policy
from acns.policy.selectors import Labels
from acns.shim.ledger import Ledger
from acns.shim.planner import Plan
from acns.telemetry.flows import Peer, PolicyRef

Address = IPv4Address | IPv6Address
Numbers = Callable[[], Mapping[str, int]]
"""What a registry knows (`NumberRegistry.known`), asked for when it is needed."""

_DERIVED_FROM = "k8s:io.cilium.k8s.policy.derived-from"
_POLICY_NAME = "k8s:io.cilium.k8s.policy.name"
_POLICY_NAMESPACE = "k8s:io.cilium.k8s.policy.namespace"


def _nothing() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True)
class Scene:
    """`interfaces`: the node's end of each local endpoint's link. `descriptions`: what an id in the kernel
    stands for. `grants`: per direction the rule ids' grants. `identities`, `endpoints`: the numbers given to
    identity keys and to endpoints."""

    cluster: Cluster
    policy: NodePolicy
    interfaces: Mapping[IPv4Address, str] = field(default_factory=dict)
    descriptions: Mapping[str, Description] = field(default_factory=dict)
    grants: Mapping[Direction, Numbers] = field(default_factory=dict)
    identities: Numbers = _nothing
    endpoints: Numbers = _nothing
    denying: dict[tuple[frozenset[str], Direction], tuple[PolicyRef, ...]] = field(default_factory=dict)
    """What `default_denying` has found, by labels: hundreds of policies are looked through for each."""

    @classmethod
    def of(
        cls, plan: Plan, interfaces: Mapping[IPv4Address, str], ledger: Ledger, before: Scene | None = None
    ) -> Scene:
        """After this plan was carried out, and `before` the one before it."""
        kept = before is not None and _same(before.cluster.policies, plan.cluster.policies)
        return cls(
            cluster=plan.cluster,
            policy=plan.policy,
            interfaces=interfaces,
            descriptions=plan.ruleset.descriptions,
            grants={direction: ledger.grants.of(direction).known for direction in Direction},
            identities=ledger.identities.known,
            endpoints=ledger.endpoints.known,
            denying=before.denying if before is not None and kept else {},
        )

    # --- who ---------------------------------------------------------------------------------------------

    def peer(self, address: Address) -> Peer:
        """Who is at an address."""
        if address not in self._local and address not in self._pods:
            return self._unpodded(address)  # pods choose these addresses: not to be remembered
        if address not in self._residents:
            self._residents[address] = self._resident(address)
        return self._residents[address]

    def local(self, address: Address) -> EndpointPolicy | None:
        """This node's endpoint with that address."""
        return self._local.get(address)

    def at_interface(self, interface: str) -> EndpointPolicy | None:
        """This node's endpoint behind that interface."""
        return self._at_interface.get(interface)

    # --- why ---------------------------------------------------------------------------------------------

    def rule_of(self, grant: int, direction: Direction) -> str:
        """The id of the rule that gives this grant; "" when none does any more."""
        return self._rules[direction].get(grant, "")

    def deciding(self, rule_id: str, policy: EndpointPolicy, direction: Direction) -> tuple[PolicyRef, ...]:
        """The policies behind a rule: those that say so for this endpoint, not for others that share it."""
        described = self.descriptions.get(rule_id)
        if described is None:
            return ()
        side = policy.egress if direction is Direction.EGRESS else policy.ingress
        own = {match.origin for match in (*side.allows, *side.denies)}
        return policy_refs(origin for origin in described.origins if origin in own)

    def default_denying(self, policy: EndpointPolicy, direction: Direction) -> tuple[PolicyRef, ...]:
        """The policies for whose sake this endpoint is denied what no rule allows."""
        key = (policy.endpoint.labels, direction)
        if key not in self.denying:
            self.denying[key] = self._find_default_denying(policy, direction)
        return self.denying[key]

    # --- found when asked ----------------------------------------------------------------------------------

    @cached_property
    def _residents(self) -> dict[Address, Peer]:
        return {}

    @cached_property
    def _local(self) -> dict[Address, EndpointPolicy]:
        return {one.endpoint.address: one for one in self.policy.endpoints}

    @cached_property
    def _at_interface(self) -> dict[str, EndpointPolicy]:
        return {
            name: self._local[address] for address, name in self.interfaces.items() if address in self._local
        }

    @cached_property
    def _rules(self) -> dict[Direction, dict[int, str]]:
        return {
            direction: {number: rule_id for rule_id, number in numbers().items()}
            for direction, numbers in self.grants.items()
        }

    @cached_property
    def _pods(self) -> dict[Address, Pod]:
        pods = (pod for pod in reversed(self.cluster.pods) if pod.is_endpoint)
        return {pod.pod_ip: pod for pod in pods if pod.pod_ip is not None}

    @cached_property
    def _services(self) -> dict[Address, str]:
        return {address: service.key for service in self.cluster.services for address in service.cluster_ips}

    @cached_property
    def _identity_numbers(self) -> Mapping[str, int]:
        return self.identities()

    @cached_property
    def _endpoint_ids(self) -> Mapping[str, int]:
        return self.endpoints()

    def _unpodded(self, address: Address) -> Peer:
        text = str(address)
        if service := self._services.get(address):
            return _reserved(text, "reserved:world", service)
        if address in self.policy.node_addresses:
            return _reserved(text, "reserved:host")
        if address in self.policy.cluster_addresses:
            return _reserved(text, "reserved:remote-node")
        return _reserved(text, "reserved:world")

    def _resident(self, address: Address) -> Peer:
        """A pod; of two that claim an address this node's, else the first by name."""
        if policy := self._local.get(address):
            endpoint = policy.endpoint
            number = self._endpoint_ids.get(endpoint.key, 0)
            return self._pod_peer(address, endpoint.namespace, endpoint.pod, endpoint.labels, number)
        pod = self._pods[address]
        return self._pod_peer(address, pod.namespace, pod.name, self._labels_of(pod).texts, 0)

    def _pod_peer(
        self, address: Address, namespace: str, pod: str, labels: frozenset[str], endpoint_id: int
    ) -> Peer:
        identity = self._identity_numbers.get(identity_key(labels), 0)
        return Peer(str(address), identity, namespace, pod, tuple(sorted(labels)), endpoint_id=endpoint_id)

    def _labels_of(self, pod: Pod) -> Labels:
        own = (one.labels for one in self.cluster.namespaces if one.name == pod.namespace)
        # The API server gives this label to every namespace.
        inherited = {"kubernetes.io/metadata.name": pod.namespace, **next(own, {})}
        return selectors.pod_labels(pod.labels, pod.namespace, pod.service_account, inherited)

    def _find_default_denying(self, policy: EndpointPolicy, direction: Direction) -> tuple[PolicyRef, ...]:
        labels = _arranged(policy.endpoint.labels)
        return tuple(
            _policy_ref(one.kind, one.key, [("default-deny", one.place)])
            for one in self.cluster.policies
            if any(direction in spec.default_deny and spec.subject.matches(labels) for spec in one.specs)
        )


def policy_refs(origins: Iterable[Origin]) -> tuple[PolicyRef, ...]:
    """The policies that rules come from, each once, with its rules' places."""
    rules: dict[tuple[str, str], list[tuple[str, Place]]] = {}
    for origin in origins:
        place = Place(origin.path, origin.line, origin.column)
        rules.setdefault((origin.kind, origin.policy), []).append((f"{origin.section}[{origin.rule}]", place))
    return tuple(_policy_ref(kind, key, places) for (kind, key), places in rules.items())


def _policy_ref(kind: str, key: str, places: Iterable[tuple[str, Place]]) -> PolicyRef:
    """With Cilium's labels of a policy, and ours for where in it: `acns:egress[0]=frontend.yaml:12:7`."""
    namespace, _, name = key.rpartition("/")
    labels = [f"{_DERIVED_FROM}={kind}", f"{_POLICY_NAME}={name}"]
    if namespace:
        labels.append(f"{_POLICY_NAMESPACE}={namespace}")
    labels += [f"acns:{rule}={place_text(place.path, place.line, place.column)}" for rule, place in places]
    return PolicyRef(kind, name, namespace, tuple(labels))


def _same(before: Sequence[Policy], now: Sequence[Policy]) -> bool:
    """Whether it is the same objects: equal ones may stand at other lines."""
    return len(before) == len(now) and all(map(operator.is_, before, now))


def _reserved(address: str, label: str, service: str = "") -> Peer:
    return Peer(address, RESERVED_IDENTITIES[label], labels=(label,), service=service)


def _arranged(texts: Iterable[str]) -> Labels:
    """The label set that was printed as these `source:key=value`."""
    return Labels.of(_split(text) for text in texts)


def _split(text: str) -> tuple[str, str, str]:
    source, _, rest = text.partition(":")
    key, _, value = rest.partition("=")
    return source, key, value
