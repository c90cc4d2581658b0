"""How much of the DNS benchmark is run: parts, rounds, seconds, names, pods."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PARTS = ("known", "fresh", "slow", "fast", "new", "denied", "tcp", "pods", "overload", "memory")


@dataclass(frozen=True, slots=True)
class DNSPlan:
    """One run."""

    rounds: int = 7
    """How often each contender is measured in each part, in turn with the others."""
    seconds: float = 4.0
    """One slice of load."""
    names: int = 1_000
    new_names: int = 3_000
    """In one slice."""
    cached_names: int = 100_000
    pods: int = 250
    seed: int = 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


FULL = DNSPlan()
QUICK = DNSPlan(rounds=2, seconds=1.0, new_names=300, cached_names=5_000, pods=50)
