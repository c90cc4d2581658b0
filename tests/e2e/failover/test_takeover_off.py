"""Takeover off, as the real service is: new addresses wait for the shim, and need no second query then."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.runtime.lab import Lab

from ..pair.probes import happens

pytestmark = pytest.mark.root

NAME, ADDRESS = "other.example.com", "198.51.100.20"
PATIENCE_S = 20.0


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Both shims are down, and node2 does without takeover."""
    made = Lab.up("failover", name=f"t{os.getpid()}-takeover-off")
    try:
        yield made
    finally:
        made.down()


def test_a_new_address_waits_in_the_journal_and_opens_when_the_shim_is_back(lab: Lab) -> None:
    node, pod = lab.node("node2"), lab.pod("app-2")
    assert ADDRESS in pod.run(["dig", "+short", NAME], 20).stdout
    assert ADDRESS not in node.ruleset()
    assert node.resolver.http_get("/readyz").json()["mappings_waiting"] == 1
    node.resolver.kill()  # what it was to tell is on disk, and is told by the next one
    node.resolver.wait_ready()
    node.shim.start()
    assert happens(lambda: ADDRESS in node.ruleset(), PATIENCE_S)
    queries = lab.internet.query_log.read_text()
    assert queries.count(f"{NAME}.") == 1, queries
