"""The kernel does to real packets what the policies say: generated cases on a node of network namespaces.

The same kind of clusters, policies and packets as in `tests/props/test_policy_oracle.py`, and the same
interpreter of the policies beside them; but here the ruleset is loaded and the packets are sent. In CI always
the same cases; `ACNS_ORACLE_KERNEL_EXAMPLES=1000` runs that many clusters that nobody has seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ...oracle import kernel
from ...oracle.cluster import Cluster, Packet
from ...oracle.compare import Tally, difference, smallest_file
from ...oracle.product import Judgement, Product
from ...oracle.strategies import cases

pytestmark = pytest.mark.root

ASKED_FOR = int(os.environ.get("ACNS_ORACLE_KERNEL_EXAMPLES", "0"))
CLUSTERS, CASES, SHARE, QUERIES = 120, 1_000, 0.1, 10


@pytest.fixture(scope="module")
def mini_node() -> Iterator[kernel.MiniNode]:
    with kernel.MiniNode() as made:
        yield made


class Loaded:
    """A cluster's policies in the kernel of the node."""

    def __init__(self, node: kernel.MiniNode, cluster: Cluster) -> None:
        self._node = node
        node.apply(Product(cluster, kernel.NODE, node.interfaces).ruleset)

    def judge(self, packets: Sequence[Packet]) -> list[Judgement]:
        return [Judgement(verdict, "the kernel") for verdict in self._node.judge(packets)]

    def name_allowed(self, packet: Packet) -> bool | None:
        return None


def test_the_kernel_does_to_packets_what_the_policies_say(mini_node: kernel.MiniNode) -> None:
    tally = Tally()

    def load(cluster: Cluster, _: str) -> Loaded:
        return Loaded(mini_node, cluster)

    @settings(
        max_examples=ASKED_FOR or CLUSTERS,
        derandomize=not ASKED_FOR,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(nodes=(kernel.NODE,)))
    def compare(case: tuple[Cluster, str, list[Packet]]) -> None:
        cluster, node, drawn = case
        sent = kernel.openings(packet for packet in drawn if mini_node.can_tell(cluster, packet))
        if found := difference(load, cluster, node, sent, tally):
            raise AssertionError(smallest_file(load, cluster, node, found))

    compare()
    print(tally)
    total = tally.verdicts.total()
    assert total >= CASES
    assert all(tally.verdicts[verdict] >= SHARE * total for verdict in ("allow", "deny"))
    assert tally.verdicts["proxy"] >= QUERIES
