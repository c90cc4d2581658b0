"""Policies mean what Cilium says they mean: the compiled ruleset against an interpreter of the policies.

Clusters, policies and packets are generated; `tests/oracle/semantics.py` says what should become of each
packet, the product's whole pure path says what does: manifests, resolving, ruleset, policy stream. A
disagreement is shown as the smallest manifests file that has it, and a packet. In CI always the same
cases; `ACNS_ORACLE_EXAMPLES=5000` runs that many clusters that nobody has seen.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ..oracle.census import CONSTRUCTS
from ..oracle.cluster import Cluster, Packet
from ..oracle.compare import Enforce, Tally, difference, smallest_file
from ..oracle.explained import Explained
from ..oracle.product import Product
from ..oracle.strategies import cases

ASKED_FOR = int(os.environ.get("ACNS_ORACLE_EXAMPLES", "0"))
CLUSTERS, CLUSTERS_EXPLAINED, CASES, SHARE, QUERIES = 740, 150, 10_000, 0.1, 200


class Disagreement(AssertionError):
    """A finding; its text is the whole report."""


@dataclass
class Run:
    """All cases, compared: what they were like, and the first disagreement."""

    tally: Tally
    report: str = ""


def compared(enforce: Enforce, clusters: int) -> Run:
    run = Run(Tally())

    @settings(
        max_examples=ASKED_FOR or clusters,
        derandomize=not ASKED_FOR,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # what is found is made smaller by `smallest_file`
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def compare(case: tuple[Cluster, str, list[Packet]]) -> None:
        cluster, node, sent = case
        if found := difference(enforce, cluster, node, sent, run.tally):
            run.report = smallest_file(enforce, cluster, node, found)
            raise Disagreement

    with contextlib.suppress(Disagreement):
        compare()
    print(run.tally)
    return run


@pytest.fixture(scope="module")
def run() -> Run:
    return compared(Product, CLUSTERS)


def test_the_ruleset_does_to_packets_what_the_policies_say(run: Run) -> None:
    if run.report:
        pytest.fail(run.report, pytrace=False)


def test_those_cases_were_many_and_of_every_kind(run: Run) -> None:
    if run.report:
        pytest.skip("they ended with a disagreement")
    seen = run.tally.verdicts
    assert seen.total() >= CASES
    assert min(seen["allow"], seen["deny"]) >= SHARE * seen.total()
    assert seen["proxy"] >= QUERIES
    assert min(run.tally.names[True], run.tally.names[False]) >= QUERIES / 4
    assert CONSTRUCTS - run.tally.constructs.keys() == set()


def test_explaining_says_of_packets_what_the_policies_say() -> None:
    explained = compared(Explained, CLUSTERS_EXPLAINED)
    if explained.report:
        pytest.fail(explained.report, pytrace=False)
