"""One change at a time, in a cluster that is loaded: pods come, go and change their labels, policies too.

Measured from the observation to the kernel's commit, with the reading of the changed manifest added: that is
all that lies between a changed object and its enforcement, but for how long a source takes to notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acns.policy.objects import Object
from lab.bench import inputs, measure
from lab.bench.cluster import BenchCluster
from lab.bench.measure import Limit, Measure
from lab.bench.plans import Plan
from lab.bench.shim import Round, Shim, StandIns
from lab.kernel import netns

PART = "increments"
POD_AT_MOST_MS = Limit(30.0)
_LIMITS = {"pod added": POD_AT_MOST_MS, "pod relabelled": POD_AT_MOST_MS}


@dataclass(slots=True)
class Changes:
    """A loaded cluster, and all rounds so far by kind."""

    cluster: BenchCluster
    shim: Shim
    stand_ins: StandIns
    texts: dict[str, str]
    objects: dict[str, tuple[Object, ...]]
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    async def write(self, kind: str, path: str, text: str) -> None:
        """This manifest is new, or says something else now."""
        started = time.perf_counter()
        self.objects[path] = inputs.read(path, text)
        await self._round(kind, {"read": (time.perf_counter() - started) * 1e3})

    async def remove(self, kind: str, path: str) -> None:
        del self.objects[path]
        await self._round(kind, {})

    async def _round(self, kind: str, before_ms: dict[str, float]) -> None:
        done = await self.shim.round(inputs.flat(self.objects))
        took_ms = sum(before_ms.values()) + done.took_ms
        self.rounds.setdefault(kind, []).append(Round(took_ms, {**before_ms, **done.laps_ms}))


Make = Callable[[Changes, int], Awaitable[None]]


def measures(plan: Plan, folder: Path) -> Iterator[Measure]:
    """What changes cost at the plan's scale."""
    with contextlib.ExitStack() as standing:
        found = rounds_by_kind(plan, folder, (pods, labels, policy_texts, policies), standing)
    for kind, rounds in found.items():
        yield measure.of_samples(
            PART,
            kind,
            [one.took_ms for one in rounds],
            "ms",
            limit=_LIMITS.get(kind),
            steps=measure.medians([one.laps_ms for one in rounds]),
        )


def rounds_by_kind(
    plan: Plan, folder: Path, kinds: Sequence[Make], standing: contextlib.ExitStack
) -> dict[str, list[Round]]:
    """Make these changes, on a node of their own, which `standing` has."""
    node = standing.enter_context(netns.keeping(netns.make()))
    return netns.in_namespace(node, lambda: _rounds(plan, folder, kinds))


def _rounds(plan: Plan, folder: Path, kinds: Sequence[Make]) -> dict[str, list[Round]]:
    cluster = BenchCluster(plan.scale)
    stand_ins = StandIns()
    stand_ins.add(cluster.pod_address(index) for index in range(plan.scale.endpoints))
    texts = dict(inputs.files(plan.scale))
    objects = inputs.read_all(texts)
    selectors = inputs.selectors(inputs.flat(objects))

    async def make() -> dict[str, list[Round]]:
        shim = Shim(folder)
        shim.know(selectors, inputs.answers(plan.scale))
        changes = Changes(cluster, shim, stand_ins, texts, objects)
        async with shim.running():
            await shim.round(inputs.flat(objects))
            for kind in kinds:
                for number in range(plan.increments):
                    await kind(changes, number)
        return changes.rounds

    return asyncio.run(make())


async def pods(changes: Changes, number: int) -> None:
    """A pod more, with an interface of its own, and away again."""
    index = changes.cluster.scale.endpoints + number
    await asyncio.to_thread(changes.stand_ins.add, [changes.cluster.pod_address(index)])
    path = changes.cluster.pod_file(index)
    await changes.write("pod added", path, changes.cluster.pod(index))
    await changes.remove("pod removed", path)


async def labels(changes: Changes, number: int) -> None:
    """A pod becomes another workload's, when it comes to its turn again the next one's."""
    turn, index = divmod(number, changes.cluster.scale.endpoints)
    other = (index + 1 + turn) % changes.cluster.workloads
    await changes.write("pod relabelled", changes.cluster.pod_file(index), changes.cluster.pod(index, other))


async def policy_texts(changes: Changes, number: int) -> None:
    """A policy opens another port."""
    path = _policy_file(changes, number)
    await changes.write("policy edited", path, changes.texts[path].replace("'443'", "'8443'"))


async def policies(changes: Changes, number: int) -> None:
    """A policy goes, and comes again."""
    path = _policy_file(changes, number)
    await changes.remove("policy removed", path)
    await changes.write("policy added", path, changes.texts[path])


def _policy_file(changes: Changes, number: int) -> str:
    """One that names FQDNs; a different one each time, as far as there are enough."""
    naming = [path for path, text in changes.texts.items() if path.startswith("policy") and "toFQDNs" in text]
    return naming[number % len(naming)]
