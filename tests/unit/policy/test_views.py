"""Nodes that go by different manifests: each end of a connection is judged by what its own node has."""

from __future__ import annotations

from acns.policy import matrix
from acns.policy.cluster import Cluster
from acns.policy.explain import Knowledge
from acns.policy.model import Enforcement
from acns.policy.objects import Pod
from acns.policy.overview import Overview
from acns.policy.routes import Outcome

from .explain_world import DNS, ask, policy, world

FROM_CLIENT = """
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""
INGRESS = policy(ingress=FROM_CLIENT, selects="web", name="w")


def nodes(n1: Overview, n2: Overview) -> dict[str, Overview]:
    views: dict[str, Overview] = {}
    for node, one in (("n1", n1), ("n2", n2)):
        views[node] = Overview(one.cluster, one.enforcement, views)
    return views


def without(overview: Overview, pod: str) -> Overview:
    objects = overview.cluster.objects()
    return Overview(Cluster.of(each for each in objects if not (isinstance(each, Pod) and each.name == pod)))


def test_the_far_nodes_policy_counts_where_only_it_has_one() -> None:
    views = nodes(world(), world(INGRESS))
    assert ask(views["n1"], "web-2:8080").outcome is Outcome.ALLOWED
    (part,) = ask(views["n1"], "web-2:8080", "other").parts
    assert (part.outcome, part.sides[1].node) == (Outcome.DENIED, "n2")
    assert part.sides[1].summary.startswith("no ingress rule of default/w allows")
    assert ask(views["n1"], "web-1:8080", "other").outcome is Outcome.ALLOWED


def test_the_near_nodes_policy_does_not_count_where_only_it_has_one() -> None:
    views = nodes(world(INGRESS), world())
    assert ask(views["n1"], "web-2:8080", "other").outcome is Outcome.ALLOWED
    assert ask(views["n1"], "web-1:8080", "other").outcome is Outcome.DENIED
    assert ask(views["n2"], "web-1:8080", "web-2").outcome is Outcome.DENIED


def test_who_the_sender_is_is_what_the_far_node_takes_it_for() -> None:
    views = nodes(world(INGRESS), without(world(INGRESS), "client"))
    assert ask(views["n1"], "web-1:8080").outcome is Outcome.ALLOWED
    assert ask(views["n1"], "web-2:8080").outcome is Outcome.DENIED


def test_a_pod_that_its_own_node_does_not_know_is_not_restricted() -> None:
    views = nodes(world(INGRESS), without(world(INGRESS), "web-2"))
    assert ask(views["n1"], "web-2:8080", "other").outcome is Outcome.ALLOWED


def test_a_pod_that_only_its_own_node_knows_is_restricted_there() -> None:
    views = nodes(without(world(INGRESS), "web-2"), world(INGRESS))
    assert ask(views["n1"], "10.244.1.4:8080", "other").outcome is Outcome.DENIED


def test_each_node_has_its_own_enforcement() -> None:
    views = nodes(world(), world(enforcement=Enforcement.ALWAYS))
    (part,) = ask(views["n1"], "web-2:8080").parts
    assert "no policy (enforcement is 'always') allows" in part.sides[1].summary


def test_each_row_of_the_table_is_as_the_pods_node_has_it() -> None:
    views = nodes(world(INGRESS), without(world(), "other"))
    columns = matrix.columns(views["n1"], [])
    rows = matrix.rows(views["n1"], columns, lambda _: Knowledge(server=DNS))
    at = {column.title: number for number, column in enumerate(columns)}
    texts = {row.pod: [cell.text for cell in row.cells] for row in rows}
    assert list(texts) == sorted(texts)
    assert texts["default/other"][at["default/web-1"]] == "-"
    assert texts["default/other"][at["default/web-2"]] == "all"
    assert texts["default/web-2"][at["default/web-1"]] == "-"
    assert texts["default/web-2"][at["default/other"]] == "n/a"
