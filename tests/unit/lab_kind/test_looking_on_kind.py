"""What a lab on kind is found to be: whose problems are whose, and when all is judged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.backends.kind import asking, looking, store
from lab.backends.kind.kind_lab import KindLab
from lab.runtime.truth import unexpected_errors
from lab.spec.load import find_topology, load_topology
from lab.spec.status import Status
from lab.spec.topology import Topology

from .conftest import PODS, SHIM_SAYS, Desk, pod

HTTP = "CiliumNetworkPolicy default/http spec.egress[0]: L7 rules other than DNS are refused here"
ODD = "CiliumNetworkPolicy default/odd: is odd"
DOUBTFUL = "CiliumNetworkPolicy default/http: warning: is doubtful"
CNP = "kubectl get ciliumnetworkpolicies.cilium.io"


@pytest.fixture
def lab(desk: Desk) -> KindLab:
    made = KindLab(store.of("demo"), load_topology(find_topology("quickstart")))
    made.up()
    return made


def test_what_the_shims_of_several_nodes_say_of_one_object_is_one_error(desk: Desk, lab: KindLab) -> None:
    more = pod("acns-system", "acns-shim-ccccc", "demo-worker", "172.18.0.2")
    desk.say("kubectl get pods -A", stdout=json.dumps({"items": [*PODS, more]}))
    said = {**SHIM_SAYS, "problems": [HTTP, ODD, DOUBTFUL], "errors": 2}
    desk.say("kubectl exec acns.telemetry.probe", stdout=json.dumps(said))
    found = lab.status()
    assert len([one for one in found.nodes if one.agents[0].health == "ready"]) == 2
    assert (found.problems, found.errors) == ((HTTP, ODD, DOUBTFUL), 2)


@pytest.mark.parametrize(
    ("seen", "actual", "ok"),
    [
        ("redirected", "uses resolver", True),
        ("tracked", "bypasses resolver", False),
        ("", "seen by nobody", False),
    ],
)
def test_whose_queries_the_resolver_takes_is_told_by_what_the_node_has_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, seen: str, actual: str, ok: bool
) -> None:
    monkeypatch.setattr(asking, "_RETRY_S", 0.0)
    wanted = load_topology(find_topology("quickstart")).model_copy(
        update={"expect": ("frontend uses resolver",)}
    )
    made = KindLab(store.of("demo"), wanted)
    made.up()
    desk.say("kubectl exec lab.world.one_query", stdout='{"server": "10.96.0.10", "port": 40000}\n')
    desk.say("docker exec --interactive demo-control-plane sh", stdout=f"{seen}\n")
    desk.forget()
    (row,), left_out = made.check()
    assert (row.expected, row.actual, row.ok) == ("uses resolver", actual, ok)
    assert left_out == []
    (query,) = desk.calls("kubectl", "exec", "frontend", "lab.world.one_query")
    script = desk.calls("docker", "exec", "demo-control-plane", "sh")[0]["stdin"]
    for part in (query["argv"][-1], "10.244.0.7", "40000", "/run/acns/resolver-journal.jsonl"):
        assert part in script


def test_without_a_journal_nobody_can_say_whose_queries_the_resolver_takes(desk: Desk) -> None:
    quickstart = load_topology(find_topology("quickstart"))
    quiet = [node.model_copy(update={"resolver": {"journal_file": ""}}) for node in quickstart.nodes]
    wanted = quickstart.model_copy(update={"expect": ("frontend uses resolver",), "nodes": tuple(quiet)})
    rows, left_out = KindLab(store.of("demo"), wanted).check()
    assert rows == []
    assert "keeps no journal" in left_out[0]


@pytest.mark.parametrize(
    ("problems", "unexpected"),
    [
        ([HTTP], 0),
        ([HTTP, HTTP.replace("[0]", "[1]")], 0),
        ([HTTP, ODD], 1),
        ([ODD], 1),
        ([HTTP, DOUBTFUL], 0),
    ],
)
def test_an_error_of_an_object_is_expected_where_that_of_its_file_is(
    problems: list[str], unexpected: int
) -> None:
    policy = "kind: CiliumNetworkPolicy\nmetadata: {name: http}\n"
    wanted = {"policies": [{"inline": policy}], "expect": ["policy inline-1.yaml refused L7 rules"]}
    topology = Topology.model_validate({"name": "t", "nodes": [], **wanted})
    errors = len([one for one in problems if one != DOUBTFUL])
    found = Status("l", "t", (), (), problems=tuple(problems), errors=errors)
    assert unexpected_errors(topology, found) == unexpected


@pytest.mark.parametrize(
    ("generation", "condition", "settled"),
    [
        (2, {}, True),  # Cilium's own definition has no such field
        (2, {"observedGeneration": 2}, True),
        (2, {"observedGeneration": 1}, False),
    ],
)
def test_a_policy_is_judged_when_its_condition_is_about_it_as_it_is_now(
    desk: Desk, lab: KindLab, generation: int, condition: dict[str, Any], settled: bool
) -> None:
    item = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "frontend", "namespace": "default", "generation": generation},
        "status": {"conditions": [{"type": "Valid", "status": "True", **condition}]},
    }
    desk.say(CNP, stdout=json.dumps({"items": [item]}))
    assert looking.is_settled(lab) == settled
