"""The workflows: what runs on every change, and the topologies on kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.backends.kind import machine
from lab.cli import program

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github" / "workflows"


def workflow(name: str) -> dict[Any, Any]:
    return dict(yaml.safe_load((FOLDER / f"{name}.yml").read_text()))


def commands(name: str) -> str:
    """All that its jobs run."""
    jobs = workflow(name)["jobs"].values()
    return "\n".join(step.get("run", "") for job in jobs for step in job["steps"])


def test_the_kind_workflow_runs_on_three_versions_of_kubernetes_that_are_not_too_old() -> None:
    matrix = workflow("kind")["jobs"]["topologies"]["strategy"]["matrix"]["include"]
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", one["kind"]) for one in matrix)
    versions = [one["kubernetes"] for one in matrix]
    assert len({version.rpartition(".")[0] for version in versions}) == 3
    assert [machine.image(version) for version in versions] == [f"kindest/node:v{one}" for one in versions]


def test_what_the_kind_workflow_starts_is_there() -> None:
    steps = commands("kind")
    assert "--lab-backend kind" in steps
    for path in ("setup.sh", "tests/e2e/topologies"):
        assert path in steps
        assert (ROOT / path).exists()


def test_every_change_runs_what_the_readme_tells_people_to_run() -> None:
    readme, steps = (ROOT / "README.md").read_text(), commands("tests")
    for command in (
        "./setup.sh test",
        ".venv/bin/invoke test.all",
        "./setup.sh dev",
        ".venv/bin/invoke test.lint",
    ):
        assert command in readme
        assert command in steps


def test_every_task_that_a_workflow_calls_exists() -> None:
    ours = {*program.commands().task_names, "test.all", "test.lint"}
    called = {name for file in FOLDER.glob("*.yml") for name in re.findall(r"invoke (\S+)", file.read_text())}
    assert called <= ours


@pytest.mark.parametrize("name", ["kind", "tests"])
def test_what_root_wrote_is_made_readable_before_it_is_uploaded(name: str) -> None:
    """Files of a lab's are for root alone, and what uploads them runs as an ordinary user."""
    for job in workflow(name)["jobs"].values():
        before = ""
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/upload-artifact@"):
                assert re.search(rf"sudo chmod .*a\+r\S* {re.escape(step['with']['path'])}", before)
            before += step.get("run", "")


@pytest.mark.parametrize("name", ["kind", "tests"])
def test_it_may_read_and_no_more_and_runs_on_every_change(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    assert {"push", "pull_request"} <= found[True].keys()  # YAML 1.1 reads `on` as true
