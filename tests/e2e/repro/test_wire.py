"""Recorded packets, sent as they are: every octet is kept, and what comes of them is what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.repro.importing import given, importer
from lab.repro.running import order
from lab.repro.running.in_lab import Stage
from lab.repro.running.order import Found
from lab.repro.scenario.model import FIRST_NODE, Scenario

from . import odd_packets
from .recording import tcpdump

pytestmark = pytest.mark.root


class Recorded:
    """Sent once while tcpdump listened on the node."""

    def __init__(self, stage: Stage, capture: Path) -> None:
        self.stage = stage
        with tcpdump(stage.lab.node(FIRST_NODE), capture):
            self.found = stage.run(by_wire=True)
        policies = stage.scenario.policies
        pods = {pod.address: pod for pod in stage.scenario.pods if pod.address}
        about = given.Given(pods=pods, policies=policies, objects=given.objects_of(policies))
        self.imported = importer.imported(capture, about, "odd-packets")

    def again(self, steps: Scenario, *, by_wire: bool = True) -> list[Found]:
        """With what the capture says of each step as recorded."""
        outcomes = [step.outcome for step in self.imported.steps]
        told = [
            one.model_copy(update={"outcome": out}) for one, out in zip(steps.steps, outcomes, strict=True)
        ]
        return self.stage.run(other=steps.model_copy(update={"steps": tuple(told)}), by_wire=by_wire)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with Stage.up(odd_packets.story()) as stage:
        yield Recorded(stage, tmp_path_factory.mktemp("wire") / "any.pcap")


def test_the_import_keeps_every_octet_of_what_no_step_says(recorded: Recorded) -> None:
    made, story = recorded.imported, odd_packets.story()
    assert [step.wire for step in made.steps] == [step.wire for step in story.steps]
    assert [step.kind for step in made.steps] == ["ask", "ask", "ask", "wire", "wire", "wire"]
    assert any("no step can say" in one for one in made.assumptions)


def test_what_is_imported_is_what_came_of_them(recorded: Recorded) -> None:
    outcomes = [step.outcome for step in recorded.imported.steps]
    assert outcomes[0] == outcomes[2] == f"NOERROR {odd_packets.OPEN}"
    assert outcomes[3:] == ["silent held", "silent held", "silent forwarded"]
    assert outcomes == [one.outcome for one in recorded.found]


def test_the_same_comes_of_the_recorded_packets_again(recorded: Recorded) -> None:
    found = recorded.again(odd_packets.story())
    assert order.first_difference(found) is None
    assert not any(one.outcome == order.NOT_PLAYED for one in found)


def test_one_octet_that_differs_shows(recorded: Recorded) -> None:
    story = odd_packets.story()
    plain = odd_packets.as_hex(odd_packets.segment("S", port=41_003, ident=703))
    steps = [*story.steps]
    steps[3] = steps[3].model_copy(update={"wire": tuple(plain)})
    different = order.first_difference(recorded.again(story.model_copy(update={"steps": tuple(steps)})))
    assert different is not None
    assert (different.number, different.outcome) == (4, "rst forwarded")


def test_without_the_wire_what_only_packets_say_is_not_played(recorded: Recorded) -> None:
    found = recorded.again(odd_packets.story(), by_wire=False)
    assert [one.outcome for one in found[3:]] == [order.NOT_PLAYED] * 3
    assert all(one.agrees for one in found[3:])
