"""`lab.ruleset`: the kernel's own words, with whose policy each rule is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.runtime.lab import Lab

from .commands import invoke

pytestmark = pytest.mark.root


def part(lab: Lab, *pod: str) -> dict[str, Any]:
    done = invoke(lab, "lab.ruleset", *pod, "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["version"] == 1
    (found,) = value["parts"]
    return dict(found)


def rules(found: dict[str, Any], policy: str) -> list[dict[str, Any]]:
    """Those that carry out a rule of this policy."""
    every = (rule for chain in found["chains"] for rule in chain["rules"])
    return [rule for rule in every if any(place.startswith(policy) for place in rule["policies"])]


def test_a_pods_part_has_its_own_policy_and_no_other_pods_addresses(lab: Lab) -> None:
    found = part(lab, "frontend")
    (web,) = (rule for rule in rules(found, "default/frontend egress[3]") if rule["packets"] is not None)
    assert "tcp dport 8080" in web["text"]
    assert "accept" in web["text"]
    named = {one["says"] for one in found["sets"]}
    assert "fqdn:name:api.example.com." in named
    assert "fqdn:pattern:*.storage.example.net." not in named
    assert {"enforced", "v6_from"} <= set(found["member_of"])


def test_each_rule_of_a_pods_part_is_in_the_kernel_word_for_word(lab: Lab) -> None:
    listed = lab.node("node1").ruleset()
    for chain in part(lab, "batch")["chains"]:
        assert f"chain {chain['name']} {{" in listed
        for rule in chain["rules"]:
            assert rule["text"] in listed


def test_what_no_rule_allows_is_counted_where_it_is_dropped(lab: Lab) -> None:
    def dropped() -> int:
        every = (rule for chain in part(lab, "batch")["chains"] for rule in chain["rules"])
        return sum(rule["packets"] for rule in every if "no egress rule allows it" in rule["says"])

    before = dropped()
    lab.pod("batch").run(["curl", "-s", "-m", "1", "http://198.51.100.99/"])
    assert dropped() > before


def test_a_learned_address_is_in_the_set_of_its_name(lab: Lab) -> None:
    lab.pod("frontend").run(["dig", "+short", "shared.example.com"])
    sets = {one["says"]: one["elements"] for one in part(lab, "frontend")["sets"]}
    assert any(one.startswith("198.51.100.30 ") for one in sets["fqdn:name:shared.example.com."])


def test_a_pod_without_policy_meets_no_rule_of_one(lab: Lab) -> None:
    found = part(lab, "legacy")
    assert rules(found, "default/") == []
    assert {chain["about"] for chain in found["chains"]} >= {"what it sends", "what comes to it"}


def test_without_a_pod_it_is_the_whole_table_and_for_people_too(lab: Lab) -> None:
    whole = {chain["name"] for chain in part(lab)["chains"]}
    assert {chain["name"] for chain in part(lab, "frontend")["chains"]} < whole
    text = invoke(lab, "lab.ruleset", "frontend").stdout
    assert text.startswith("# default/frontend on node1\n")
    assert "# default/frontend egress[1] (frontend.yaml:33:7)" in text


def test_a_pod_that_is_not_there_is_said_to_be_so(lab: Lab) -> None:
    done = invoke(lab, "lab.ruleset", "nobody")
    assert (done.returncode, "no pod nobody" in done.stderr) == (2, True)
