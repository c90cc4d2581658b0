"""A lab as a picture: pods on their nodes at the left, whom they spoke to at the right, and what became of it
on the lines between.

Pure: a `Graph` in, SVG or a self-contained page out. Names are whatever pods asked for, so every text is
escaped, and shortened to what there is room for; the whole of it shows under the mouse.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Final, Literal

Kind = Literal["cluster", "name", "address"]
GROUPS: Final[dict[Kind, str]] = {
    "cluster": "in the cluster",
    "name": "names",
    "address": "addresses without a name",
}

_LEFT, _RIGHT, _BOX, _MARGIN = 300, 760, 330, 24
_POD, _SLOT, _GAP, _HEAD, _NODE_HEAD = 58, 22, 12, 34, 48
_WIDTH: Final = _RIGHT + _BOX + _MARGIN
_MAX_CHARS: Final = 40
_MAX_BOLD: Final = 34
_GOOD, _BAD, _FAILED, _WHOSE = 8, 68, 128, 184
"""Where in a target's box an edge's counts stand, and its pod."""
_LEGEND: Final = (
    ("good", "✓ passed"),
    ("no", "✗ dropped or refused"),
    ("failed", "? no answer, or an error for one"),
)

_STYLE: Final = """
  text { font: 13px 'DejaVu Sans', Verdana, sans-serif; fill: #1d2733 }
  .small { font-size: 11px; fill: #5a6775 } .head { font-weight: bold }
  .node { fill: #eef2f6; stroke: #b9c4cf } .pod, .target { fill: #fff; stroke: #8796a5 }
  .enforced { stroke: #1f5fa8; stroke-width: 2 } .bad { fill: #b3261e }
  .edge { fill: none; stroke-width: 1.6; opacity: .75 }
  .allowed { stroke: #2e7d32; fill: none } .denied { stroke: #b3261e; stroke-dasharray: 5 3; fill: none }
  .mixed { stroke: #b26a00; fill: none } .unanswered { stroke: #7b8794; stroke-dasharray: 2 4; fill: none }
  text.good { fill: #2e7d32 } text.no { fill: #b3261e } text.failed { fill: #5a6775 }
  .dim { opacity: .08 }
"""
_SCRIPT: Final = """
  let chosen = null;
  document.querySelectorAll('[data-pod]').forEach(box => box.addEventListener('click', () => {
    chosen = chosen === box.dataset.pod ? null : box.dataset.pod;
    document.querySelectorAll('[data-of]').forEach(edge =>
      edge.classList.toggle('dim', chosen !== null && edge.dataset.of !== chosen));
  }));
"""


@dataclass(frozen=True, slots=True)
class PodBox:
    """`policies`: those that restrict it, by direction: `egress: default/frontend`."""

    key: str
    address: str
    policies: tuple[str, ...]
    identity: int | None = None


@dataclass(frozen=True, slots=True)
class NodeBox:
    name: str
    agents: tuple[tuple[str, str], ...]
    """Name and health."""
    pods: tuple[PodBox, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """What a pod (`namespace/name`) and its target had to do with each other, in flows. `why`: the policies
    that decided, and how often."""

    pod: str
    kind: Kind
    target: str
    forwarded: int = 0
    dropped: int = 0
    asked: int = 0
    refused: int = 0
    failed: int = 0
    """Queries that no policy refused, and that had no answer of their server's."""
    why: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.forwarded + self.dropped + self.asked + self.refused + self.failed


@dataclass(frozen=True, slots=True)
class Graph:
    """`left_out`: edges that there was no room for. `lost`: flows of which nothing is known."""

    lab: str
    written: str
    nodes: tuple[NodeBox, ...]
    edges: tuple[Edge, ...]
    left_out: int = 0
    lost: int = 0


def value(graph: Graph, version: int) -> str:
    """For programs."""
    return json.dumps({"version": version, **asdict(graph)}, indent=2)


def page(graph: Graph, *, refresh_s: int = 0) -> str:
    """One HTML file that needs no other; `refresh_s`: the browser reads it again and again."""
    again = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">{again}<title>lab {escape(graph.lab)}</title>
<style>body {{ margin: 0; background: #fff }} [data-pod] {{ cursor: pointer }}</style></head>
<body>
{svg(graph)}
<script>{_SCRIPT}</script>
</body></html>
"""


def svg(graph: Graph) -> str:
    """The picture alone."""
    drawing = _Drawing(graph)
    parts = "\n".join(drawing.parts())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{drawing.height}"'
        f' viewBox="0 0 {_WIDTH} {drawing.height}" role="img">\n<style>{_STYLE}</style>\n{parts}\n</svg>'
    )


class _Drawing:
    """Where everything stands."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._top = 92
        self._nodes, self._pods = _stacked_nodes(graph.nodes, self._top)
        self._targets = _by_target(graph.edges, self._pods)
        self._boxes, below = _stacked_targets(self._targets, self._top)
        left = max([0, *self._nodes.values(), *(y + _POD for y in self._pods.values())])
        self.height = max(left, below) + 3 * _MARGIN

    def parts(self) -> Iterator[str]:
        yield from self._title()
        yield from self._draw_nodes()
        yield from self._draw_targets()

    def _title(self) -> Iterator[str]:
        graph = self._graph
        more = f"; {graph.left_out} lines more than there is room for" if graph.left_out else ""
        lost = f"; at least {graph.lost} flows were lost" if graph.lost else ""
        yield _text(_MARGIN, 30, f"lab {graph.lab}", "head")
        about = f"{graph.written}: flows and queries as its nodes' logs have them{more}{lost}"
        yield _text(_MARGIN, 50, about, "small", limit=140)
        for number, (kind, text) in enumerate(_LEGEND):
            yield _text(_MARGIN + (0, 80, 250)[number], 72, text, kind)

    def _draw_nodes(self) -> Iterator[str]:
        for node in self._graph.nodes:
            first = self._nodes[node.name]
            height = _NODE_HEAD + len(node.pods) * (_POD + _GAP)
            yield _box(_MARGIN, first - _NODE_HEAD, _LEFT, height, "node")
            health = ", ".join(f"{agent} {health}" for agent, health in node.agents) or "no agents"
            well = all(health == "ready" for _, health in node.agents)
            yield _text(_MARGIN + 10, first - 30, node.name, "head", limit=_MAX_BOLD)
            yield _text(_MARGIN + 10, first - 13, health, "small" if well else "small bad", limit=45)
            for pod in node.pods:
                yield from self._draw_pod(pod)

    def _draw_pod(self, pod: PodBox) -> Iterator[str]:
        y = self._pods[pod.key]
        identity = f", identity {pod.identity}" if pod.identity else ""
        policies = "; ".join(pod.policies) or "no policy restricts it"
        kind = "pod enforced" if pod.policies else "pod"
        yield f'<g data-pod="{_clean(pod.key)}">{_title_of(policies)}'
        yield _box(_MARGIN + 10, y, _LEFT - 20, _POD, kind)
        yield _text(_MARGIN + 20, y + 18, pod.key, "head", limit=_MAX_BOLD - 2)
        yield _text(_MARGIN + 20, y + 34, f"{pod.address}{identity}", "small")
        yield _text(_MARGIN + 20, y + 49, policies, "small")
        yield "</g>"

    def _draw_targets(self) -> Iterator[str]:
        group = ""
        for (kind, target), edges in self._targets.items():
            y = self._boxes[kind, target]
            if kind != group:
                group = kind
                yield _text(_RIGHT, y - 10, GROUPS[kind], "small")
            yield _box(_RIGHT, y, _BOX, _target_height(edges), "target")
            yield _text(_RIGHT + 8, y + 17, target, "head", limit=_MAX_BOLD)
            for slot, edge in enumerate(edges, start=1):
                yield from self._draw_edge(edge, y + 12 + slot * _SLOT)

    def _draw_edge(self, edge: Edge, y: int) -> Iterator[str]:
        start = self._pods.get(edge.pod)
        if start is None:
            return
        x, at = _MARGIN + _LEFT - 10, start + _POD // 2
        middle = (x + _RIGHT) // 2
        path = f"M {x} {at} C {middle} {at}, {middle} {y}, {_RIGHT} {y}"
        about = "\n".join([f"{edge.pod} → {edge.target}: {_counts(edge)}", *edge.why])
        yield f'<g data-of="{_clean(edge.pod)}">{_title_of(about)}'
        yield f'<path class="edge {_class(edge)}" d="{path}"/>'
        good, bad = edge.forwarded + edge.asked, edge.dropped + edge.refused
        for x, sign, count, kind in (
            (_GOOD, "✓", good, "good"),
            (_BAD, "✗", bad, "no"),
            (_FAILED, "?", edge.failed, "failed"),
        ):
            if count:
                yield _text(_RIGHT + x, y + 4, f"{sign} {_short(count)}", kind)
        yield _text(_RIGHT + _WHOSE, y + 4, edge.pod, "small", limit=22)
        yield "</g>"


def _by_target(edges: Iterable[Edge], pods: Mapping[str, int]) -> dict[tuple[Kind, str], list[Edge]]:
    """Edges of one target in the order of their pods, so that they do not cross."""
    found: dict[tuple[Kind, str], list[Edge]] = {}
    order = list(GROUPS)
    for edge in sorted(edges, key=lambda one: (order.index(one.kind), one.target, pods.get(one.pod, 0))):
        found.setdefault((edge.kind, edge.target), []).append(edge)
    return found


def _stacked_nodes(nodes: Sequence[NodeBox], top: int) -> tuple[dict[str, int], dict[str, int]]:
    """The top of each node's pods, of which there may be none, and of each pod."""
    of_nodes, of_pods, y = {}, {}, top
    for node in nodes:
        y += _NODE_HEAD
        of_nodes[node.name] = y
        for pod in node.pods:
            of_pods[pod.key] = y
            y += _POD + _GAP
        y += _MARGIN
    return of_nodes, of_pods


def _stacked_targets(
    targets: Mapping[tuple[Kind, str], Sequence[Edge]], top: int
) -> tuple[dict[tuple[Kind, str], int], int]:
    """The top of each box, and where they end."""
    found = {}
    y, group = top, ""
    for key, edges in targets.items():
        if key[0] != group:
            group = key[0]
            y += _HEAD
        found[key] = y
        y += _target_height(edges) + _GAP
    return found, y


def _target_height(edges: Sequence[Edge]) -> int:
    """A line for its name, and one for each edge."""
    return (len(edges) + 1) * _SLOT


def _class(edge: Edge) -> str:
    good, bad = edge.forwarded + edge.asked, edge.dropped + edge.refused
    return "mixed" if good and bad else "allowed" if good else "denied" if bad else "unanswered"


def _short(count: int) -> str:
    """In five signs at most; the whole number shows under the mouse."""
    if count < 10_000:
        return str(count)
    return f"{count // 1000}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def _counts(edge: Edge) -> str:
    counted = {
        "connections": edge.forwarded,
        "packets dropped": edge.dropped,
        "queries": edge.asked,
        "queries refused": edge.refused,
        "queries failed": edge.failed,
    }
    return ", ".join(f"{count} {what}" for what, count in counted.items() if count)


def _box(x: int, y: int, width: int, height: int, kind: str) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def _text(x: int, y: int, text: str, kind: str, *, limit: int = _MAX_CHARS) -> str:
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    whole = _title_of(text) if shown != text else ""
    return f'<text class="{kind}" x="{x}" y="{y}">{_clean(shown)}{whole}</text>'


def _title_of(text: str) -> str:
    """What shows under the mouse."""
    return f"<title>{_clean(text)}</title>"


def _clean(text: str) -> str:
    """No markup, and nothing that XML cannot have."""
    return escape("".join(one if one.isprintable() or one == "\n" else "?" for one in text))
