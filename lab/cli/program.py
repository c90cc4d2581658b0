"""The commands as one collection, and `acns-lab`: invoke with that collection, wherever it is called.

Thin on purpose; what the commands do is in `lab.runtime.commands` and its like. Imports stand inside the
tasks so that listing them is instant. An argument with a default is never positional in invoke, so what comes
first on the line has none.
"""

from __future__ import annotations

from importlib import metadata

from invoke.collection import Collection
from invoke.program import Program

from lab.cli import bench, labs, policy, repro, seeing, unreadable


def commands() -> Collection:
    """`lab.…`, `policy.…`, `bench.…` and `repro.…`."""
    unreadable.install()
    found = Collection()
    found.add_collection(_lab(), name="lab")
    found.add_collection(_bench(), name="bench")
    found.add_collection(
        Collection("policy", policy.explain, policy.matrix, policy.validate, policy.schema), name="policy"
    )
    found.add_collection(repro.repro, name="repro")
    return found


def main() -> None:
    """`acns-lab`."""
    Program(
        name="acns-lab", binary="acns-lab", version=metadata.version("acns-lab"), namespace=commands()
    ).run()


def _bench() -> Collection:
    return Collection(
        "bench",
        bench.bench_policy,
        bench.bench_dns,
        bench.bench_lab,
        bench.bench_capture,
        bench.bench_kubernetes,
    )


def _lab() -> Collection:
    return Collection(
        "lab",
        labs.up,
        labs.down,
        labs.gc,
        labs.status,
        labs.execute,
        labs.shell,
        labs.check,
        labs.fault,
        labs.doctor,
        labs.list_labs,
        labs.validate_topologies,
        labs.topology_schema,
        seeing.logs,
        seeing.observe,
        seeing.events,
        seeing.capture,
        seeing.bundle,
        seeing.graph,
        seeing.cache,
        seeing.ruleset,
    )
