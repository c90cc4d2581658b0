"""`python -m lab.bench.part`: one part of the benchmark, in the namespaces that it was started in.

The request (`part`, `plan`) comes on stdin and the measures go to stdout, as JSON; progress goes to stderr.
Files are made in memory, in this mount namespace only: no disk is measured, and nothing is left on one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from lab.bench.measure import Measure
from lab.bench.plans import Plan
from lab.errors import AcnsError
from lab.kernel import netns

_FOLDER = Path("/run")

Part = Callable[[Plan, Path], Iterable[Measure]]


def main() -> int:
    request = json.load(sys.stdin)
    try:
        netns.mount("tmpfs", str(_FOLDER), "tmpfs", netns.MS_NOSUID_NODEV_NOEXEC)
        measures = list(_part(request["part"])(Plan.from_json(request["plan"]), _FOLDER))
    except AcnsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    json.dump({"measures": [one.as_json() for one in measures]}, sys.stdout)
    return 0


def _part(name: str) -> Part:
    """Imported one by one: what a part does not need shall not weigh on it."""
    match name:
        case "load":
            from lab.bench import load

            return load.measures
        case "increments":
            from lab.bench import increments

            return increments.measures
        case "mappings":
            from lab.bench import mappings

            return mappings.measures
        case "datapath":
            from lab.bench import datapath

            return datapath.measures
        case _:
            from lab.bench import curve

            return curve.measures


if __name__ == "__main__":
    sys.exit(main())
