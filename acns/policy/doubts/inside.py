"""CIDRs that are the cluster's own addresses: a CIDR selects neither pods nor nodes, and what goes to a
Service is judged by its backend. So they open nothing, and deny nothing.

Said only where every address is somebody's here: a network around them may mean others, outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import groupby

from acns.policy import networkpolicy
from acns.policy.codes import Code
from acns.policy.directory import Directory
from acns.policy.doubts.scene import Doubt, Scene, at_rule
from acns.policy.groups import API_SERVER
from acns.policy.model import Direction
from acns.policy.networks import consists_of, remainders
from acns.policy.objects import CIDRBlocks, CIDRGroupPeer, Rule
from acns.policy.peers import cidr_groups


@dataclass(frozen=True, slots=True)
class _Part:
    """A network of a rule's, how to speak of it, and what `except` leaves of it: addresses inside, all."""

    network: IPv4Network
    left: tuple[IPv4Network, ...]
    group: str = ""

    @property
    def addresses(self) -> Iterator[IPv4Address]:
        return (address for network in self.left for address in network)


def doubts(scene: Scene) -> Iterator[Doubt]:
    if not scene.is_populated:
        return
    for policy in scene.cluster.policies:
        for rule in (rule for spec in policy.specs for rule in spec.rules):
            if found := list(dict.fromkeys(_inside(rule, scene))):
                addresses = frozenset(address for part in found for address in part.addresses)
                hint = f"select {', '.join(_ways(rule, addresses, scene))}"
                yield at_rule(Code.CIDR_INSIDE_CLUSTER, rule.origin, _message(found, rule), hint)


def _inside(rule: Rule, scene: Scene) -> Iterator[_Part]:
    for peer in rule.peers or ():
        match peer:
            case CIDRBlocks():
                yield from _parts(peer.networks, peer.excepted, scene)
            case CIDRGroupPeer():
                for group in cidr_groups(peer, scene.cluster.cidr_groups):
                    yield from _parts(group.networks, peer.excepted, scene, group.name)


def _parts(
    networks: Iterable[IPv4Network], excepted: tuple[IPv4Network, ...], scene: Scene, group: str = ""
) -> Iterator[_Part]:
    for network, left in remainders(networks, excepted):
        if left and all(consists_of(each, scene.inside) for each in left):
            yield _Part(network, left, group)


def _message(found: Iterable[_Part], rule: Rule) -> str:
    effect = "denies" if rule.deny else "opens"
    texts = (
        ", ".join(str(part.network) for part in parts) + (f" (CiliumCIDRGroup '{group}')" if group else "")
        for group, parts in groupby(found, lambda part: part.group)
    )
    listed = ", ".join(dict.fromkeys(texts))
    return f"a CIDR selects no pod, Service or node of the cluster, so it {effect} nothing at {listed}"


def _ways(rule: Rule, addresses: Set[IPv4Address], scene: Scene) -> Iterator[str]:
    """What does select those who have these addresses."""
    directory, services = scene.directory, scene.directory.services
    known_api_servers = services.endpoints(*API_SERVER)
    api_servers = (addresses - directory.residents.keys()) & (known_api_servers | _cluster_ips(directory))
    others = addresses - directory.residents.keys() - api_servers
    of_services, nodes = others & services.addresses, others & directory.node_addresses
    words = _Words.of(rule)
    if addresses & directory.residents.keys():
        yield f"pods by {words.pods}"
    if of_services and words.has_services:
        yield "Services by toServices"
    elif of_services:
        behind = frozenset[IPv4Address]().union(*(services.behind.get(one, ()) for one in of_services))
        outside = behind - scene.inside
        nodes |= (behind & directory.node_addresses) - directory.residents.keys()
        if behind & directory.residents.keys() or not behind:
            yield f"Services' pods by {words.pods}"
        if outside:
            yield f"Services' endpoints outside the cluster by {words.cidr}"
    if nodes:
        yield f"nodes by {words.entities}{words.elsewhere}"
    if api_servers:
        needs = f"which needs the EndpointSlices of Service {'/'.join(API_SERVER)} among the files"
        missing = "" if known_api_servers else f" ({needs})"
        yield f"the API server by {words.entities}: [kube-apiserver]{words.elsewhere}{missing}"


@dataclass(frozen=True, slots=True)
class _Words:
    """How a rule names peers in its language."""

    pods: str
    cidr: str
    entities: str
    elsewhere: str = ""
    has_services: bool = False

    @classmethod
    def of(cls, rule: Rule) -> _Words:
        side = "to" if rule.direction is Direction.EGRESS else "from"
        entities = f"{side}Entities"
        if rule.origin.kind == networkpolicy.KIND:
            pods = "podSelector and namespaceSelector"
            return cls(pods, "ipBlock", entities, " in a CiliumNetworkPolicy")
        return cls(f"{side}Endpoints", f"{side}CIDR", entities, has_services=side == "to" and not rule.deny)


def _cluster_ips(directory: Directory) -> frozenset[IPv4Address]:
    """Those of the API server's Service."""
    namespace, name = API_SERVER
    return frozenset(
        address for each in directory.services.named(name, namespace) for address in each.cluster_ips
    )
