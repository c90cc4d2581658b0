"""What stays of a lab keeps its node number and its addresses, wherever the file now has it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab.backends.settled import settled
from lab.spec.plan import Addressing
from lab.spec.topology import Topology


def topology(nodes: list[str], pods: list[tuple[str, str]], **addresses: str) -> Topology:
    """Pods by name and node; some with an address."""
    listed: list[dict[str, Any]] = [
        {"name": name, "node": node, "address": addresses.get(name)} for name, node in pods
    ]
    return Topology.model_validate({"name": "t", "nodes": [{"name": name} for name in nodes], "pods": listed})


def addresses(lab: Topology) -> dict[str, str]:
    return {pod.name: str(pod.address) for pod in Addressing.of(lab).pods}


def names(lab: Topology) -> list[str]:
    return [node.name for node in lab.nodes]


def test_the_same_topology_is_settled_as_it_is() -> None:
    same = topology(["n1", "n2"], [("a", "n1"), ("b", "n2")])
    assert settled(same, same) == same


def test_a_pod_added_in_front_leaves_the_others_where_they_are() -> None:
    running = topology(["n1"], [("a", "n1"), ("b", "n1")])
    found = addresses(settled(topology(["n1"], [("new", "n1"), ("a", "n1"), ("b", "n1")]), running))
    assert found == {"a": "10.244.0.2", "b": "10.244.0.3", "new": "10.244.0.4"}


def test_an_address_that_the_file_gives_to_another_is_given_up() -> None:
    running = topology(["n1"], [("a", "n1"), ("b", "n1")])
    wanted = topology(["n1"], [("new", "n1"), ("a", "n1"), ("b", "n1")], new="10.244.0.2")
    found = addresses(settled(wanted, running))
    assert found["new"] == "10.244.0.2"
    assert found["b"] == "10.244.0.3"
    assert found["a"] not in ("10.244.0.2", "10.244.0.3")


def test_a_new_node_in_front_gets_the_next_number() -> None:
    running = topology(["n1", "n2"], [])
    assert names(settled(topology(["n0", "n1", "n2"], []), running)) == ["n1", "n2", "n0"]


def test_a_new_node_gets_the_number_of_one_that_goes() -> None:
    running = topology(["n1", "n2", "n3"], [])
    assert names(settled(topology(["n1", "n3", "n4"], []), running)) == ["n1", "n4", "n3"]


def test_where_a_node_goes_only_the_last_one_moves() -> None:
    running = topology(["n1", "n2", "n3", "n4"], [("a", "n3"), ("b", "n4")])
    found = settled(topology(["n1", "n3", "n4"], [("a", "n3"), ("b", "n4")]), running)
    assert names(found) == ["n1", "n4", "n3"]
    assert addresses(found) == {"a": "10.244.2.2", "b": "10.244.1.2"}


NODES = st.lists(st.sampled_from(["n1", "n2", "n3", "n4"]), min_size=1, unique=True)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    nodes = draw(NODES)
    pods = draw(st.lists(st.sampled_from("abcdefg"), unique=True))
    return topology(nodes, [(pod, draw(st.sampled_from(nodes))) for pod in pods])


@given(topologies(), topologies())
def test_whatever_changes_all_that_is_wanted_is_there_and_what_can_stay_stays(
    running: Topology, wanted: Topology
) -> None:
    found = settled(wanted, running)
    assert sorted(names(found)) == sorted(names(wanted))
    assert [(pod.name, pod.node) for pod in found.pods] == [(pod.name, pod.node) for pod in wanted.pods]
    assert len(set(addresses(found).values())) == len(found.pods)
    assert Addressing.of(settled(wanted, found)) == Addressing.of(found)
    before = {pod.name: pod for pod in Addressing.of(running).pods}
    for number, node in enumerate(names(found)):
        if names(running)[number : number + 1] == [node]:
            for pod in Addressing.of(found).pods_of(node):
                if pod.name in before and before[pod.name].node == node:
                    assert before[pod.name] == pod
