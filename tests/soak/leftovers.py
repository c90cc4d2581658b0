"""What a soak may leave behind while its lab still runs: processes, and what the agents hold on to."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping

from . import agents

MARK = "ACNS_SOAK_RUN"
"""Every process of the lab inherits it: so it is seen what is left."""
MEMORY_GROWTH_MIB, MEMORY_MOST_MIB, DESCRIPTORS_GROWTH = 48, 400, 48
_PATIENCE_S = 3.0

Costs = Mapping[str, int]


def processes() -> list[str]:
    """Of this run, by name."""
    return agents.ours(agents.processes(f"{MARK}={os.environ[MARK]}"))


def more_processes(before: list[str]) -> str:
    """What is wrong when there are more than before after a while; empty when there are not."""
    deadline = time.monotonic() + _PATIENCE_S
    while len(found := processes()) > len(before):
        if time.monotonic() > deadline:
            return f"{len(before)} processes became {len(found)}: {found}"
        time.sleep(0.05)
    return ""


def grown(before: Costs, worst: Costs, after: Costs) -> Iterator[str]:
    """What there is more of than there may be."""
    for what, size in after.items():
        if size > _allowed(what, before.get(what, 0)) or worst.get(what, 0) > _most(what):
            yield what


def _allowed(what: str, before: int) -> int:
    """How much there may be in the end."""
    match what.partition(" ")[2]:
        case "memory MiB":
            return before + MEMORY_GROWTH_MIB
        case "descriptors":
            return before + DESCRIPTORS_GROWTH
        case "logs":
            return max(before, 1)
    return before


def _most(what: str) -> float:
    """How much there may be at any time."""
    return MEMORY_MOST_MIB if what.endswith("MiB") else math.inf
