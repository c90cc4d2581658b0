"""A topology that a running lab shall become, with what it leaves open settled as in the lab.

Node numbers and addresses follow from the order of a topology file (`lab.spec.plan`), so that a pod added
in the middle would move all behind it. Here nodes and pods that stay keep their places, and only what is new
gets what is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from lab.spec.plan import Addressing
from lab.spec.topology import Node, Pod, Topology


def settled(wanted: Topology, running: Topology) -> Topology:
    """`wanted`, in an order and with addresses such that as much as can be stays as in `running`."""
    nodes = _ordered(wanted.nodes, [node.name for node in running.nodes])
    kept = {new.name for new, old in zip(nodes, running.nodes, strict=False) if new.name == old.name}
    taken = {pod.address for pod in wanted.pods if pod.address is not None}
    addresses = {
        (plan.key, plan.node): plan.address
        for plan in Addressing.of(running).pods
        if plan.node in kept and plan.address not in taken
    }
    ordered = wanted.model_copy(update={"nodes": tuple(nodes)})
    if all(addresses.get((p.key, p.node), p.address) == p.address for p in Addressing.of(ordered).pods):
        return ordered
    return ordered.model_copy(update={"pods": tuple(_pinned(pod, addresses) for pod in wanted.pods)})


def _ordered(wanted: Sequence[Node], running: Sequence[str]) -> list[Node]:
    """Those that stay at their old numbers, new ones where others were, the last ones in what is left."""
    by_name = {node.name: node for node in wanted}
    new = [node for node in wanted if node.name not in running]
    slots = [by_name.get(name) for name in running] + [None] * len(new)
    for number, slot in enumerate(slots):
        if slot is None and new:
            slots[number] = new.pop(0)
    while None in slots:
        last = slots.pop()
        if last is not None:
            slots[slots.index(None)] = last
    return [slot for slot in slots if slot is not None]


def _pinned(pod: Pod, addresses: dict[tuple[str, str], IPv4Address]) -> Pod:
    if pod.address is not None:
        return pod
    return pod.model_copy(update={"address": addresses.get((f"{pod.namespace}/{pod.name}", pod.node))})
