"""`python -m lab.bench.dns_part`: the DNS benchmark, in the namespaces that it was started in.

The request (`parts`, `plan`) comes on stdin and the measures go to stdout, as JSON; progress goes to stderr.
Files are made in memory, in this mount namespace only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.bench import dns_rows, dns_sides
from lab.bench.dns_plan import DNSPlan
from lab.bench.measure import Measure
from lab.errors import AcnsError
from lab.kernel import netns

_FOLDER = Path("/run")


def main() -> int:
    request = json.load(sys.stdin)
    try:
        netns.mount("tmpfs", str(_FOLDER), "tmpfs", netns.MS_NOSUID_NODEV_NOEXEC)
        measures = list(_measures(request["parts"], DNSPlan(**request["plan"])))
    except AcnsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    json.dump({"measures": [one.as_json() for one in measures]}, sys.stdout)
    return 0


def _measures(parts: list[str], plan: DNSPlan) -> Iterator[Measure]:
    with dns_sides.standing(_FOLDER, plan.pods) as sides:
        bench = dns_rows.Bench(plan, _FOLDER, sides)
        dns_rows.warmed(bench)
        for part in parts:
            yield from dns_rows.measures(part, bench)


if __name__ == "__main__":
    sys.exit(main())
