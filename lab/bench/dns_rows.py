"""What is measured of the contenders, row by row, and what the limits are.

Speed depends on the machine and on who else is at work there. So what has a limit is mostly a ratio between
neighbours in time: each round measures all contenders of a row, in changing order.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.bench import dns_echo, dns_floods, dns_names, dns_runs, dns_sides, dnsperf, measure
from lab.bench.dns_plan import DNSPlan
from lab.bench.dns_sides import BUDGETED, DIRECT, DNSDIST, DNSMASQ, OURS, SHARED, Side
from lab.bench.measure import Limit, Measure
from lab.bench.progress import say

SLOW_RATE, FAST_RATE = 1_000, 10_000
AT_ONCE = 64
POD_RATE = 40.0
_CPU_AT_MOST_US = Limit(28.0)
_NONE = Limit(0.0)

Slices = Mapping[str, Sequence[dict[str, float]]]
"""Contender → what each of its slices found, by name."""
Slice = Callable[[Side], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Bench:
    """The contenders, the plan, and the files of questions."""

    plan: DNSPlan
    folder: Path
    sides: Mapping[str, Side]

    def questions(self, kind: Callable[[int], str]) -> Path:
        names = map(kind, range(self.plan.names))
        return dnsperf.write_questions(self.folder / f"{kind.__name__}.txt", names)

    def slices(self, part: str, names: Sequence[str], taken: Slice) -> Slices:
        """All rounds of one row."""
        rng = random.Random(f"{self.plan.seed} {part}")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(self.plan.rounds):
            say(f"{part}: round {number + 1} of {self.plan.rounds}")
            for name in rng.sample(list(names), len(names)):
                found[name].append(taken(self.sides[name]))
        return found


def measures(part: str, bench: Bench) -> Iterator[Measure]:
    """All of one part."""
    rows: dict[str, Callable[[Bench], Iterator[Measure]]] = {
        "known": _known,
        "fresh": _fresh,
        "slow": _slow,
        "fast": _fast,
        "new": _new,
        "denied": _denied,
        "tcp": _tcp,
        "pods": _pods,
        "overload": _overload,
        "memory": _memory,
    }
    yield from rows[part](bench)


def warmed(bench: Bench) -> None:
    """Every name is known to everybody: what is measured then is what happens all day."""
    questions = bench.questions(dns_names.known)
    for side in bench.sides.values():
        dnsperf.once(side.wire.pod, side.asked, questions)


def _known(bench: Bench) -> Iterator[Measure]:
    questions = bench.questions(dns_names.known)
    found = bench.slices(
        "known",
        (DIRECT, DNSDIST, DNSMASQ, OURS),
        lambda side: dns_runs.saturated(side, questions, bench.plan.seconds),
    )
    yield from _rates("known", found)
    yield _ratio("known", found, OURS, DIRECT, 50)
    yield _ratio("known", found, OURS, DNSDIST, 65)
    yield _ratio("known", found, OURS, DNSMASQ, 500)
    for name in (DNSDIST, DNSMASQ, OURS):
        limit = _CPU_AT_MOST_US if name == OURS else None
        samples = _of(found, name, "cpu_us")
        yield measure.of_samples("known", f"CPU of a query: {name}", samples, "µs", limit=limit)
    yield measure.of_samples("known", "CPU of a query: shim", _of(found, OURS, "others_us"), "µs")
    for name in (DIRECT, OURS):
        samples = _of(found, name, "upstream_share")
        note = "the DNS server is not the limit while this is far from 100"
        yield measure.of_samples("known", f"DNS server busy: {name}", samples, "%", note=note)


def _fresh(bench: Bench) -> Iterator[Measure]:
    arguments = ("--names", bench.plan.names, "--at-once", AT_ONCE, "--seconds", bench.plan.seconds)
    found = bench.slices(
        "fresh", (DIRECT, DNSDIST, OURS), lambda side: dns_runs.loaded(side, "fresh", *arguments)
    )
    yield from _rates("fresh", found)
    yield _ratio("fresh", found, OURS, DIRECT, 60)
    yield _lost("fresh", found)


def _slow(bench: Bench) -> Iterator[Measure]:
    found = _at_rate(bench, "slow", (DIRECT, DNSDIST, OURS), SLOW_RATE)
    yield from _latencies("slow", found)
    added = _added(found, "median_ms")
    yield measure.of_samples("slow", "median added to no proxy", added, "ms", limit=Limit(0.2))
    p99, of_dnsdist = _of(found, OURS, "p99_ms"), _of(found, DNSDIST, "p99_ms")
    yield measure.of_pairs("slow", "p99, against dnsdist", p99, of_dnsdist, limit=Limit(150.0))
    yield _lost("slow", found)


def _fast(bench: Bench) -> Iterator[Measure]:
    found = _at_rate(bench, "fast", (DIRECT, OURS), FAST_RATE)
    yield from _latencies("fast", found)
    yield measure.of_samples("fast", "p99 added to no proxy", _added(found, "p99_ms"), "ms", limit=Limit(5.0))
    yield _lost("fast", found)


def _new(bench: Bench) -> Iterator[Measure]:
    """A bare call and a bare netlink add, against the whole way of a new name."""
    ours, echoes = bench.sides[OURS], []
    samples: list[dict[str, float]] = []
    for number in range(bench.plan.rounds):
        say(f"new: round {number + 1} of {bench.plan.rounds}")
        echoes.append(dns_echo.rate(bench.folder / "echo", bench.plan.new_names, AT_ONCE))
        first = number * bench.plan.new_names
        samples.append(dns_runs.new_names(ours, first, bench.plan.new_names, AT_ONCE))
    rates = [one["rate"] for one in samples]
    yield measure.of_samples("new", "names a second", rates, "/s")
    yield measure.of_samples("new", "bare gRPC and one netlink add", echoes, "/s")
    limit = Limit(60.0, is_floor=True)
    yield measure.of_pairs("new", "against bare gRPC and netlink", rates, echoes, limit=limit)
    for name, key in (("answers before the address was open", "early"), ("unanswered", "lost")):
        yield Measure("new", name, sum(one[key] for one in samples), "", _NONE)


def _denied(bench: Bench) -> Iterator[Measure]:
    files = [bench.questions(kind) for kind in (dns_names.known, dns_names.denied)]
    found: dict[Path, list[dict[str, float]]] = {file: [] for file in files}
    for number in range(bench.plan.rounds):
        say(f"denied: round {number + 1} of {bench.plan.rounds}")
        for file in files:
            found[file].append(dns_runs.saturated(bench.sides[OURS], file, bench.plan.seconds))
    known, denied = ([one["rate"] for one in found[file]] for file in files)
    yield measure.of_samples("denied", "queries a second", denied, "/s")
    limit = Limit(100.0, is_floor=True)
    yield measure.of_pairs("denied", "against known names", denied, known, limit=limit)


def _tcp(bench: Bench) -> Iterator[Measure]:
    questions = bench.questions(dns_names.known)
    for name, more, at_least in (
        ("one query a connection", ("-O", "num-queries-per-conn=1"), 50),
        ("many on a connection", (), 100),
    ):

        def taken(side: Side, more: tuple[str, ...] = more) -> dict[str, float]:
            return dns_runs.saturated(side, questions, bench.plan.seconds, "-m", "tcp", *more)

        found = bench.slices(f"tcp, {name}", (DIRECT, DNSDIST, OURS), taken)
        yield from _rates("tcp", found, f", {name}")
        yield _ratio("tcp", found, OURS, DNSDIST, at_least, f", {name}")


def _pods(bench: Bench) -> Iterator[Measure]:
    pods = [str(dns_names.pod(number)) for number in range(bench.plan.pods)]
    arguments = ("--names", bench.plan.names, "--rate", POD_RATE, "--seconds", bench.plan.seconds)
    found = dns_runs.loaded(bench.sides[OURS], "pods", *arguments, pods=pods)
    yield Measure("pods", f"queries a second of {len(pods)} pods", found["rate"], "/s")
    yield Measure("pods", "lost", found["lost"], "", _NONE)
    yield Measure("pods", "fairness (Jain)", found["fairness"], "", Limit(0.95, is_floor=True))


def _overload(bench: Bench) -> Iterator[Measure]:
    """One pod past its share, and another that asks as ever: its latency beside that in peace, and beside
    what the same flood does where there is no proxy.

    Where each pod has a share, datagrams come ten times as fast. They are within the usual budget: there the
    pod only takes what nobody else does, of CPUs too.
    """
    questions = bench.questions(dns_names.known)
    for kind in dns_floods.KINDS:

        def taken(side: Side, kind: str = kind) -> dict[str, float]:
            quiet = dns_runs.at_rate(side, questions, bench.plan.seconds, SLOW_RATE)
            with dns_runs.flooding(side, kind, bench.plan.seconds):
                beside = dns_runs.at_rate(side, questions, bench.plan.seconds, SLOW_RATE)
            return {"quiet_ms": quiet["p99_ms"], "beside_ms": beside["p99_ms"], "lost": beside["lost"]}

        found = bench.slices(f"overload, {kind}", (DIRECT, BUDGETED, SHARED), taken)
        yield from _beside(kind, found, BUDGETED)
        yield from _beside(kind, found, SHARED, ", with shares")
        bare_ms, in_peace_ms = (_of(found, DIRECT, key) for key in ("beside_ms", "quiet_ms"))
        yield measure.of_samples("overload", f"p99 without a proxy beside {kind}", bare_ms, "ms")
        name = f"p99 without a proxy beside {kind}, against in peace"
        yield measure.of_pairs("overload", name, bare_ms, in_peace_ms)
    for name in (BUDGETED, SHARED):
        resident = sum(map(dns_sides.resident_mib, bench.sides[name].processes))
        yield Measure("overload", f"memory afterwards: {name}", resident, "MiB", Limit(200.0))


def _beside(kind: str, found: Slices, name: str, which: str = "") -> Iterator[Measure]:
    """Of one resolver, told as `which`."""
    beside_ms, in_peace_ms = (_of(found, name, key) for key in ("beside_ms", "quiet_ms"))
    bare_ms = _of(found, DIRECT, "beside_ms")
    yield measure.of_samples("overload", f"p99 of another pod beside {kind}{which}", beside_ms, "ms")
    what = f"p99 beside {kind}{which}, against in peace"
    yield measure.of_pairs("overload", what, beside_ms, in_peace_ms, limit=Limit(200.0))
    what = f"p99 beside {kind}{which}, against no proxy"
    yield measure.of_pairs("overload", what, beside_ms, bare_ms)
    yield Measure("overload", f"lost beside {kind}{which}", sum(_of(found, name, "lost")), "", _NONE)


def _memory(bench: Bench) -> Iterator[Measure]:
    side, count = bench.sides[OURS], bench.plan.cached_names
    say(f"memory: {count} names")
    first = bench.plan.rounds * bench.plan.new_names
    found = dns_runs.new_names(side, first, count, AT_ONCE)
    resident = sum(map(dns_sides.resident_mib, side.processes))
    note = f"{bench.plan.pods} pods, {count - int(found['lost'])} names more"
    yield Measure("memory", "resolver", resident, "MiB", Limit(200.0), note=note)
    yield Measure("memory", "shim", sum(map(dns_sides.resident_mib, side.others)), "MiB", note=note)


# --- what slices come to ------------------------------------------------------------------------------------


def _at_rate(bench: Bench, part: str, names: Sequence[str], rate: int) -> Slices:
    questions = bench.questions(dns_names.known)
    return bench.slices(part, names, lambda side: dns_runs.at_rate(side, questions, bench.plan.seconds, rate))


def _of(found: Slices, name: str, key: str) -> list[float]:
    return [one[key] for one in found[name]]


def _added(found: Slices, key: str) -> list[float]:
    return [
        ours - direct for ours, direct in zip(_of(found, OURS, key), _of(found, DIRECT, key), strict=True)
    ]


def _rates(part: str, found: Slices, kind: str = "") -> Iterator[Measure]:
    for name in found:
        yield measure.of_samples(part, f"queries a second{kind}: {name}", _of(found, name, "rate"), "/s")


def _ratio(part: str, found: Slices, name: str, other: str, at_least: int, kind: str = "") -> Measure:
    values, references = _of(found, name, "rate"), _of(found, other, "rate")
    limit = Limit(float(at_least), is_floor=True)
    return measure.of_pairs(part, f"{name}, against {other}{kind}", values, references, limit=limit)


def _latencies(part: str, found: Slices) -> Iterator[Measure]:
    for name in found:
        for key, what in (("median_ms", "median"), ("p99_ms", "p99")):
            yield Measure(part, f"{what}: {name}", statistics.median(_of(found, name, key)), "ms")


def _lost(part: str, found: Slices) -> Measure:
    return Measure(part, "lost", sum(_of(found, OURS, "lost")), "", _NONE)
