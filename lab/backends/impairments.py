"""The links that a topology makes worse: both ends, so that both ways are as it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.backends.network import BRIDGE, Network, node_place, pod_place
from lab.backends.order import Order
from lab.kernel import impair, nft
from lab.spec.plan import Addressing
from lab.spec.topology import Link

_TABLE = "lab_link_"
End = tuple[str, str]
"""Place and interface."""


def changes(wanted: Order, before: Order) -> Sequence[str]:
    """What `apply` would change, in lines."""
    there, then = _by_end(before), _by_end(wanted)
    return [
        *(f"link of {of} is as good as any again" for of in there if of not in then),
        *(
            f"link of {of} gets worse" if of not in there else f"link of {of} changes"
            for of in _new(then, there)
        ),
    ]


def apply(wanted: Order, network: Network, before: Order | None = None) -> None:
    """Raises EnvironmentFault where the kernel cannot do it. Links that are made anew are as good as any."""
    there, then = _by_end(before) if before else {}, _by_end(wanted)
    if before:
        for of, link in there.items():
            if then.get(of) != link:
                _mend(_ends(link, before.addressing), network)
    for link in then.values():
        _worsen(link, _ends(link, wanted.addressing), network)


def _worsen(link: Link, ends: Sequence[End], network: Network) -> None:
    place, interface = ends[0]
    if link.loss:
        nft.load(network.namespaces[place], impair.loss_rules(_TABLE + interface, interface, link.loss))
    for place, interface in ends:
        impair.slow_down(
            network.namespaces[place], interface, rate_kbit=link.rate_kbit, delay_ms=link.delay_ms
        )


def _mend(ends: Sequence[End], network: Network) -> None:
    """Where an end has gone, what was on it has gone with it."""
    place, interface = ends[0]
    if place in network.namespaces:
        nft.load(network.namespaces[place], impair.without(_TABLE + interface))
    for place, interface in ends:
        if place in network.namespaces:
            impair.at_full_speed(network.namespaces[place], interface)


def _by_end(order: Order) -> dict[str, Link]:
    return {link.of: link for link in order.topology.links}


def _new(then: dict[str, Link], there: dict[str, Link]) -> Iterator[str]:
    return (of for of, link in then.items() if there.get(of) != link)


def _ends(link: Link, plan: Addressing) -> tuple[End, End]:
    """The end on the node, where packets are lost, and the other one."""
    if link.of in (node.name for node in plan.nodes):
        return (node_place(link.of), "eth0"), (BRIDGE, f"node{plan.node(link.of).index}")
    pod = plan.pod(link.of)
    return (node_place(pod.node), pod.node_interface), (pod_place(pod.key), "eth0")
