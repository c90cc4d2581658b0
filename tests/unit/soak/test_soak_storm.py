"""What the soak makes of faults that could not be made."""

from __future__ import annotations

import math

import pytest

from lab.runtime.faults.model import AgentFault

from ...soak.agents import Storm
from ...soak.model import Disturbance, Weather
from ...soak.tally import Tally

HIT = Disturbance("resolver", "", "kill resolver --node node1", 0.0)
"""It began before the upgrade, and is not over."""


@pytest.mark.parametrize("agent", ["resolver", "shim"])
@pytest.mark.parametrize("hit", [False, True])
def test_an_upgrade_that_fails_is_a_violation_unless_its_agent_was_hit_meanwhile(
    agent: str, hit: bool
) -> None:
    weather = Weather()
    tally = Tally(1, weather.all)
    storm = Storm(weather, tally, until=math.inf)
    upgrade = AgentFault("upgrade", agent, "node1")  # type: ignore[arg-type]
    storm.observe(upgrade, "begins")
    if hit:
        weather.begins(HIT)
    storm.observe(upgrade, "fails")
    assert tally.faults[f"upgrade {agent}, not possible"] == 1
    assert tally.of("failed upgrades") == (0 if hit and agent == "resolver" else 1)
