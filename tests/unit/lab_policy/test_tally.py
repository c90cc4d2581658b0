"""What flows come to on the edges of the picture."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from acns.telemetry.flows import Direction, DropReason, Flow, L4Protocol, Layer4, Peer, Verdict
from lab.policy_tools.tally import Tally

S = 1_000_000_000
FRONTEND = Peer("10.244.0.2", namespace="default", pod="frontend")
WEB = Peer("10.244.1.2", namespace="default", pod="web", service="default/web")
TCP = Layer4(L4Protocol.TCP, 40000, 80)
LEFT = Flow(10 * S, "node1", Verdict.FORWARDED, FRONTEND, WEB, Direction.EGRESS, is_reply=False, l4=TCP)
CAME = replace(LEFT, node="node2", direction=Direction.INGRESS, destination=replace(WEB, service=""))
DROPPED = replace(CAME, verdict=Verdict.DROPPED, reason=DropReason.POLICY_DENIED, is_reply=None)


def counted(*flows: Flow) -> list[tuple[str, int, int]]:
    tally = Tally()
    for flow in flows:
        tally.count([flow])
    return [(edge.target, edge.forwarded, edge.dropped) for edge in tally.edges()]


def test_a_connection_between_pods_of_two_nodes_counts_once() -> None:
    assert counted(LEFT, CAME) == counted(CAME, LEFT) == [("service default/web", 1, 0)]


def test_what_the_targets_node_drops_did_not_pass_whatever_the_first_node_said() -> None:
    again = replace(DROPPED, time_ns=11 * S)
    for flows in ((LEFT, DROPPED, again), (DROPPED, again, LEFT), (DROPPED, LEFT, again)):
        assert counted(*flows) == [("default/web", 0, 2)]


OTHER = replace(LEFT, l4=replace(TCP, source_port=1))


@pytest.mark.parametrize("later", [replace(LEFT, time_ns=200 * S), OTHER])
def test_another_connection_that_passes_counts(later: Flow) -> None:
    assert ("service default/web", 1, 0) in counted(LEFT, DROPPED, later)


def test_two_connections_count_twice() -> None:
    assert counted(LEFT, OTHER) == [("service default/web", 2, 0)]


def at(flow: Flow, seconds: float) -> Flow:
    return replace(flow, time_ns=round(seconds * S))


AGAIN, DROPPED_AGAIN = at(LEFT, 13), at(DROPPED, 13.001)


@pytest.mark.parametrize("flows", list(itertools.permutations([LEFT, AGAIN, DROPPED, DROPPED_AGAIN])))
def test_a_syn_that_is_tried_again_and_dropped_again_did_not_pass_whoever_tells_first(
    flows: tuple[Flow, ...],
) -> None:
    assert counted(*flows) == [("default/web", 0, 2)]


@pytest.mark.parametrize("flows", list(itertools.permutations([LEFT, AGAIN, DROPPED])))
def test_of_drops_that_are_too_many_to_be_written_one_tells_of_all(flows: tuple[Flow, ...]) -> None:
    assert counted(*flows) == [("default/web", 0, 1)]


@pytest.mark.parametrize("flows", list(itertools.permutations([LEFT, DROPPED, AGAIN, at(CAME, 13.001)])))
def test_a_try_that_comes_has_passed_whatever_became_of_the_one_before(flows: tuple[Flow, ...]) -> None:
    assert sorted(counted(*flows)) == [("default/web", 0, 1), ("service default/web", 1, 0)]


@pytest.mark.parametrize("flows", list(itertools.permutations([LEFT, DROPPED, at(CAME, 13)])))
def test_a_syn_that_is_let_in_at_its_second_try_has_passed(flows: tuple[Flow, ...]) -> None:
    assert sorted(counted(*flows)) == [("default/web", 0, 1), ("service default/web", 1, 0)]


def test_what_was_found_of_many_tries_stands_when_they_are_forgotten() -> None:
    tries = [at(LEFT, 1000 * number) for number in range(40)]
    assert counted(*tries) == [("service default/web", 40, 0)]
