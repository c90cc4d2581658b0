"""A storm: one fault after the other and beside each other, drawn from a seed; the same seed, the same storm.

Pure: time is seconds from the storm's beginning. Nothing happens twice at once to the same agent, server or
link, and everything is well again when the storm is over.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lab.runtime.faults.model import AgentFault, Fault, LinkFault, UpstreamFault
from lab.spec.topology import AGENTS
from lab.world import dns_fault

CALM_S: Final = 3.0
"""At the end of a storm nothing begins any more."""
_PAUSE_S: Final = (0.2, 2.0)
_LASTING_S: Final = (0.5, 4.0)
_RECOVERY_S: Final = 1.5
"""A target is left in peace for so long after a fault."""
_UPSTREAM_DELAY_S: Final = (0.2, 2.0)
_SHARE: Final = (0.05, 0.4)


@dataclass(frozen=True, slots=True)
class Targets:
    """What a storm may hit: nodes by name, DNS servers and links by place."""

    nodes: Sequence[str]
    servers: Sequence[str]
    links: Sequence[str]


@dataclass(frozen=True, slots=True)
class Step:
    """`fault` begins at `at_s`; one that lasts is mended at `until_s`."""

    at_s: float
    until_s: float
    fault: Fault

    def __str__(self) -> str:
        lasting = f" --for {self.until_s - self.at_s:.1f}" if self.fault.lasts else ""
        return f"{self.at_s:7.1f} s  {self.fault}{lasting}"


def storm(seed: int, duration_s: float, targets: Targets) -> list[Step]:
    """The steps of a storm, in order of their beginning."""
    rng = random.Random(seed)
    free_at: dict[str, float] = {}
    return list(_steps(rng, duration_s - CALM_S, targets, free_at))


def _steps(rng: random.Random, last_s: float, targets: Targets, free_at: dict[str, float]) -> Iterator[Step]:
    at_s = rng.uniform(*_PAUSE_S)
    while at_s < last_s:
        target, fault = _draw(rng, targets)
        until_s = min(at_s + rng.uniform(*_LASTING_S), last_s)
        if free_at.get(target, 0.0) <= at_s:
            free_at[target] = until_s + _RECOVERY_S
            yield Step(round(at_s, 1), round(until_s, 1), fault)
        at_s += rng.uniform(*_PAUSE_S)


def _draw(rng: random.Random, targets: Targets) -> tuple[str, Fault]:
    """What is hit, and with what."""
    kind = rng.choice(("agent", "agent", "upstream", "link"))
    share = round(rng.uniform(*_SHARE), 2)
    if kind == "upstream" and targets.servers:
        place = rng.choice(targets.servers)
        delay_s = round(rng.uniform(*_UPSTREAM_DELAY_S), 1)
        return f"upstream {place}", UpstreamFault(rng.choice(dns_fault.MODES), place, delay_s, share)
    if kind == "link" and targets.links:
        place = rng.choice(targets.links)
        return f"link {place}", LinkFault(rng.choice(("down", "lossy")), place, share)
    node, agent = rng.choice(targets.nodes), rng.choice(AGENTS)
    return f"{node}/{agent}", AgentFault(rng.choice(("kill", "stop", "hang", "upgrade")), agent, node)
