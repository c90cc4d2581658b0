"""`invoke bench.kubernetes`: what a large cluster's API server costs the shim of one node.

Synthetic: the objects and the stream are made up (`kube_cluster`), at real sizes; the shim, its connection,
its kernel are real. Speed is measured and not tested: the exit code says that the measuring went well.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec

from lab.bench import isolation, machine, report
from lab.bench.kube_cluster import KubeScale
from lab.bench.measure import Measure
from lab.errors import EnvironmentFault

_MODULE = "lab.bench.kube_part"
QUICK = KubeScale(pods=2_000, nodes=20, policies=200, local=20, seconds=10)


def run(*, as_json: bool, quick: bool = False, pods: int = 0) -> int:
    """Measure and print; `pods` other than 0: so many, and nodes in proportion."""
    if not find_spec("aiohttp"):
        raise EnvironmentFault("the synthetic API server needs aiohttp", hint="./setup.sh test installs it")
    scale = QUICK if quick else KubeScale()
    if pods:
        scale = KubeScale(pods=pods, nodes=max(1, pods // 100))
    found = machine.facts()
    answer = isolation.run(_MODULE, scale.as_json())
    measures = [Measure.from_json(values) for values in answer["measures"]]
    if as_json:
        result = {
            "version": report.FORMAT_VERSION,
            "machine": asdict(found),
            "plan": scale.as_json(),
            "measures": [one.as_json() for one in measures],
        }
        print(json.dumps(result, indent=2))
    else:
        headline = (
            f"{scale.pods} pods, {scale.local} of them here, {scale.nodes} nodes, {scale.policies} policies; "
            f"{scale.events_per_s} events a second for {scale.seconds} s"
        )
        report.print_measures(found, headline, measures)
    return 0
