"""The workflow that runs the topologies on kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lab.backends.kind import machine

ROOT = Path(__file__).parents[3]
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "kind.yml").read_text())
JOB = WORKFLOW["jobs"]["topologies"]


def test_it_runs_on_three_versions_of_kubernetes_that_are_not_too_old() -> None:
    versions = JOB["strategy"]["matrix"]["kubernetes"]
    assert len({version.rpartition(".")[0] for version in versions}) == 3
    assert [machine.image(version) for version in versions] == [f"kindest/node:v{one}" for one in versions]


def test_what_it_starts_is_there() -> None:
    steps = "\n".join(step.get("run", "") for step in JOB["steps"])
    assert "--lab-backend kind" in steps
    for path in ("setup.sh", "tests/e2e/topologies"):
        assert path in steps
        assert (ROOT / path).exists()


def test_it_may_read_and_no_more() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
