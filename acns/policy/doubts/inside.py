"""CIDRs that are the cluster's own addresses: a CIDR selects neither pods nor nodes, and what goes to a
Service is judged by its backend. So they open nothing, and deny nothing.

Said only where every address is somebody's here: a network around them may mean others, outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from ipaddress import IPv4Address, IPv4Network

from acns.policy import networkpolicy
from acns.policy.codes import Code
from acns.policy.doubts.scene import Doubt, Scene, at_rule
from acns.policy.model import Direction
from acns.policy.networks import consists_of, without
from acns.policy.objects import CIDRBlocks, Rule


def doubts(scene: Scene) -> Iterator[Doubt]:
    if not scene.is_populated:
        return
    inside = scene.directory.cluster_addresses | scene.directory.services.addresses
    for policy in scene.cluster.policies:
        for rule in (rule for spec in policy.specs for rule in spec.rules):
            if found := list(dict.fromkeys(_inside(rule, inside))):
                yield at_rule(Code.CIDR_INSIDE_CLUSTER, rule.origin, _message(found, rule), _hint(rule))


def _inside(rule: Rule, inside: Set[IPv4Address]) -> Iterator[IPv4Network]:
    for peer in rule.peers or ():
        if isinstance(peer, CIDRBlocks):
            for network in peer.networks:
                left = without((network,), peer.excepted)
                if left and all(consists_of(each, inside) for each in left):
                    yield network


def _message(found: list[IPv4Network], rule: Rule) -> str:
    effect = "denies" if rule.deny else "opens"
    listed = ", ".join(map(str, found))
    return f"a CIDR selects no pod, Service or node of the cluster, so it {effect} nothing at {listed}"


def _hint(rule: Rule) -> str:
    if rule.origin.kind == networkpolicy.KIND:
        return "select pods by podSelector and namespaceSelector"
    if rule.direction is Direction.INGRESS:
        return "select pods by fromEndpoints, nodes by fromEntities"
    services = "" if rule.deny else " Services by toServices,"
    return f"select pods by toEndpoints,{services} nodes by toEntities"
