"""What is said of a policy that should be refused."""

from __future__ import annotations

import pytest

from lab.runtime.outside import policy_row
from lab.runtime.truth import unexpected_errors
from lab.spec.expect import PolicyExpectation
from lab.spec.status import Status
from lab.spec.topology import Topology

WANTED = PolicyExpectation("p.yaml", "is refused")
SAID = "/run/lab/manifests/p.yaml:3:5: http is refused (say it otherwise)"


@pytest.mark.parametrize(
    ("problems", "actual", "ok"),
    [
        ([[SAID]], "refused", True),
        ([[SAID], [SAID]], "refused", True),
        ([[SAID], []], "refused for another reason", False),
        ([[SAID, SAID.replace("3:5", "9:5")], []], "refused for another reason", False),
        ([["p.yaml:3:5: unknown field 'x'"]], "refused for another reason", False),
        ([[]], "accepted", False),
        ([["other.yaml:3:5: http is refused"]], "accepted", False),
        ([["p.yaml:3:5: warning: what is refused"]], "accepted", False),
    ],
)
def test_a_policy_is_refused_where_every_shim_says_so(
    problems: list[list[str]], actual: str, ok: bool
) -> None:
    row = policy_row(WANTED, problems)
    assert (row.actual, row.ok) == (actual, ok)


def test_errors_that_a_statement_expects_are_no_surprise() -> None:
    topology = Topology.model_validate({"name": "t", "nodes": [], "expect": [str(WANTED)]})
    problems = (SAID, "/x/q.yaml:1:1: wrong", "/x/p.yaml:9:9: warning: doubtful")
    assert unexpected_errors(topology, Status("l", "t", (), (), problems=problems, errors=2)) == 1
