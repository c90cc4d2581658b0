"""NetworkPolicy (networking.k8s.io/v1): from manifest to `Policy`, as Cilium translates it.

(pkg/k8s/network_policy.go.) Its rules come to the same values as those of a CiliumNetworkPolicy. What differs
between Kubernetes' wording and Cilium is Cilium's here: an `ipBlock` selects neither pods nor nodes, and
rules in a direction that `policyTypes` leaves out are enforced (Kubernetes ignores them; this warns).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acns.errors import Problem
from acns.located import Document, Path
from acns.policy import negations
from acns.policy.cidrs import contains, ipv4, parse_cidr
from acns.policy.codes import Code
from acns.policy.kubernetes import place
from acns.policy.model import Direction, Origin, Protocol
from acns.policy.networkpolicy_schema import IPBlock, Peer, PolicyObject, Port, Spec
from acns.policy.networks import without
from acns.policy.objects import (
    CIDRBlocks,
    Entity,
    PeerSpec,
    Policy,
    PortBlock,
    PortSpec,
    Rule,
    SelectedEndpoints,
)
from acns.policy.objects import Spec as PolicySpec
from acns.policy.selector_schema import KubernetesSelector, requirements_of
from acns.policy.selectors import (
    K8S,
    NAMESPACE,
    NAMESPACE_LABELS_PREFIX,
    NAMESPACE_NAME_LABEL,
    Key,
    Operator,
    Requirement,
    Selector,
)
from acns.policy.structure import Report, check

KIND = "NetworkPolicy"


def read_network_policy(document: Document, where: Path) -> tuple[Policy | None, list[Problem]]:
    """The policy at `where`; None with the errors, or the policy with its warnings."""
    model, problems = check(PolicyObject, document, where)
    report = Report(document)
    if model is None:
        sound = report.sound(PolicyObject, where)
        if sound is not None:
            _spec(report, sound, where)
        return None, [*problems, *(each for each in report.problems if not each.warning)]
    spec = _spec(report, model, where)
    if report.has_errors:
        return None, report.problems
    policy = Policy(
        kind=KIND,
        namespace=_namespace(model),
        name=model.metadata.name,
        specs=(spec,),
        problems=tuple(report.problems),
        place=place(document, where),
    )
    return policy, report.problems


def _namespace(model: PolicyObject) -> str:
    return model.metadata.namespace or "default"


def _spec(report: Report, model: PolicyObject, where: Path) -> PolicySpec:
    namespace = _namespace(model)
    reader = _Reader(report, namespace, f"{namespace}/{model.metadata.name}", (*where, "spec"))
    return reader.spec(model.spec or Spec())


@dataclass(frozen=True, slots=True)
class _Reader:
    report: Report
    namespace: str
    policy_key: str
    at: Path

    def spec(self, model: Spec) -> PolicySpec:
        types = model.policyTypes or []
        ingress = [(rule.from_, rule.ports) for rule in model.ingress or []]
        egress = [(rule.to, rule.ports) for rule in model.egress or []]
        rules = [
            *self._section(Direction.INGRESS, "from", ingress, "Ingress" in types or "Egress" not in types),
            *self._section(Direction.EGRESS, "to", egress, "Egress" in types),
        ]
        self._check_types(types, rules)
        subject = _own_pods(model.podSelector or KubernetesSelector(), self.namespace)
        return PolicySpec(subject, tuple(rules), frozenset(rule.direction for rule in rules))

    def _section(
        self,
        direction: Direction,
        field: str,
        entries: Sequence[tuple[list[Peer] | None, list[Port] | None]],
        denies: bool,
    ) -> Iterator[Rule]:
        """The rules of one direction; where it denies and has none, one that allows nothing."""
        for index, (peers, ports) in enumerate(entries):
            at = (*self.at, direction, index)
            yield Rule(
                self._origin(direction, index, at),
                direction,
                peers=tuple(self._peers(peers, (*at, field))) if peers else (Entity("all"),),
                ports=tuple(PortBlock((_port(port),)) for port in ports) if ports else None,
            )
        if not entries and denies:
            yield Rule(self._origin(direction, 0, (*self.at, direction)), direction, peers=())

    def _origin(self, direction: Direction, index: int, at: Path) -> Origin:
        position = self.report.document.position(at)
        return Origin(
            self.policy_key,
            str(direction),
            index,
            position.path or self.report.document.path,
            position.line,
            position.column,
            KIND,
        )

    def _check_types(self, types: list[str], rules: list[Rule]) -> None:
        for direction in sorted({rule.direction for rule in rules}):
            name = direction.capitalize()
            if types and name not in types:
                self.report.warn(
                    Code.POLICY_TYPES,
                    (*self.at, str(direction)),
                    f"policyTypes leaves out {name}: Kubernetes ignores these rules, Cilium enforces them",
                    f"add {name} to policyTypes, or remove the rules",
                )

    def _peers(self, peers: list[Peer], at: Path) -> Iterator[PeerSpec]:
        for index, peer in enumerate(peers):
            if peer.ipBlock is not None:
                yield from self._block(peer.ipBlock, (*at, index, "ipBlock"))
            elif peer.namespaceSelector is not None:
                selector = _pods_of(peer.namespaceSelector, peer.podSelector)
                negations.doubt(selector, (*at, index), NAMESPACE_NAME_LABEL, self.report)
                yield SelectedEndpoints(selector)
            elif peer.podSelector is not None:
                yield SelectedEndpoints(_own_pods(peer.podSelector, self.namespace), scoped=True)

    def _block(self, block: IPBlock, at: Path) -> Iterator[CIDRBlocks]:
        for index, text in enumerate(block.except_ or []):
            self._check_excepted(text, block.cidr, (*at, "except", index))
        excepted = ipv4(block.except_ or [])
        if networks := ipv4([block.cidr]):
            if block.except_ and not without(networks, excepted):
                message = f"nothing is left of {block.cidr}: this peer allows nothing"
                self.report.warn(Code.EMPTY_PEERS, (*at, "except"), message)
            yield CIDRBlocks(networks, excepted)
        else:
            self.report.warn(Code.IPV6_IGNORED, (*at, "cidr"), f"'{block.cidr}' is ignored: IPv4 only")

    def _check_excepted(self, text: str, cidr: str, at: Path) -> None:
        """The API server wants a part, and not all of it."""
        if not contains(parse_cidr(cidr), parse_cidr(text)):
            self.report.error(at, f"{text} does not lie inside {cidr}")
        elif parse_cidr(text) == parse_cidr(cidr):
            self.report.error(at, f"{text} is all of {cidr}: this peer selects nothing", "remove the peer")


def _port(model: Port) -> PortSpec:
    protocol = Protocol(model.protocol or "TCP")
    match model.port:
        case int(first):
            return PortSpec(protocol, first, model.endPort or first)
        case str(name):
            return PortSpec(protocol, name=name)
    return PortSpec(protocol)


# --- selectors: pods' own labels have the source k8s --------------------------------------------------------


def _own_pods(model: KubernetesSelector, namespace: str) -> Selector:
    """Pods of the policy's namespace, whatever namespace `matchLabels` names (parsePodSelector)."""
    return Selector.of(requirements_of(model, _pod_key, but=NAMESPACE)).within(namespace)


def _pods_of(namespaces: KubernetesSelector, pods: KubernetesSelector | None) -> Selector:
    """Pods of any namespace with these labels; an empty selector means every namespace."""
    where = list(requirements_of(namespaces, _namespace_key)) or [Requirement(NAMESPACE, Operator.EXISTS)]
    return Selector.of([*where, *(requirements_of(pods, _pod_key) if pods else ())])


def _pod_key(name: str) -> Key:
    return Key(K8S, name)


def _namespace_key(name: str) -> Key:
    return Key(K8S, NAMESPACE_LABELS_PREFIX + name)
