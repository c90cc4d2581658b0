"""What policies name and the cluster does not have: pods, ports, Services, CIDR groups."""

from __future__ import annotations

from collections.abc import Iterator

from acns.policy import networkpolicy
from acns.policy.codes import Code
from acns.policy.directory import Resident
from acns.policy.doubts.scene import Doubt, Scene, at_policy, at_rule
from acns.policy.doubts.unseen import Unseen
from acns.policy.groups import API_SERVER
from acns.policy.model import Addresses, Direction, Protocol
from acns.policy.objects import (
    CIDRBlocks,
    CIDRGroupPeer,
    Entity,
    PeerSpec,
    Policy,
    PortBlock,
    PortSpec,
    Rule,
    SelectedEndpoints,
    SelectedFQDN,
    SelectedServices,
    Spec,
)
from acns.policy.peers import cidr_groups, peers, peers_of, services
from acns.policy.ports import reach_of
from acns.policy.selectors import NAMESPACE, Selector
from acns.policy.view import View

_ENTITIES_OF_PODS = ("all", "cluster")
_COMPARE = "compare it with the labels of the pods"


def doubts(scene: Scene) -> Iterator[Doubt]:
    judge = _Judge(scene)
    for policy in scene.cluster.policies:
        for spec in policy.specs:
            yield from judge.subject(policy, spec)
            for rule in spec.rules:
                yield from judge.peers(policy, rule)
                yield from judge.ports(spec, rule)


class _Judge:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._view = View(scene.directory, "")
        self._unseen = Unseen(scene.cluster)
        self._pods = scene.directory.residents
        self._selecting: dict[Selector, bool] = {}
        self._subjects: dict[Selector, list[Resident]] = {}

    def subject(self, policy: Policy, spec: Spec) -> Iterator[Doubt]:
        if not self._selects(spec.subject):
            found = self._unseen.miss(spec.subject, _COMPARE)
            message = f"no {found.what} matches '{spec.subject.key}': this policy applies to nothing"
            yield at_policy(Code.SELECTS_NOTHING, policy, message, found.hint)

    # --- peers -----------------------------------------------------------------------------------------

    def peers(self, policy: Policy, rule: Rule) -> Iterator[Doubt]:
        for peer in rule.peers or ():
            if absence := self._absence(policy, peer, "denies" if rule.deny else "opens"):
                code, message, hint = absence
                yield at_rule(code, rule.origin, message, hint)

    def _absence(self, policy: Policy, peer: PeerSpec, verb: str) -> tuple[Code, str, str] | None:
        match peer:
            case SelectedEndpoints(selector) if not self._selects(selector):
                found = self._unseen.miss(selector, _where_sought(policy, peer))
                message = f"no {found.what} matches '{selector.key}': this peer {verb} nothing"
                return Code.SELECTS_NOTHING, message, found.hint
            case CIDRGroupPeer() if not cidr_groups(peer, self._scene.cluster.cidr_groups):
                what = f"CiliumCIDRGroup {_called(peer.name, peer.selector)}"
                return Code.UNKNOWN_CIDR_GROUP, f"no {what}: this peer {verb} nothing", ""
            case SelectedServices() if not services(peer, self._view):
                return Code.UNKNOWN_SERVICE, f"{_no_service(peer)}: this peer {verb} nothing", ""
            case SelectedServices() if self._scene.is_populated and not self._is_anybody_behind(peer):
                listed = " and ".join(each.key for each in services(peer, self._view))
                message = f"nobody is behind Service {listed}: this peer {verb} nothing"
                hint = "its selector says which pods; what an ExternalName stands for is opened by toFQDNs"
                return Code.SELECTS_NOTHING, message, hint
            case Entity("kube-apiserver") if self._scene.is_populated and not self._has_api_servers():
                message = f"the entity 'kube-apiserver' {verb} nothing: the API server's address is not known"
                hint = f"it is read from the EndpointSlices of Service {'/'.join(API_SERVER)}"
                return Code.ENTITY_WITHOUT_MEMBERS, message, hint
        return None

    def _is_anybody_behind(self, peer: SelectedServices) -> bool:
        found = peers(peer, self._view)
        return any(not isinstance(each, Addresses) or self._view.members(each.key) for each in found)

    def _has_api_servers(self) -> bool:
        return bool(self._scene.directory.services.endpoints(*API_SERVER))

    def _selects(self, selector: Selector) -> bool:
        """Whether some pod matches; where there is no pod at all, nothing is known."""
        if selector not in self._selecting:
            self._selecting[selector] = not self._pods or bool(self._scene.directory.candidates(selector))
        return self._selecting[selector]

    # --- named ports -----------------------------------------------------------------------------------

    def ports(self, spec: Spec, rule: Rule) -> Iterator[Doubt]:
        named = {port.name: port for block in rule.ports or () for port in block.ports if port.name}
        for port in named.values():
            stranger = _stranger(rule) if rule.direction is Direction.EGRESS else ""
            if stranger:
                message = f"the port '{port.name}' matches nothing: {stranger} has no named ports"
                yield at_rule(Code.NAMED_PORT_WITHOUT_PODS, rule.origin, message, "write the port's number")
            elif not self._has_port(port, spec, rule):
                whose = "destination" if rule.direction is Direction.EGRESS else "pod of this policy"
                message = f"the port '{port.name}' matches nothing: no {whose} has a port of that name"
                hint = "containers name theirs in spec.containers[].ports[].name"
                yield at_rule(Code.NAMED_PORT_WITHOUT_PODS, rule.origin, message, hint)

    def _has_port(self, port: PortSpec, spec: Spec, rule: Rule) -> bool:
        """Whether it means a number somewhere; where there are no pods to have it, nothing is known."""
        if rule.direction is Direction.INGRESS:
            mine = self._pods_of(spec.subject)
            return not mine or any(_named(port, each) for each in mine)
        peers = peers_of(rule, self._view)
        if not any(self._view.covers(peer, address) for peer in peers for address in self._pods):
            return True
        return any(reach_of(rule, PortBlock((port,)), peers, (), self._view))

    def _pods_of(self, subject: Selector) -> list[Resident]:
        """Policies share few subjects."""
        if subject not in self._subjects:
            found = (self._pods[address] for address in self._scene.directory.candidates(subject))
            claimants = (each for at_address in found for each in at_address)
            self._subjects[subject] = [each for each in claimants if subject.matches(each.labels)]
        return self._subjects[subject]


