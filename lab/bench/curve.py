"""How the cost grows: with the number of endpoints, and with the rules of other endpoints.

Loads and changes are repeated at each size with the same load on each endpoint. The latency of one and the
same pod is measured on nodes of all sizes side by side, and on one whose other endpoints have many times as
many policies.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lab.bench import datapath, increments, inputs, load, measure, worlds
from lab.bench.measure import Baseline, Limit, Measure
from lab.bench.plans import Plan
from lab.bench.progress import say

PART = "curve"
NFT = "nft -f"
PER_ENDPOINT_AT_MOST = Limit(110.0)
"""No worse than linearly: what an endpoint costs may not grow, but for what a clock cannot tell."""
OTHERS_AT_LEAST = Limit(97.0, is_floor=True)
"""Not at all, but for what a clock cannot tell."""


def measures(plan: Plan, folder: Path) -> Iterator[Measure]:
    """The curve over the plan's sizes."""
    curves: dict[str, dict[int, float]] = {}
    with contextlib.ExitStack() as standing:
        for endpoints in plan.curve:
            say(f"curve: {endpoints} endpoints")
            for one in _at(plan.at(endpoints), folder / str(endpoints), standing):
                curves.setdefault(one.name, {})[endpoints] = one.value
                yield replace(one, name=f"{one.name}, {endpoints} endpoints")
    for name, values in curves.items():
        yield _growth(name, values)
    yield from _latencies(plan)


def _at(plan: Plan, folder: Path, standing: contextlib.ExitStack) -> Iterator[Measure]:
    """At one size. What is not the commit is the shim's own work; the rest is nft's and the kernel's."""
    objects = inputs.read_all(inputs.files(plan.scale))
    loads = load.repeated(plan.scale, objects, plan.loads, folder, standing)
    nft_ms = [one.nft_ms for one in loads]
    took_ms = [one.round.took_ms for one in loads]
    own_ms = [one.round.took_ms - one.round.laps_ms["kernel"] for one in loads]
    yield measure.of_samples(PART, NFT, nft_ms, "ms")
    baseline = Baseline(NFT, statistics.median(nft_ms))
    yield measure.of_samples(PART, "compile and load", took_ms, "ms", baseline=baseline)
    yield measure.of_samples(PART, "compile and load, but for the commit", own_ms, "ms", baseline=baseline)
    kinds = (increments.pods, increments.labels)
    changes = increments.rounds_by_kind(plan, folder / "changes", kinds, standing)
    for kind, rounds in changes.items():
        yield measure.of_samples(PART, kind, [one.took_ms for one in rounds], "ms")


def _growth(name: str, values: Mapping[int, float]) -> Measure:
    """What the last endpoints cost in terms of the ones before."""
    before, last = sorted(values)[-2:]
    per_cent = 100 * (values[last] / last) / (values[before] / before)
    title = f"{name}: per endpoint, {last} against {before}"
    return Measure(PART, title, per_cent, "%", None if name == NFT else PER_ENDPOINT_AT_MOST)


def _latencies(plan: Plan) -> Iterator[Measure]:
    """One pod's, on nodes of all sizes at once."""
    say("curve: latencies")
    sizes = {f"{endpoints} endpoints": plan.at(endpoints).scale for endpoints in plan.curve}
    tables = {name: worlds.compiled(scale, inputs.files(scale)) for name, scale in sizes.items()}
    crowded = f"others with {plan.elsewhere} times the policies"
    tables[crowded] = worlds.compiled(
        plan.scale, inputs.files_with_more_elsewhere(plan.scale, plan.elsewhere)
    )
    alone = f"{plan.scale.endpoints} endpoints"
    if alone not in tables:
        tables[alone] = worlds.compiled(plan.scale, inputs.files(plan.scale))
    with contextlib.ExitStack() as stack:
        standing = {
            name: stack.enter_context(worlds.standing(worlds.measured_pod(plan.scale), [table.text]))
            for name, table in tables.items()
        }
        found = worlds.interleaved(standing, datapath.together(plan), plan.slices, plan.scale.seed)
    for kind, slices in found.items():
        yield from _latency(kind, slices, next(iter(sizes)), alone, crowded)


def _latency(
    kind: str, slices: Mapping[str, Sequence[float]], smallest: str, alone: str, crowded: str
) -> Iterator[Measure]:
    for name, samples in slices.items():
        baseline = Baseline(smallest, statistics.median(slices[smallest]))
        yield measure.of_samples(PART, f"{kind}, {name}", samples, "µs", baseline=baseline)
    yield measure.of_pairs(
        PART, f"{kind}: {crowded}, against none", slices[alone], slices[crowded], limit=OTHERS_AT_LEAST
    )
