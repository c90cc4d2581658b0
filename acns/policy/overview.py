"""A cluster with all of its nodes' policies: who is where, and which policies speak of whom.

The agents know one node; who explains a connection asks about both of its ends. Nodes may differ in what they
have of the cluster: then each end is judged by what its own node has. Nodes are resolved when they are first
asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address

from acns.errors import InputError
from acns.located import did_you_mean
from acns.policy.cluster import Cluster
from acns.policy.directory import Directory, Resident
from acns.policy.doubts import absences
from acns.policy.doubts.scene import Scene
from acns.policy.model import (
    Direction,
    DirectionPolicy,
    EndpointPolicy,
    Enforcement,
    NodePolicy,
    Origin,
)
from acns.policy.objects import Pod, Policy, Rule, Spec
from acns.policy.resolve import resolve


@dataclass(frozen=True, slots=True)
class Local:
    """A pod with its policy, on its node."""

    resident: Resident
    policy: EndpointPolicy
    node: NodePolicy

    @property
    def key(self) -> str:
        return self.resident.key

    @property
    def address(self) -> IPv4Address:
        return self.resident.endpoint.address

    def side(self, direction: Direction) -> DirectionPolicy:
        return self.policy.egress if direction is Direction.EGRESS else self.policy.ingress


class Overview:
    """What explanations look things up in. `views`: the cluster as each node has it, by node; a node that is
    not among them has this one."""

    def __init__(
        self,
        cluster: Cluster,
        enforcement: Enforcement = Enforcement.DEFAULT,
        views: Mapping[str, Overview] | None = None,
    ) -> None:
        self.cluster = cluster
        self.enforcement = enforcement
        self._views = {} if views is None else views
        self.directory = Directory(cluster)
        self._nodes: dict[str, NodePolicy] = {}
        self._policies: dict[tuple[str, IPv4Address], EndpointPolicy] = {}
        self._denying: dict[tuple[frozenset[str], Direction], tuple[Policy, ...]] = {}
        self._allowing: dict[tuple[frozenset[str], Direction], tuple[Rule, ...]] = {}
        self._residents = sorted(self.directory.everybody(), key=lambda one: one.key)
        self._called: dict[str, list[Resident]] = {}
        for one in self._residents:
            for text in (one.key, one.endpoint.pod):
                self._called.setdefault(text, []).append(one)
        self._rules = {rule.origin: rule for policy in cluster.policies for rule in _rules(policy)}

    def on(self, node: str) -> Overview:
        """The cluster as that node has it."""
        return self._views.get(node, self)

    def node(self, name: str) -> NodePolicy:
        """The policy of a node, by what is known here."""
        if name not in self._nodes:
            self._nodes[name] = resolve(self.cluster, name, enforcement=self.enforcement)
            self._policies |= {(name, one.endpoint.address): one for one in self._nodes[name].endpoints}
        return self._nodes[name]

    def local(self, resident: Resident) -> Local:
        """A pod on its node, by what is known here."""
        node = self.node(resident.node_name)
        return Local(resident, self._policies[resident.node_name, resident.endpoint.address], node)

    def at(self, address: IPv4Address) -> Local | None:
        """The pod that has an address, as its own node has it; of several that claim it the first by name."""
        for node, view in self._views.items():
            claimants = view.directory.residents.get(address)
            if claimants and claimants[0].node_name == node:
                return view.local(claimants[0])
        claimants = self.directory.residents.get(address)
        return self.local(claimants[0]) if claimants and self._is_all_of(claimants[0]) else None

    def everybody(self) -> Sequence[tuple[Overview, Resident]]:
        """All pods that own an address, by name, each as its own node has it."""
        found = [
            (view, one)
            for node, view in self._views.items()
            for one in view.residents
            if one.node_name == node
        ]
        found += [(self, one) for one in self._residents if self._is_all_of(one)]
        return sorted(found, key=lambda each: each[1].key)

    def claimants(self, resident: Resident) -> tuple[Resident, ...]:
        """The pods of its node that claim its address, itself among them: of several none may do anything."""
        found = self.directory.residents[resident.endpoint.address]
        return tuple(each for each in found if each.node_name == resident.node_name)

    @property
    def residents(self) -> Sequence[Resident]:
        """All pods that own an address, by name."""
        return self._residents

    def pod(self, text: str, namespace: str = "") -> Resident:
        """The pod called `name` or `namespace/name`; a bare name means one in `namespace` first.

        Raises InputError for one that is not there, not clear, or has no policy of its own.
        """
        if found := self.find_pod(text, namespace):
            return found
        pods = [pod for pod in self.cluster.pods if text in (pod.name, pod.key)]
        if pods:
            raise InputError(f"no policy applies to pod {pods[0].key}: {_why_not(pods[0])}")
        raise InputError(f"there is no pod '{text}'", hint=did_you_mean(text, self._called))

    def find_pod(self, text: str, namespace: str = "") -> Resident | None:
        """As `pod`, but None where there is none."""
        found = self._called.get(text, [])
        near = [one for one in found if one.endpoint.namespace == namespace]
        if len(found) > 1 and len(near) != 1:
            listed = ", ".join(one.key for one in found)
            raise InputError(f"there are {len(found)} pods called '{text}'", hint=f"say which: {listed}")
        return next(iter(near if len(found) > 1 else found), None)

    def rule(self, origin: Origin) -> Rule | None:
        """The rule that was written there."""
        return self._rules.get(origin)

    def denying(self, resident: Resident, direction: Direction) -> tuple[Policy, ...]:
        """The policies for whose sake the pod is denied what no rule allows."""
        key = (resident.endpoint.labels, direction)
        if key not in self._denying:
            self._denying[key] = tuple(
                policy
                for policy in self.cluster.policies
                if any(
                    _denies(spec, direction) and spec.subject.matches(resident.labels)
                    for spec in policy.specs
                )
            )
        return self._denying[key]

    def allowing(self, resident: Resident, direction: Direction) -> tuple[Rule, ...]:
        """The rules that are to allow the pod something."""
        key = (resident.endpoint.labels, direction)
        if key not in self._allowing:
            self._allowing[key] = tuple(
                rule
                for policy in self.cluster.policies
                for spec in policy.specs
                if spec.subject.matches(resident.labels)
                for rule in spec.of(direction)
                if not rule.deny
            )
        return self._allowing[key]

    def absences(self, origin: Origin) -> Sequence[str]:
        """What the rule that was written there names, and the cluster has not."""
        return self._absences.get((origin.path, origin.line, origin.column), ())

    @cached_property
    def _absences(self) -> Mapping[tuple[str, int, int], Sequence[str]]:
        """By place. Looks at all rules."""
        found: dict[tuple[str, int, int], list[str]] = {}
        for doubt in absences.doubts(Scene(self.cluster, self.enforcement)):
            problem = doubt.problem
            found.setdefault((problem.path, problem.line, problem.column), []).append(problem.message)
        return found

    def _is_all_of(self, resident: Resident) -> bool:
        """Whether nothing else than this is known of what the pod's node has."""
        return resident.node_name not in self._views

    def denies_by_default(self, resident: Resident, direction: Direction) -> bool:
        """Whether the pod is denied what no rule allows, for whosever sake."""
        return self.enforcement is Enforcement.ALWAYS or bool(self.denying(resident, direction))


def _denies(spec: Spec, direction: Direction) -> bool:
    return direction in spec.default_deny and any(rule.direction is direction for rule in spec.rules)


def _rules(policy: Policy) -> Iterator[Rule]:
    return (rule for spec in policy.specs for rule in spec.rules)


def _why_not(pod: Pod) -> str:
    if pod.host_network:
        return "it is on its node's network (hostNetwork), and the node's traffic is not restricted"
    return "it has no address" if pod.pod_ip is None else f"it has finished (phase {pod.phase})"