def _where_sought(policy: Policy, peer: SelectedEndpoints) -> str:
    """What to do about a peer that matches no pod; the namespace may be one that nobody wrote."""
    if not peer.scoped:
        return _COMPARE
    own = "the policy's own namespace alone is meant"
    if policy.kind == networkpolicy.KIND:
        return f"{own}: name others by namespaceSelector"
    return f"{own}: name another one by {NAMESPACE}"


def _no_service(peer: SelectedServices) -> str:
    where = f" in namespace '{peer.namespace}'" if peer.namespace else ""
    return f"no Service{where} {_called(peer.name, peer.selector)}"


def _called(name: str, selector: Selector | None) -> str:
    return f"is called '{name}'" if selector is None else f"matches '{selector.key}'"


def _stranger(rule: Rule) -> str:
    """Who of its peers has no named ports, if none has."""
    strangers = [_without_names(peer) for peer in rule.peers or ()]
    return strangers[0] if strangers and all(strangers) else ""


def _without_names(peer: PeerSpec) -> str:
    match peer:
        case CIDRBlocks() | CIDRGroupPeer():
            return "a CIDR"
        case SelectedFQDN():
            return "a name of toFQDNs"
        case Entity(name) if name not in _ENTITIES_OF_PODS:
            return f"the entity '{name}'"
    return ""


def _named(port: PortSpec, pod: Resident) -> bool:
    return any(
        each.name == port.name and port.protocol in (each.protocol, Protocol.ANY) for each in pod.named_ports
    )
