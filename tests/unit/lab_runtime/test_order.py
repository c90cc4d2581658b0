"""When a running lab is the one asked for."""

from __future__ import annotations

import json

from lab.backends.order import NO_AGENTS, Order
from lab.spec.topology import Manifest, Topology

TOPOLOGY = Topology.model_validate({"name": "t", "nodes": [{"name": "n1"}]})


def test_an_order_survives_the_control_socket() -> None:
    order = Order(TOPOLOGY, {"pods.yaml": "x: 1\n"}, NO_AGENTS)
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order


def test_the_digest_changes_with_topology_manifests_and_agents() -> None:
    order = Order(TOPOLOGY, {"pods.yaml": "x: 1\n"})
    others = [
        Order(TOPOLOGY.model_copy(update={"name": "u"}), order.manifests),
        Order(TOPOLOGY, {"pods.yaml": "x: 2\n"}),
        Order(TOPOLOGY, {"other.yaml": "x: 1\n"}),
        Order(TOPOLOGY, order.manifests, NO_AGENTS),
    ]
    assert len({order.digest, *(other.digest for other in others)}) == 5


def test_a_policy_counts_by_its_content_and_not_by_where_its_file_lies() -> None:
    here = TOPOLOGY.model_copy(update={"policies": (Manifest(file="/here/p.yaml"),)})
    there = TOPOLOGY.model_copy(update={"policies": (Manifest(file="/there/p.yaml"),)})
    assert Order(here, {"p.yaml": "same"}).digest == Order(there, {"p.yaml": "same"}).digest
