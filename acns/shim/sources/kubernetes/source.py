"""All watched resources as one source of objects.

Nothing is shown before each of them has been listed once (or is known to be absent): pods without their
policies would be open. From then on every change is shown, those that come together at once: a change waits a
moment for others, and after a showing the longer the larger the cluster is, so that a storm of events does
not take the node's CPU.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from acns.errors import EnvironmentFault, Problem
from acns.policy.cluster import Cluster
from acns.policy.profiles import Profile
from acns.shim.preflight import ClusterFacts
from acns.shim.sources import Observed
from acns.shim.sources.kubernetes.api import API
from acns.shim.sources.kubernetes.failures import Failed
from acns.shim.sources.kubernetes.feeds import Feed
from acns.shim.sources.kubernetes.metrics import KubernetesMetrics
from acns.shim.sources.kubernetes.reflector import Reflector
from acns.shim.sources.kubernetes.reporter import Fleet, Reporter
from acns.shim.sources.kubernetes.resources import (
    CIDR_GROUPS,
    CILIUM_POLICIES,
    CLUSTERWIDE_POLICIES,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    PODS,
    POLICIES,
    SERVICES,
    SLICES,
    WATCHED,
    Resource,
)
from acns.shim.sources.kubernetes.shelf import Shelf
from acns.shim.sources.memory import Memory
from acns.telemetry import log as logs

log = logs.named(__name__)

GATHER_S: Final = 0.1
"""A Deployment's pods, a Service and its slices come within that."""

REST_PER_OBJECT_S: Final = 25e-6
LONGEST_REST_S: Final = 0.5
"""What is shown is in the kernel a moment later: together they stay below a second."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A resource, its objects and how its watch is doing."""

    shelf: Shelf
    feed: Feed
    reflector: Reflector


class KubernetesSource:
    """`memory` is the state file for the last good policies. `adopting`: the kernel enforces already what an
    earlier run read here. `fence` raises EnvironmentFault where this process may write no more. `report_as`:
    the pod that we are, to tell the cluster of its policies."""

    def __init__(
        self,
        api: API,
        profile: Profile,
        memory: Path,
        counted: KubernetesMetrics,
        *,
        adopting: bool = False,
        fence: Callable[[], object] = lambda: None,
        report_as: str = "",
    ) -> None:
        self._api = api
        self._memory = Memory(memory, fence)
        self._adopting = adopting
        self._unsure = adopting and not self._memory.is_sound
        self._unsaved: tuple[Problem, ...] = ()
        self._changed = asyncio.Event()
        self._fleet = Fleet(report_as)
        self.watched = tuple(self._watched(versions, profile, counted) for versions in WATCHED)
        counted.register(each.feed for each in self.watched)
        shelves = {each.shelf.resource: each.shelf for each in self.watched}
        policies = [shelf for resource, shelf in shelves.items() if resource in POLICIES]
        self._reporter = Reporter(api, self._fleet, policies, shelves[PODS], counted.writes.add)

    def _watched(
        self, versions: tuple[Resource, ...], profile: Profile, counted: KubernetesMetrics
    ) -> Watched:
        see = {"see": self._fleet.see} if versions[0] is PODS and self._fleet.name else {}
        shelf = Shelf(versions[0], profile, self._memory, **see)
        feed = Feed(versions[0], counted.failures.add)
        reflector = Reflector(versions, self._api, shelf, feed, self._changed.set, counted.events.add)
        return Watched(shelf, feed, reflector)

    async def watch(self) -> AsyncIterator[Observed]:
        """The cluster's objects once they are all known, then after each change."""
        if self._memory.read_again():
            self._unsure = self._adopting and not self._memory.is_sound
        try:
            async with asyncio.TaskGroup() as group:
                for each in self.watched:
                    group.create_task(each.reflector.run())
                if self._fleet.name:
                    group.create_task(self._reporter.run())
                async for observed in self._observations():
                    yield observed
        finally:
            await self._api.close()

    async def cluster_facts(self, node: str) -> ClusterFacts | None:
        """None where the API server does not say."""
        try:
            return await self._api.cluster_facts(node)
        except Failed as error:
            log.failure("the cluster's version is not known", error)
            return None

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What has not been listed yet, and why."""
        waiting = (each.feed for each in self.watched if not each.feed.listed)
        return tuple(
            f"{feed.resource.plural}: not listed yet{f': {feed.why}' if feed.why else ''}" for feed in waiting
        )

    def described(self) -> Mapping[str, object]:
        feeds = {each.feed.resource.plural: each.feed.described() for each in self.watched}
        return {"server": self._api.server, "feeds": feeds}

    async def _observations(self) -> AsyncIterator[Observed]:
        shown_s = 0.0
        while True:
            await self._changed.wait()
            await asyncio.sleep(max(GATHER_S, shown_s + self._rest_s - time.monotonic()))
            self._changed.clear()
            if self.obstacles:
                continue
            await self._save()
            shown_s = time.monotonic()
            yield self._observe()

    @property
    def _rest_s(self) -> float:
        """Between two showings: what is planned anew grows with the cluster."""
        return min(LONGEST_REST_S, sum(len(each.shelf) for each in self.watched) * REST_PER_OBJECT_S)

    def _observe(self) -> Observed:
        cluster = _arranged({each.shelf.resource: each.shelf.values() for each in self.watched})
        problems = (problem for each in self.watched for problem in each.shelf.problems())
        versions = {each.feed.resource.plural: each.feed.version for each in self.watched}
        return Observed(cluster, (*self._unsaved, *problems), versions, complete=not self._unsure)

    async def _save(self) -> None:
        """Remember the policies that could be read. While there may be one that an earlier run knew better,
        what that has left stays as it is."""
        policies = [each.shelf for each in self.watched if each.shelf.resource in POLICIES]
        self._unsure = self._unsure and any(
            entry.value is None for shelf in policies for entry in shelf.entries.values()
        )
        if self._unsure:
            return
        self._memory.keep_only(set[str]().union(*(shelf.remembered() for shelf in policies)))
        try:
            await asyncio.to_thread(self._memory.save)
            self._unsaved = ()
        except EnvironmentFault as fault:
            # The policies count all the same; only a restart beside a broken one would miss them.
            path = str(self._memory.path)
            self._unsaved = (Problem(path, 1, 1, fault.message, fault.hint, warning=True),)


def _arranged(values: Mapping[Resource, tuple[Any, ...]]) -> Cluster:
    """As `Cluster.of` would, which sorts all objects anew; here those of a resource stay as they were."""
    return Cluster(
        namespaces=values[NAMESPACES],
        nodes=values[NODES],
        pods=values[PODS],
        services=values[SERVICES],
        slices=values[SLICES],
        cidr_groups=values[CIDR_GROUPS],
        policies=(*values[CLUSTERWIDE_POLICIES], *values[CILIUM_POLICIES], *values[NETWORK_POLICIES]),
    )
