"""From a lab that runs to the lab that is ordered: what has to change, and in which order.

A step's lines are what `lab.up --plan` prints, and its actions, done one after the other, are what `lab.up`
does. They are found by comparing what is there (namespaces, programs, files) with what the order asks for,
not with an order that may have been carried out in part: a lab whose change failed half-way goes on from
there.

What is not named in a line is not touched. What goes, goes first; then the network, the files that agents
read, the agents; and the programs of pods last, once the policy for them is in force.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.backends import programs
from lab.backends.network import BRIDGE, INTERNET, Network, node_place, pod_place
from lab.backends.order import Order
from lab.backends.site import Site
from lab.kernel.netns import Namespace
from lab.runtime.state import LabFolder
from lab.runtime.supervise import Program
from lab.spec.plan import NodePlan, PodPlan
from lab.world import certs

NOT_YET = Namespace(-1)
"""Stands for the namespaces of what is still to be made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a line for each change that a person cares for (none: it comes along), and how."""

    lines: Sequence[str]
    do: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Places:
    """Which nodes and pods go and come; one that is rebuilt does both."""

    gone_nodes: tuple[str, ...]
    gone_pods: tuple[str, ...]
    new_nodes: tuple[NodePlan, ...]
    new_pods: tuple[PodPlan, ...]
    lines: tuple[str, ...]

    @property
    def gone(self) -> set[str]:
        return {*map(node_place, self.gone_nodes), *map(pod_place, self.gone_pods)}

    @property
    def new(self) -> set[str]:
        return {
            *(node_place(node.name) for node in self.new_nodes),
            *(pod_place(pod.key) for pod in self.new_pods),
        }


def places(network: Network, order: Order) -> Places:
    """A pod also goes with its node, and moves with it."""
    wanted = order.addressing
    nodes, pods = {node.name: node for node in wanted.nodes}, {pod.key: pod for pod in wanted.pods}
    gone_nodes = [name for name, node in network.nodes.items() if nodes.get(name) != node]
    gone_pods = [key for key, pod in network.pods.items() if pods.get(key) != pod or pod.node in gone_nodes]
    new_nodes = [node for name, node in nodes.items() if name in gone_nodes or name not in network.nodes]
    new_pods = [pod for key, pod in pods.items() if key in gone_pods or key not in network.pods]
    lines = [
        *(_line("node", name, "its addresses change" if name in nodes else None) for name in gone_nodes),
        *(_line("pod", key, _why_rebuilt(network.pods[key], pods.get(key))) for key in gone_pods),
        *(f"node {node.name} added" for node in new_nodes if node.name not in gone_nodes),
        *(f"pod {pod.key} added" for pod in new_pods if pod.key not in gone_pods),
    ]
    return Places(tuple(gone_nodes), tuple(gone_pods), tuple(new_nodes), tuple(new_pods), tuple(lines))


def from_nothing(order: Order, folder: LabFolder) -> list[str]:
    """What is made of an order where nothing is."""
    nodes, pods = order.addressing.nodes, order.addressing.pods
    places = (
        BRIDGE,
        INTERNET,
        *(node_place(node.name) for node in nodes),
        *(pod_place(pod.key) for pod in pods),
    )
    site = Site(order, folder, dict.fromkeys(places, NOT_YET), certs.files(folder.certificates))
    return [
        *(f"node {node.name} added" for node in nodes),
        *(f"pod {pod.key} added" for pod in pods),
        *(f"manifest {filename} written" for filename in order.manifests),
        *(f"{program.name} started" for program in programs.everything(site)),
    ]


def _line(kind: str, name: str, rebuilt: str | None) -> str:
    return f"{kind} {name} rebuilt: {rebuilt}" if rebuilt else f"{kind} {name} removed"


def _why_rebuilt(old: PodPlan, new: PodPlan | None) -> str | None:
    if new is None:
        return None
    if old.node != new.node:
        return f"it moves from node {old.node} to {new.node}"
    if old.address != new.address:
        return f"its address becomes {new.address}"
    return f"its node {new.node} is"


@dataclass(frozen=True, slots=True)
class ProgramChanges:
    """What becomes of the supervised programs."""

    ended: tuple[str, ...]
    changed: tuple[Program, ...]
    started: tuple[Program, ...]


def program_changes(
    there: Mapping[str, Program], wanted: Iterable[Program], gone: Iterable[Namespace]
) -> ProgramChanges:
    """Those in namespaces that go are ended, whether they come back or not."""
    by_name = {program.name: program for program in wanted}
    lost = set(gone)
    ended = [name for name, one in there.items() if name not in by_name or one.namespace in lost]
    stay = {name: one for name, one in there.items() if name not in ended}
    changed = [by_name[name] for name, one in stay.items() if not one.is_as(by_name[name])]
    started = [one for name, one in by_name.items() if name not in stay]
    return ProgramChanges(tuple(ended), tuple(changed), tuple(started))
