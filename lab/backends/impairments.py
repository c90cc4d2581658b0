"""The links that a topology makes worse: both ends, so that both ways are as it says."""

from __future__ import annotations

from lab.backends.network import BRIDGE, Network, node_place, pod_place
from lab.kernel import impair, nft
from lab.spec.topology import Link, Topology

_TABLE = "lab_link_"
End = tuple[str, str]
"""Place and interface."""


def apply(topology: Topology, network: Network) -> None:
    """Raises EnvironmentFault where the kernel cannot do it."""
    for link in topology.links:
        near, far = _ends(link, network)
        if link.loss:
            place, interface = near
            nft.load(network.namespaces[place], impair.loss_rules(_TABLE + interface, interface, link.loss))
        for place, interface in (near, far):
            impair.slow_down(
                network.namespaces[place], interface, rate_kbit=link.rate_kbit, delay_ms=link.delay_ms
            )


def _ends(link: Link, network: Network) -> tuple[End, End]:
    """The end on the node, where packets are lost, and the other one."""
    plan = network.addressing
    if link.of in (node.name for node in plan.nodes):
        return (node_place(link.of), "eth0"), (BRIDGE, f"node{plan.node(link.of).index}")
    pod = plan.pod(link.of)
    return (node_place(pod.node), pod.node_interface), (pod_place(pod.key), "eth0")
