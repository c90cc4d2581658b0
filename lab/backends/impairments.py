"""The links that a topology makes worse: both ends, so that both ways are as it says.

What has been done to which link is remembered, so that a change finds what is there, also after one that
failed half-way; nothing is taken from an order that may have been carried out in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.backends.network import BRIDGE, Network, node_place, pod_place
from lab.backends.order import Order
from lab.kernel import impair, nft
from lab.kernel.netns import Namespace
from lab.spec.plan import Addressing
from lab.spec.topology import Link

_TABLE = "lab_link_"
Place = tuple[str, str]
"""The name of a namespace, and an interface there."""


@dataclass(frozen=True, slots=True)
class _Worse:
    """A link, and the namespaces and interfaces of its two ends; packets are lost at the first."""

    link: Link
    ends: tuple[tuple[Namespace, str], ...]


class Impairments:
    """Of the links of one network. A namespace that was made anew has none."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._there: dict[str, _Worse] = {}
        """By what the link is of."""

    def changes(self, order: Order) -> Sequence[str]:
        """What `apply` would change, in lines. Links of what is still to be made come along with it."""
        links = {link.of: link for link in order.topology.links}
        return [
            *(f"link of {of} is as good as any again" for of in self._there if of not in links),
            *(f"link of {of} gets worse" for of in links if of not in self._there),
            *(
                f"link of {of} changes"
                for of, one in self._there.items()
                if links.get(of, one.link) != one.link
            ),
        ]

    def apply(self, order: Order) -> None:
        """Raises EnvironmentFault where the kernel cannot do it."""
        wanted = self._wanted(order)
        for of in [of for of, worse in self._there.items() if wanted.get(of) != worse]:
            self._mend(self._there[of])
            del self._there[of]
        for of, worse in wanted.items():
            if of not in self._there:
                self._there[of] = worse  # from the first step on: half of it has to be mended, too
                _worsen(worse)

    def _wanted(self, order: Order) -> Mapping[str, _Worse]:
        there = self._network.namespaces
        return {
            link.of: _Worse(
                link, tuple((there[place], interface) for place, interface in _ends(link, order.addressing))
            )
            for link in order.topology.links
        }

    def _mend(self, worse: _Worse) -> None:
        """What an end had goes with its namespace."""
        living = set(self._network.namespaces.values())
        namespace, interface = worse.ends[0]
        if namespace in living:
            nft.load(namespace, impair.without(_TABLE + interface))
        for namespace, interface in worse.ends:
            if namespace in living:
                impair.at_full_speed(namespace, interface)


def _worsen(worse: _Worse) -> None:
    link, (namespace, interface) = worse.link, worse.ends[0]
    if link.loss:
        nft.load(namespace, impair.loss_rules(_TABLE + interface, interface, link.loss))
    for namespace, interface in worse.ends:
        impair.slow_down(namespace, interface, rate_kbit=link.rate_kbit, delay_ms=link.delay_ms)


def _ends(link: Link, plan: Addressing) -> tuple[Place, Place]:
    """The end on the node, where packets are lost, and the other one."""
    if link.of in (node.name for node in plan.nodes):
        return (node_place(link.of), "eth0"), (BRIDGE, f"node{plan.node(link.of).index}")
    pod = plan.pod(link.of)
    return (node_place(pod.node), pod.node_interface), (pod_place(pod.key), "eth0")
