"""`invoke bench.dns`: the resolver beside no proxy at all, dnsdist, and dnsmasq with nftset.

Everything runs in namespaces that end with it. Speed is measured and not tested: the exit code says that the
measuring went well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from acns.located import did_you_mean
from lab.bench import dns_plan, dns_sides, isolation, machine, report
from lab.bench.dns_plan import DNSPlan
from lab.bench.measure import Measure
from lab.errors import InputError

_MODULE = "lab.bench.dns_part"


def run(*, as_json: bool, quick: bool = False, only: str = "", seed: int = 1) -> int:
    """Measure and print. `only`: names of parts with commas between; all without."""
    plan = replace(dns_plan.QUICK if quick else dns_plan.FULL, seed=seed)
    parts = chosen(only)
    dns_sides.missing()
    found, measures = machine.facts(), measured(plan, parts)
    if as_json:
        result = {
            "version": report.FORMAT_VERSION,
            "machine": asdict(found),
            "plan": plan.as_json(),
            "measures": [one.as_json() for one in measures],
        }
        print(json.dumps(result, indent=2))
    else:
        headline = f"{plan.rounds} rounds of {plan.seconds:g} s, {plan.names} names, {plan.pods} pods"
        report.print_measures(found, f"{headline}, seed {plan.seed}", measures)
    return 0


def chosen(only: str) -> tuple[str, ...]:
    """The parts that are asked for, in the order in which they run. Raises InputError."""
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    for name in sorted(wanted - set(dns_plan.PARTS)):
        raise InputError(f"there is no part {name}", hint=did_you_mean(name, dns_plan.PARTS))
    return tuple(name for name in dns_plan.PARTS if not wanted or name in wanted)


def measured(plan: DNSPlan, parts: Sequence[str]) -> list[Measure]:
    """The parts' measures, on this machine."""
    answer = isolation.run(_MODULE, {"parts": list(parts), "plan": plan.as_json()})
    return [Measure.from_json(values) for values in answer["measures"]]
