"""The first load: from objects to a node's finished table, beside `nft -f` of the very same table.

Both run in turn, each time in a fresh network namespace. The shim knows all addresses beforehand, so the
table is loaded with its sets full. Reading the manifests is shown apart: the shim does it in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acns.policy.objects import Object
from lab.bench import inputs, measure
from lab.bench.cluster import BenchCluster, Scale
from lab.bench.measure import Baseline, Limit, Measure
from lab.bench.plans import Plan
from lab.bench.shim import Round, Shim, StandIns
from lab.errors import Bug
from lab.kernel import netns, nft

PART = "load"
TIMES_NFT, AT_MOST_MS = Limit(4.0), Limit(2_000.0)


@dataclass(frozen=True, slots=True)
class Loaded:
    """One repetition: the shim's round, `nft -f` of what came of it, and that."""

    round: Round
    nft_ms: float
    ruleset: str


def measures(plan: Plan, folder: Path) -> Iterator[Measure]:
    """What the first load costs at the plan's scale."""
    texts = inputs.files(plan.scale)
    started = time.perf_counter()
    objects = inputs.read_all(texts)
    read_ms = (time.perf_counter() - started) * 1e3
    yield Measure(PART, "manifests read", read_ms, "ms", note=f"{len(texts)} files")
    yield from _machine(folder)
    with contextlib.ExitStack() as standing:
        loads = repeated(plan.scale, objects, plan.loads, folder, standing)
    took_ms, nft_ms = [one.round.took_ms for one in loads], [one.nft_ms for one in loads]
    shape = _shape(loads[-1].ruleset)
    yield measure.of_samples(PART, "nft -f of the finished table", nft_ms, "ms", note=shape)
    yield measure.of_samples(
        PART,
        "compile and load",
        took_ms,
        "ms",
        limit=AT_MOST_MS,
        baseline=Baseline("nft -f", statistics.median(nft_ms)),
        steps=measure.medians([one.round.laps_ms for one in loads]),
    )
    times = [one.round.took_ms / one.nft_ms for one in loads]
    yield measure.of_samples(PART, "compile and load, in terms of nft -f", times, "×", limit=TIMES_NFT)


def repeated(
    scale: Scale,
    objects: Mapping[str, Sequence[Object]],
    count: int,
    folder: Path,
    standing: contextlib.ExitStack,
) -> list[Loaded]:
    """Load so many times, each beside an `nft -f`. `standing` has their nodes: taking hundreds of links down
    keeps the kernel busy for seconds, and whoever asks it for its links has to wait."""
    return [_loaded(scale, objects, folder / f"load-{number}", standing) for number in range(count)]


def _loaded(
    scale: Scale, objects: Mapping[str, Sequence[Object]], home: Path, standing: contextlib.ExitStack
) -> Loaded:
    gc.unfreeze()  # what the shim before has left is not this one's to walk through
    gc.collect()
    node, empty = (standing.enter_context(netns.keeping(netns.make())) for _ in range(2))
    done = netns.in_namespace(node, lambda: _load(scale, objects, home))
    ruleset = nft.listing(node)
    return Loaded(done, _nft_ms(empty, ruleset, home / "ruleset.nft"), ruleset)


def _load(scale: Scale, objects: Mapping[str, Sequence[Object]], home: Path) -> Round:
    cluster = BenchCluster(scale)
    StandIns().add(cluster.pod_address(index) for index in range(scale.endpoints))
    selectors = inputs.selectors(inputs.flat(objects))

    async def once() -> Round:
        shim = Shim(home)
        shim.know(selectors, inputs.answers(scale))
        async with shim.running():
            return await shim.round(inputs.flat(objects))

    return asyncio.run(once())


def _nft_ms(empty: netns.Namespace, ruleset: str, path: Path) -> float:
    """`nft -f` of it, in a fresh namespace."""
    path.write_text(ruleset)
    took_ms = netns.in_namespace(empty, lambda: _command_ms("nft", "-f", str(path)))
    if nft.listing(empty).count("\n") != ruleset.count("\n"):
        raise Bug("nft does not read back what it lists")
    return took_ms


def _machine(folder: Path) -> Iterator[Measure]:
    """What starting a program costs here."""
    empty = folder / "empty.nft"
    empty.write_text("")
    for name, argv in (
        ("machine: Python starts", (sys.executable, "-c", "pass")),
        ("machine: nft -f of nothing", ("nft", "-f", str(empty))),
    ):
        yield measure.of_samples(PART, name, [_command_ms(*argv) for _ in range(10)], "ms")


def _command_ms(*argv: str) -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True)
    return (time.perf_counter() - started) * 1e3


def _shape(ruleset: str) -> str:
    """How large the table is, in words."""
    count = {word: ruleset.count(f"\n\t{word} ") for word in ("chain", "set", "map", "counter")}
    rules = ruleset.count(" comment ")
    size_kib = len(ruleset) >> 10
    return f"{size_kib} KiB, {rules} rules, " + ", ".join(
        f"{number} {word}s" for word, number in count.items()
    )
