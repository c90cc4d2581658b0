"""`lab.events`: what happened to a lab, told in the order in which it happened."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from lab.runtime.lab import Lab

from ...waiting import until
from .commands import REPOSITORY, argv, environment, invoke

pytestmark = pytest.mark.root

WRONG = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: wrong}\nspec: {egres: []}\n"


def events(lab: Lab) -> list[dict[str, Any]]:
    done = invoke(lab, "lab.events", "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(lab: Lab, event: str, **fields: str) -> list[dict[str, Any]]:
    return [one for one in events(lab) if one["event"] == event and fields.items() <= _texts(one).items()]


def _texts(one: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in one.items() if isinstance(value, str)}


def test_a_lab_tells_how_it_came_up_with_a_version_on_each_line(lab: Lab) -> None:
    found = events(lab)
    assert {one["version"] for one in found} == {1}
    assert [one["ts"] for one in found] == sorted(one["ts"] for one in found)
    told = [one["event"] for one in found if one.get("process", "node1/shim") == "node1/shim"]
    wanted = ["process.started", "service.started", "policy.committed", "lab.built"]
    assert [event for event in dict.fromkeys(told) if event in wanted] == wanted


def test_an_agent_that_is_killed_is_told_of_with_whoever_killed_it_and_its_return(lab: Lab) -> None:
    resolver = lab.process("node1/resolver")
    before = resolver.pid
    assert invoke(lab, "lab.fault", "kill", "resolver").returncode == 0
    until(lambda: resolver.pid not in (None, before))
    resolver.wait_ready()
    until(lambda: len(of(lab, "process.ready", process="node1/resolver")) == 2)
    told = [one for one in events(lab) if one.get("process") == "node1/resolver" or "fault" in one]
    assert [one["event"] for one in told][-4:] == [
        *("fault.begins", "process.ended", "process.started", "process.ready"),
    ]
    assert told[-4]["fault"] == "kill resolver --node node1"
    assert told[-3]["how"] == "signal SIGKILL"
    assert told[-2]["restarts"] == 1


def test_a_refused_policy_is_told_of_and_one_that_is_taken(lab: Lab) -> None:
    lab.write_manifest("wrong.yaml", WRONG)
    try:
        refused = until(lambda: of(lab, "policy.refused"))
        assert "egres" in json.dumps(refused[-1])
    finally:
        lab.remove_manifest("wrong.yaml")
    assert of(lab, "manifest.written", file="wrong.yaml")
    assert of(lab, "manifest.removed", file="wrong.yaml")


def test_a_mapping_is_told_of_by_both_agents_and_queries_are_not(lab: Lab) -> None:
    lab.pod("frontend").run(["dig", "+short", "dual.example.com"])
    until(lambda: of(lab, "mapping.committed", name="dual.example.com."))
    assert of(lab, "mapping.sent", name="dual.example.com.")
    assert not [one for one in events(lab) if one["event"].startswith("dns.")]


def test_followed_they_come_as_they_happen(lab: Lab) -> None:
    following = argv(lab, "lab.events", "--follow", "--last", "1")
    with subprocess.Popen(
        following, cwd=REPOSITORY, env=environment(lab), stdout=subprocess.PIPE, text=True
    ) as followed:
        assert followed.stdout is not None
        try:
            followed.stdout.readline()  # it follows from here on
            lab.pod("frontend").run(["dig", "+short", "shared.example.com"])
            while "shared.example.com → set +198.51.100.30 60 s" not in followed.stdout.readline():
                assert followed.poll() is None
        finally:
            followed.kill()


def test_a_number_that_is_none_is_said_to_be_so(lab: Lab) -> None:
    done = invoke(lab, "lab.events", "--last=-3")
    assert (done.returncode, "-3 is no number of events" in done.stderr) == (2, True)
