"""Somebody else changes the node's table: the shim notices, mends it and says so, and loses nothing learned.

What others do beside it, in tables of their own, is none of its business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from acns.datapath.selectors import LEARNED, element, selector_id
from acns.dns import pattern
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab

from .desk import Desk, policy
from .wire import NOERROR, Wire, query, rcode, seeded, until

pytestmark = pytest.mark.root

NAME, ADDRESS = "data.storage.example.net", "203.0.113.10"
SELECTOR = selector_id(pattern.match_pattern("*.storage.example.net"))


@pytest.fixture
def node(own_quickstart: Lab) -> Iterator[NodeHandle]:
    """The node after `batch` has learned a name, and as it was, rules and counts apart, in the end."""
    rng = seeded()
    with Wire(own_quickstart, "batch", rng) as wire:
        assert rcode(wire.ask(wire.cluster_dns, query(NAME, ident=rng.getrandbits(16)))) == NOERROR
    with Desk.of(own_quickstart) as desk:
        assert ADDRESS in learned(desk.node)
        yield desk.node


def nft(node: NodeHandle, command: str) -> str:
    done = node.run(["nft", *command.split()])
    assert done.returncode == 0, done.stderr
    return done.stdout


def learned(node: NodeHandle) -> str:
    """The learned set as nft prints it; empty while there is none."""
    return node.run(["nft", "list", "set", "inet", "acns", LEARNED]).stdout


def drifts(node: NodeHandle) -> int:
    """How often the shim has mended the table, by its own count."""
    lines = node.shim.http_get("/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("acns_kernel_drifts_total ")).split()[1]))


def reports(node: NodeHandle) -> list[dict[str, Any]]:
    lines = map(json.loads, node.shim.log_file.read_text().splitlines())
    return [line for line in lines if line["event"] == "kernel drift repaired"]


def test_a_table_that_is_deleted_comes_back_with_what_was_learned(node: NodeHandle) -> None:
    before = drifts(node)
    nft(node, "delete table inet acns")
    until(lambda: ADDRESS in learned(node), "the table is back, and the address in it")
    until(lambda: drifts(node) == before + 1, "it is counted")


def test_a_rule_that_is_added_is_taken_away_and_said(node: NodeHandle) -> None:
    before, said = drifts(node), len(reports(node))
    nft(node, "insert rule inet acns pre_pods accept comment intruder")
    until(lambda: "intruder" not in node.ruleset(), "the rule is gone")
    until(lambda: drifts(node) == before + 1, "it is counted")
    assert any("pre_pods" in line for line in reports(node)[said]["first"])


def test_an_address_taken_from_a_set_of_the_shims_is_put_back(node: NodeHandle) -> None:
    nft(node, "flush set inet acns cluster_addrs")
    until(lambda: "10.244.0.53" in nft(node, "list set inet acns cluster_addrs"), "the addresses are back")


def test_the_learned_set_has_its_addresses_back_when_it_was_flushed_and_it_is_said(node: NodeHandle) -> None:
    before, said = drifts(node), len(reports(node))
    nft(node, f"flush set inet acns {LEARNED}")
    until(lambda: ADDRESS in learned(node), "the address is back")
    until(lambda: drifts(node) == before + 1, "it is counted")
    assert reports(node)[said]["first"] == [f"put back: {ADDRESS} of pattern:*.storage.example.net."]


@pytest.mark.parametrize("of", [SELECTOR, "fqdn_0102030405"], ids=["a selector", "no selector"])
def test_an_address_that_nobody_learned_is_taken_out_of_the_learned_set(node: NodeHandle, of: str) -> None:
    before = drifts(node)
    nft(node, f"add element inet acns {LEARNED} {{ {element(of, '198.51.100.99')} }}")
    until(lambda: "198.51.100.99" not in learned(node), "it is gone")
    until(lambda: drifts(node) == before + 1, "it is counted")
    assert ADDRESS in learned(node)


def test_what_others_commit_in_tables_of_their_own_is_no_drift(node: NodeHandle, own_quickstart: Lab) -> None:
    before = drifts(node)
    nft(node, "add table inet others")
    own_quickstart.write_manifest("new.yaml", policy("new", asks=[NAME]))
    own_quickstart.wait_settled()
    nft(node, "delete table inet others")
    own_quickstart.remove_manifest("new.yaml")
    own_quickstart.wait_settled()
    assert drifts(node) == before


def test_its_own_commits_and_a_restart_are_no_drift(node: NodeHandle, own_quickstart: Lab) -> None:
    rng = seeded()
    with Wire(own_quickstart, "batch", rng) as wire:
        for _ in range(3):
            wire.ask(wire.cluster_dns, query("logs.storage.example.net", ident=rng.getrandbits(16)))
    own_quickstart.write_manifest("new.yaml", policy("new", asks=[NAME]))
    own_quickstart.wait_settled()
    said = len(reports(node))
    node.shim.kill()
    until(lambda: node.shim.restarts, "the shim is back")
    node.shim.wait_ready()
    own_quickstart.remove_manifest("new.yaml")
    own_quickstart.wait_settled()
    assert drifts(node) == 0
    assert len(reports(node)) == said
