"""Addresses that more than one claims: nobody can tell whose packets are whose. Errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

from acns.errors import Problem
from acns.policy.directory import Resident
from acns.policy.doubts.scene import Doubt, Scene
from acns.policy.objects import Pod


def doubts(scene: Scene) -> Iterator[Doubt]:
    pods = {pod.key: pod for pod in scene.cluster.pods}
    of_nodes = {address: node.name for node in scene.cluster.nodes for address in node.addresses}
    for address, claimants in scene.directory.residents.items():
        first, *others = claimants
        for each in others:
            yield _at(pods[each.key], _conflict(each, first, address, claimants))
        if address in of_nodes:
            for each in claimants:
                message = f"pod {each.key} has the address {address} of node {of_nodes[address]}"
                yield _at(pods[each.key], message, "a pod in the node's network says hostNetwork: true")


def _conflict(pod: Resident, first: Resident, address: IPv4Address, claimants: Sequence[Resident]) -> str:
    on_node = [each for each in claimants if each.node_name == pod.node_name]
    if len(on_node) > 1:
        effect = f"all traffic of this address is denied on node {pod.node_name}"
    else:
        effect = "peers select it only where they select both"
    return f"pod {pod.key} has the address {address} of pod {first.key}: {effect}"


def _at(pod: Pod, message: str, hint: str = "a finished pod should be in phase Succeeded or Failed") -> Doubt:
    return Doubt(Problem(pod.place.path, pod.place.line, pod.place.column, message, hint))
