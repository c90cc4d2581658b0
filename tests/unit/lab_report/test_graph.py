"""The picture of a lab: whatever pods asked for, it is well-formed and carries nobody's markup."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lab.report import graph
from lab.report.graph import Edge, Graph, NodeBox, PodBox

SVG = "{http://www.w3.org/2000/svg}"
POD = PodBox("default/frontend", "10.244.0.2", ("egress: default/frontend",), 258)
EDGE = Edge(
    "default/frontend", "name", "api.example.com", forwarded=3, asked=4, refused=2, why=("9 × because",)
)
GRAPH = Graph("lab", "now", (NodeBox("node1", (("shim", "ready"),), (POD,)),), (EDGE,))


def texts(drawn: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(drawn).iter(f"{SVG}text")]


def paths(drawn: str) -> list[str]:
    return [one.attrib["class"] for one in ElementTree.fromstring(drawn).iter(f"{SVG}path")]


def test_an_edge_says_what_passed_and_what_did_not_and_why_under_the_mouse() -> None:
    drawn = graph.svg(GRAPH)
    assert {"✓ 7", "✗ 2", "api.example.com", "node1", "default/frontend"} <= set(texts(drawn))
    assert paths(drawn) == ["edge mixed"]
    assert "3 connections, 4 queries, 2 queries refused\n9 × because" in drawn


def test_what_only_passed_and_what_only_did_not_look_different() -> None:
    edges = (replace(EDGE, refused=0), replace(EDGE, target="evil.example.org", asked=0, forwarded=0))
    assert paths(graph.svg(replace(GRAPH, edges=edges))) == ["edge allowed", "edge denied"]


def test_queries_that_nobody_answered_are_neither_allowed_nor_denied_and_have_their_number() -> None:
    edge = Edge("default/frontend", "name", "slow.example.com", failed=7)
    drawn = graph.svg(replace(GRAPH, edges=(edge,)))
    assert paths(drawn) == ["edge unanswered"]
    assert "? 7" in texts(drawn)


def test_a_large_number_is_shortened_and_whole_under_the_mouse() -> None:
    drawn = graph.svg(replace(GRAPH, edges=(replace(EDGE, forwarded=0, asked=120_004, refused=1_204_567),)))
    assert {"✓ 120k", "✗ 1.2M"} <= set(texts(drawn))
    assert "120004 queries, 1204567 queries refused" in drawn


def test_a_nodes_name_and_its_agents_health_have_a_line_each() -> None:
    long = NodeBox("a-node-with-a-very-long-name-indeed-for-a-node", (("shim", "not ready"),), ())
    drawn = ElementTree.fromstring(graph.svg(replace(GRAPH, nodes=(long,), edges=())))
    at = {(one.text or "")[:6]: one.attrib["y"] for one in drawn.iter(f"{SVG}text")}
    assert at["a-node"] != at["shim n"]


def test_lines_to_one_target_are_in_the_order_of_their_pods() -> None:
    pods = tuple(replace(POD, key=f"default/p{number}") for number in (2, 10, 1))
    edges = tuple(replace(EDGE, pod=f"default/p{number}") for number in (1, 2, 10))
    shown = texts(graph.svg(replace(GRAPH, nodes=(replace(GRAPH.nodes[0], pods=pods),), edges=edges)))
    assert shown[-9:][2::3] == ["default/p2", "default/p10", "default/p1"]


def test_an_edge_of_a_pod_that_is_gone_is_left_out() -> None:
    assert paths(graph.svg(replace(GRAPH, edges=(replace(EDGE, pod="default/gone"),)))) == []


def test_a_node_without_pods_has_a_place_of_its_own() -> None:
    empty = (NodeBox("node2", (), ()), NodeBox("node3", (), ()))
    drawn = ElementTree.fromstring(graph.svg(replace(GRAPH, nodes=(*GRAPH.nodes, *empty))))
    boxes = [one.attrib for one in drawn.iter(f"{SVG}rect") if one.attrib["class"] == "node"]
    spans = sorted((int(one["y"]), int(one["y"]) + int(one["height"])) for one in boxes)
    assert len(spans) == 3
    assert all(above[1] <= below[0] for above, below in itertools.pairwise(spans))
    assert spans[-1][1] <= int(drawn.attrib["height"])


def test_the_page_needs_no_other_file_and_is_read_again_only_where_it_is_drawn_again() -> None:
    page = graph.page(GRAPH)
    assert "<svg" in page
    assert not [word for word in ("src=", "href=", "@import", "url(") if word in page]
    assert "refresh" not in page
    assert '<meta http-equiv="refresh" content="2">' in graph.page(GRAPH, refresh_s=2)


def test_for_programs_it_has_a_version() -> None:
    value = json.loads(graph.value(GRAPH, 1))
    assert (value["version"], value["edges"][0]["refused"]) == (1, 2)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_is_markup_or_breaks_the_picture(name: str, why: str) -> None:
    hostile = "</text><script>alert(1)</script>" + name
    edges = (replace(EDGE, target=hostile, why=(why,)), replace(EDGE, pod=name))
    pods = (replace(POD, key=name), POD)
    drawn = graph.svg(replace(GRAPH, nodes=(NodeBox(name, ((name, why),), pods),), edges=edges))
    assert "<script" not in drawn
    ElementTree.fromstring(drawn)
