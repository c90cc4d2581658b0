"""`invoke lab.graph`: what pods of a running lab have done, as a picture; followed, it is drawn again.

Counted are the flows and queries that the nodes' logs have; the logs are bounded, so of a long storm it is
the newest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from acns.policy.model import Direction
from acns.policy.overview import Overview
from acns.policy.profiles import Profile
from lab.errors import AcnsError, HolderGone, InputError
from lab.policy_tools import inputs
from lab.policy_tools.node_state import NodeState
from lab.policy_tools.tally import Tally
from lab.report import graph as report
from lab.report import output
from lab.report.graph import Graph, NodeBox, PodBox
from lab.runtime.commands import FORMAT_VERSION, remark
from lab.runtime.lab import Lab
from lab.runtime.observe import Source, sources_of
from lab.spec.status import Status

MAX_EDGES: Final = 400
"""More lines nobody can tell apart; those with the most flows are drawn."""
_REFRESH_S: Final = 2


def run(name: str | None, output: str | None, *, follow: bool, as_json: bool) -> int:
    """Write the picture, or print what is in it. Raises InputError for what cannot be meant."""
    from lab.backends.kind import commands as on_kind

    if kind := on_kind.lab(name):
        from lab.backends.kind import seeing

        return draw(kind.lab.name, seeing.drawing(kind.lab), kind.lab.store.exists, output, follow, as_json)
    lab = Lab.attach(name)
    drawing = Drawing(lab.name, sources_of(lab), lambda: list(_nodes(lab)))
    return draw(lab.name, drawing, lab.record.alive, output, follow, as_json)


def draw(
    lab: str, drawing: Drawing, alive: Callable[[], bool], output: str | None, follow: bool, as_json: bool
) -> int:
    """Once, or again and again as long as the lab is `alive`. Raises InputError."""
    if as_json:
        print(report.value(drawing.now(), FORMAT_VERSION))
        return 0
    path = Path(output or f"{lab}.html").absolute()
    if path.suffix not in (".html", ".svg"):
        raise InputError(f"what is {path.name} to be?", hint="--output FILE.html or FILE.svg")
    graph = drawing.now()
    _write(path, _drawn(graph, path, follow=follow))
    remark(f"{path}: drawn; {'again' if follow else '--follow draws it again'} every {_REFRESH_S} s")
    if follow:
        graph = _followed(drawing, lab, alive, path, graph)
        _write(path, _drawn(graph, path, follow=False))
    return 0


def _followed(drawing: Drawing, lab: str, alive: Callable[[], bool], path: Path, graph: Graph) -> Graph:
    """Draws until somebody interrupts, or the lab goes down; the last picture of it."""
    with contextlib.suppress(KeyboardInterrupt):
        while alive():
            time.sleep(_REFRESH_S)
            try:
                graph = drawing.now()
            except HolderGone:
                break
            _write(path, _drawn(graph, path, follow=True))
        remark(f"lab {lab} is down; {path} shows the last of it")
    return graph


class Drawing:
    """Reads flows call by call, so that each is read once. `nodes` says what there is at the moment."""

    def __init__(self, lab: str, sources: Sequence[Source], nodes: Callable[[], Sequence[NodeBox]]) -> None:
        self._lab = lab
        self._sources = sources
        self._nodes = nodes
        self._tally = Tally()

    def now(self) -> Graph:
        for source in self._sources:
            self._tally.count(source.new())
        edges = self._tally.edges()
        written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        drawn, left_out = tuple(edges[:MAX_EDGES]), max(0, len(edges) - MAX_EDGES)
        return Graph(self._lab, written, tuple(self._nodes()), drawn, left_out, self._tally.lost)


def _nodes(lab: Lab) -> Iterator[NodeBox]:
    yield from boxes(lab.status(), lambda node: _policies(lab, node))


def boxes(status: Status, policies_of: Callable[[str], Mapping[str, tuple[str, ...]]]) -> Iterator[NodeBox]:
    """`policies_of`: a node's pods → the policies that restrict each."""
    for node in status.nodes:
        policies = policies_of(node.name)
        pods = tuple(
            PodBox(
                key := f"{pod.namespace}/{pod.name}",
                str(pod.address),
                policies.get(key, ()),
                pod.identity,
            )
            for pod in status.pods
            if pod.node == node.name
        )
        yield NodeBox(node.name, tuple((agent.name, agent.health) for agent in node.agents), pods)


def _policies(lab: Lab, node: str) -> dict[str, tuple[str, ...]]:
    """Pod → the policies that restrict it; of a node whose shim has read nothing none are known."""
    try:
        state = NodeState(lab, lab.node(node))
        overview = Overview(inputs.cluster_of(state.texts(), Profile(state.settings.profile)))
    except AcnsError:
        return {}
    return restricting(overview)


def restricting(overview: Overview) -> dict[str, tuple[str, ...]]:
    """Pod → the policies that restrict it."""
    return {
        resident.key: tuple(
            f"{direction.name.lower()}: {', '.join(policy.key for policy in policies)}"
            for direction in Direction
            if (policies := overview.denying(resident, direction))
        )
        for resident in overview.residents
    }


def _drawn(graph: Graph, path: Path, *, follow: bool) -> str:
    if path.suffix == ".svg":
        return report.svg(graph)
    return report.page(graph, refresh_s=_REFRESH_S if follow else 0)


def _write(path: Path, text: str) -> None:
    """In one step: a browser reads it when it likes."""
    with output.new_file(path) as file:
        file.write(text.encode())
