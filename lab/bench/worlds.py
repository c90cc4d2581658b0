"""Wires whose nodes differ in their rules only, and traffic on all of them in turn.

The shim's table is compiled here from the same manifests and loaded as the shim would, its sets full; the
other endpoints are in it by rules alone. The node's own rules are the lab's kube-proxy table: on a node of a
cluster, connection tracking and translation are there before any policy is.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.datapath import selectors
from acns.datapath.compiler import Compiler
from acns.datapath.grants import Grants
from acns.datapath.model import EMPTY, Ruleset
from acns.datapath.transaction import transaction
from acns.fqdn.cache import NameCache
from acns.policy.cluster import Cluster
from acns.policy.resolve import Resolver
from lab.bench import inputs, traffic, wire
from lab.bench.cluster import NODE, BenchCluster, Scale
from lab.bench.inputs import Files
from lab.bench.traffic import Conversation
from lab.bench.wire import Wire
from lab.kernel import nft
from lab.spec.plan import Addressing
from lab.spec.topology import Node, Topology
from lab.world import kubeproxy


@dataclass(frozen=True, slots=True)
class Table:
    """A compiled table as text; `place` says where in its chain the rule of the measured name stands."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class World:
    """A wire with its rules, an echo server at its far end, and a conversation each way of talking."""

    wire: Wire
    tcp: Conversation
    udp: Conversation


Slice = Callable[[World], float]


def compiled(scale: Scale, texts: Files) -> Table:
    """The node's table for these manifests."""
    policy = Resolver(NODE).resolve(Cluster.of(inputs.flat(inputs.read_all(texts))))
    cache = NameCache()
    cache.set_selectors(policy.fqdn_selectors())
    now = time.time()
    for name, addresses in inputs.answers(scale):
        cache.learn(name, addresses, inputs.TTL_S, now)
    learned = {
        selector: {IPv4Address(address): float(inputs.TTL_S) for address in cache.elements(selector)}
        for selector in policy.fqdn_selectors()
    }
    interfaces = {one.endpoint.address: f"pod{index}" for index, one in enumerate(policy.endpoints)}
    interfaces[measured_pod(scale)] = wire.POD_INTERFACE
    ruleset = Compiler(Grants.fresh()).compile(policy, interfaces, learned, uplinks=[wire.UPLINK])
    return Table(transaction(EMPTY, ruleset), _place(ruleset))


def node_rules() -> str:
    """The Service translation of a node."""
    topology = Topology(name="bench", nodes=(Node(name=NODE),))
    return kubeproxy.ruleset_text(topology, Addressing.of(topology), NODE)


def measured_pod(scale: Scale) -> IPv4Address:
    return BenchCluster(scale).pod_address(inputs.MEASURED_POD)


@contextlib.contextmanager
def standing(pod: IPv4Address, rules: Sequence[str]) -> Iterator[World]:
    """A world for the time of a block."""
    with contextlib.ExitStack() as stack:
        laid = stack.enter_context(wire.laid(pod, [inputs.SERVER]))
        for text in rules:
            nft.load(laid.node, text)
        with traffic.on_cpu(traffic.FIRST):
            stack.enter_context(wire.echoing(laid, traffic.PORT))
        talks = [Conversation.over(laid, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
        for talk in talks:
            stack.callback(talk.socket.close)
        yield World(laid, *talks)


def interleaved(
    worlds: Mapping[str, World], kinds: Mapping[str, Slice], count: int, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Kind → world → its slices. Each kind is measured on all worlds before the next, in changing order."""
    rng = random.Random(seed)
    found: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in worlds} for kind in kinds}
    for _ in range(count):
        for kind, measured in kinds.items():
            for name in rng.sample(list(worlds), len(worlds)):
                found[kind][name].append(measured(worlds[name]))
    return found


def _place(ruleset: Ruleset) -> str:
    matched = f"{selectors.match(inputs.MEASURED, 'daddr')} "
    for chain in ruleset.chains.values():
        for number, rule in enumerate(chain.rules, start=1):
            if matched in f"{rule.text} ":
                return f"its rule is number {number} of {len(chain.rules)}"
    return "its rule is nowhere"
