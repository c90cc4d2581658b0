"""What the loaded table costs a packet of an allowed flow: with it and without, side by side, in turn.

The flow is a pod's, opened by an FQDN rule of its, to a server outside. Nodes differ in their rules: none at
all; one rule that needs connection tracking, which no stateful policy can do without; the Service translation
that every node of a cluster has. A second node without any rules is the control: how far it lies from 100 %
is what this machine cannot tell.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.bench import inputs, measure, traffic, worlds
from lab.bench.measure import Baseline, Limit, Measure
from lab.bench.plans import Plan
from lab.bench.progress import say
from lab.bench.worlds import World

PART = "datapath"
AT_LEAST = Limit(95.0, is_floor=True)
TCP, UDP = "TCP request/response", "UDP request/response"

BARE, CONTROL, TRACKED, TABLE = "no rules", "no rules again", "tracking alone", "policy"
NODE, BOTH = "Services", "Services and policy"
_SHOWN = (BARE, TRACKED, TABLE, NODE, BOTH)
_COMPARED = ((TABLE, BARE), (TABLE, TRACKED), (BOTH, NODE))
_TRACKING = """\
table inet tracking {
    chain forward {
        type filter hook forward priority 0;
        ct state established accept
    }
}
"""

Slices = Mapping[str, Sequence[float]]


def measures(plan: Plan, folder: Path) -> Iterator[Measure]:
    """Latency, new connections and throughput at the plan's scale."""
    table = worlds.compiled(plan.scale, inputs.files(plan.scale))
    node = worlds.node_rules()
    rules = {
        BARE: [],
        CONTROL: [],
        TRACKED: [_TRACKING],
        TABLE: [table.text],
        NODE: [node],
        BOTH: [node, table.text],
    }
    with contextlib.ExitStack() as stack:
        standing = {
            name: stack.enter_context(worlds.standing(worlds.measured_pod(plan.scale), texts))
            for name, texts in rules.items()
        }
        say(f"{plan.slices} slices on each of {len(standing)} wires")
        found = worlds.interleaved(standing, {**_apart(plan), **together(plan)}, plan.slices, plan.scale.seed)
        for kind, slices in found.items():
            yield from _times(kind, slices, table.place)
        yield from _bulk(plan, standing)


def together(plan: Plan) -> dict[str, worlds.Slice]:
    """What packets cost in µs, with both ends on one CPU."""
    count, cpu = plan.round_trips, traffic.FIRST
    return {
        "TCP on one CPU": lambda world: world.tcp.slice_us(count, cpu),
        "UDP on one CPU": lambda world: world.udp.slice_us(count, cpu),
        "new connection": lambda world: traffic.connections_us(world.wire, plan.connections, cpu),
    }


def _apart(plan: Plan) -> dict[str, worlds.Slice]:
    """Request/response in µs, with the ends on different CPUs: what the limit is about."""
    count, cpu = plan.round_trips, traffic.LAST
    return {
        TCP: lambda world: world.tcp.slice_us(count, cpu),
        UDP: lambda world: world.udp.slice_us(count, cpu),
    }


def _times(kind: str, slices: Slices, place: str) -> Iterator[Measure]:
    """Each world's time, and how many per cent as fast one is as the other."""
    bare = Baseline(BARE, statistics.median(slices[BARE]))
    for name in _SHOWN:
        note = place if name == TABLE else ""
        yield measure.of_samples(PART, f"{kind}: {name}", slices[name], "µs", baseline=bare, note=note)
    # A flow's rate is the inverse of its times.
    limit = AT_LEAST if kind in (TCP, UDP) else None
    yield from _compared(kind, {name: [1 / one for one in times] for name, times in slices.items()}, limit)


def _compared(kind: str, rates: Slices, limit: Limit | None) -> Iterator[Measure]:
    for name, reference in _COMPARED:
        title = f"{kind}: {name}, against {reference}"
        yield measure.of_pairs(PART, title, rates[name], rates[reference], limit=limit)
    yield measure.of_pairs(PART, f"{kind}: control", rates[CONTROL], rates[BARE])


def _bulk(plan: Plan, standing: Mapping[str, World]) -> Iterator[Measure]:
    if not traffic.has_iperf3():
        say("iperf3 is missing: no throughput; apt-get install iperf3")
        return
    say(f"{plan.bulk_slices} slices of iperf3 on each")
    kind = "TCP throughput"
    with contextlib.ExitStack() as stack:
        for world in standing.values():
            stack.enter_context(traffic.receiving_bulk(world.wire))
        slices = worlds.interleaved(
            standing,
            {kind: lambda world: traffic.bulk_gbit_s(world.wire, plan.bulk_s)},
            plan.bulk_slices,
            plan.scale.seed,
        )[kind]
    bare = Baseline(BARE, statistics.median(slices[BARE]))
    for name in _SHOWN:
        yield measure.of_samples(PART, f"{kind}: {name}", slices[name], "Gbit/s", baseline=bare)
    yield from _compared(kind, slices, AT_LEAST)
