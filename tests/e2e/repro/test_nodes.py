"""Scenarios of several nodes: each has its own agents, which learn, are recorded, and die by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.report import bundle
from lab.repro.importing import bundles, given
from lab.repro.running import order, pure
from lab.repro.running.in_lab import Stage
from lab.repro.running.order import Found
from lab.repro.scenario.model import Scenario, Step

from ...unit.lab_repro.scenes import learned_on_each

pytestmark = pytest.mark.root


def story() -> Scenario:
    scene = learned_on_each()
    killed = Step(at_ms=400, fault="kill resolver --node east", after=5)
    return scene.model_copy(update={"steps": (*scene.steps, killed)})


class Played:
    """Once in a lab; its bundle."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        restarts = self._restarts()
        self.found: list[Found] = stage.run()
        self.restarted = {node: after - restarts[node] for node, after in self._restarts().items()}
        bundle.write(stage.lab, folder / "bundle.zip")
        self.imported = bundles.imported(folder / "bundle.zip", given.Given(), "nodes")

    def _restarts(self) -> dict[str, int]:
        return {node.name: node.resolver.restarts for node in self.stage.lab.nodes}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with Stage.up(story()) as stage:
        yield Played(stage, tmp_path_factory.mktemp("nodes"))


def test_a_lab_and_the_model_agree_on_what_is_of_a_node(played: Played) -> None:
    assert order.first_difference(played.found) is None
    assert [one.outcome for one in played.found] == [one.outcome for one in pure.run(story())]


def test_a_fault_is_of_the_node_that_it_names(played: Played) -> None:
    assert played.restarted == {"west": 0, "east": 1}


def test_reasons_are_of_the_pods_own_node(played: Played) -> None:
    """What the first node's have committed before says nothing of the second's."""
    assert "ms before this" in played.found[1].why
    assert "ms after this" in played.found[2].why


def test_a_bundle_imports_with_its_nodes(played: Played) -> None:
    made, given_ = played.imported, story()
    assert made.nodes == given_.nodes
    assert {(pod.name, pod.node) for pod in made.pods} == {(pod.name, pod.node) for pod in given_.pods}
    assert [step.outcome for step in made.steps] == [step.outcome for step in given_.steps]
    assert [step.fault for step in made.steps if step.fault] == ["kill resolver --node east"]


def test_each_run_begins_as_new_on_every_node(played: Played) -> None:
    assert order.first_difference(played.stage.run()) is None
