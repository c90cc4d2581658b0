"""From objects to what the kernel should hold: the part of a round that needs no kernel.

Resolver and compiler keep what has not changed, so a round costs what its change costs; the first one costs
everything, and runs in a thread, where it may take longer than an answer waits for its commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from acns.datapath.compiler import Compiler
from acns.datapath.model import Ruleset
from acns.datapath.routes import Links
from acns.dns.pattern import FQDNSelector
from acns.policy.cluster import Cluster
from acns.policy.model import NodePolicy
from acns.policy.objects import Object
from acns.policy.resolve import Resolver
from acns.shim.selectors import SelectorCount
from acns.shim.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be enforced. `ruleset` adds nothing learned; `selectors`: also some that no rule names."""

    cluster: Cluster
    policy: NodePolicy
    ruleset: Ruleset
    selectors: frozenset[FQDNSelector]


class Planner:
    """For one thread at a time."""

    def __init__(self, resolver: Resolver, compiler: Compiler) -> None:
        self._resolver = resolver
        self._compiler = compiler
        self._selectors = SelectorCount()

    def plan(self, objects: Iterable[Object] | Cluster, links: Links, watch: Stopwatch) -> Plan:
        """What these objects mean for a node with these links."""
        cluster = objects if isinstance(objects, Cluster) else Cluster.of(objects)
        watch.lap("cluster")
        policy = self._resolver.resolve(cluster)
        watch.lap("resolve")
        ruleset = self._compiler.compile(policy, links.interfaces, {}, uplinks=links.uplinks)
        watch.lap("compile")
        selectors = self._selectors.of(policy)
        watch.lap("selectors")
        return Plan(cluster, policy, ruleset, selectors)
