"""From a capture to a failing test: recorded in a lab with a faulty agent, imported, run, compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.order import Agents
from lab.report import bundle
from lab.repro import saved
from lab.repro.importing import bundles, given, importer
from lab.repro.running import order
from lab.repro.running.in_lab import Stage
from lab.repro.running.order import Found
from lab.repro.scenario import load
from lab.repro.scenario.model import FIRST_NODE, Scenario

from .faults import FAULTS, STORIES
from .recording import tcpdump

pytestmark = pytest.mark.root

NAME = "truncated-then-tcp"
REGRESSIONS = Path(__file__).parents[2] / "regressions"


class Recorded:
    """A story played once with its faulty agent: the capture, the bundle, and what clients saw."""

    def __init__(self, folder: Path) -> None:
        self.story = load.load(STORIES / f"{NAME}.yaml")
        self.capture, self.bundle = folder / "any.pcap", folder / "bundle.zip"
        with Stage.up(self.story, FAULTS[NAME]) as stage:
            with tcpdump(stage.lab.node(FIRST_NODE), self.capture):
                self.found = stage.run()
            bundle.write(stage.lab, self.bundle)

    @property
    def imported(self) -> Scenario:
        policies = self.story.policies
        about = given.Given(policies=policies, objects=given.objects_of(policies))
        return importer.imported(self.capture, about, NAME)

    @property
    def from_bundle(self) -> Scenario:
        return bundles.imported(self.bundle, given.Given(), NAME)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def right(recorded: Recorded) -> Iterator[Stage]:
    """The imported scenario's lab, with the right agents."""
    with Stage.up(recorded.imported) as stage:
        yield stage


def outcomes(found: list[Found]) -> list[str]:
    return [one.outcome for one in found]


def test_what_is_imported_is_what_clients_saw(recorded: Recorded) -> None:
    assert [step.outcome for step in recorded.imported.steps] == outcomes(recorded.found)
    assert outcomes(recorded.found) == ["NOERROR tc", "NOERROR 198.51.100.41", "silent"]


def test_a_bundle_imports_with_nothing_to_infer(recorded: Recorded) -> None:
    made = recorded.from_bundle
    assert [step.outcome for step in made.steps] == outcomes(recorded.found)
    assert [(pod.name, pod.labels) for pod in made.pods] == [("client", {"app": "client"})]
    assert [policy.text for policy in made.policies] == [policy.text for policy in recorded.story.policies]
    assert not any("because it asks" in one for one in made.assumptions)


def test_the_right_agents_differ_at_the_step_that_was_wrong(right: Stage) -> None:
    different = order.first_difference(right.run())
    assert different is not None
    assert (different.number, different.recorded, different.outcome) == (3, "silent", "established")


def test_a_lab_begins_each_run_as_new(right: Stage) -> None:
    assert outcomes(right.run()) == outcomes(right.run())


def test_reasons_are_the_agents_own_words(right: Stage) -> None:
    why = [one.why for one in right.run()]
    assert "resolver: learned" in why[1]
    assert "big.example.com. → 198.51.100.41 committed" in why[2]


@pytest.mark.parametrize("name", FAULTS)
def test_a_saved_regression_fails_on_the_faulty_version(name: str) -> None:
    scenario, expected = saved.read(REGRESSIONS / name)
    assert expected is not None
    with Stage.up(scenario, FAULTS[name]) as stage:
        found = stage.run()
    assert order.first_difference(found) is None, "the fault does not show"
    assert order.first_difference(saved.judged(found, expected)) is not None


def test_each_known_fault_has_its_regression_of_less_than_60_lines() -> None:
    lines = {name: (REGRESSIONS / name / saved.SCENARIO).read_text().count("\n") for name in FAULTS}
    assert all(count < 60 for count in lines.values()), lines
    assert all(agents != Agents() for agents in FAULTS.values())
