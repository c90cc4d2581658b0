"""What `bench.lab` measures, and how often."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PARTS = ("network", "life", "list")


@dataclass(frozen=True, slots=True)
class LabPlan:
    """One run. The limits are meant for the sizes of `FULL`."""

    pods: int = 100
    """On one node; Mininet gets as many hosts."""
    many_pods: int = 500
    """On as many nodes as they need: a node has room for 253."""
    rounds: int = 5
    lives: int = 5
    lists: int = 15

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


FULL = LabPlan()
QUICK = LabPlan(rounds=2, lives=2, lists=5)
