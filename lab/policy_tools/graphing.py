"""`invoke lab.graph`: what pods of a running lab have done, as a picture; followed, it is drawn again.

Counted are the flows and queries that the nodes' logs have; the logs are bounded, so of a long storm it is
the newest.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from acns.policy.model import Direction
from acns.policy.overview import Overview
from acns.policy.profiles import Profile
from acns.telemetry.flows import Flow, Lost, Record, Verdict
from lab.errors import AcnsError, InputError
from lab.policy_tools import inputs
from lab.policy_tools.node_state import NodeState
from lab.report import flows as flow_report
from lab.report import graph as report
from lab.report import output
from lab.report.graph import Edge, Graph, Kind, NodeBox, PodBox
from lab.runtime.commands import FORMAT_VERSION, remark
from lab.runtime.lab import Lab
from lab.runtime.observe import sources_of

MAX_EDGES: Final = 400
"""More lines nobody can tell apart; those with the most flows are drawn."""
_REFRESH_S: Final = 2
_SEARCHED: Final = ".cluster.local"
_SEARCH_LIST: Final = "*.cluster.local"
"""What search lists make of a name, all together."""

_QUERIES: Final = {Verdict.FORWARDED: "asked", Verdict.DROPPED: "refused"}
"""Others failed for reasons of the DNS server's or of a budget: no policy refused them."""

EdgeKey = tuple[str, Kind, str]


def run(name: str | None, output: str | None, *, follow: bool, as_json: bool) -> int:
    """Write the picture, or print what is in it. Raises InputError for what cannot be meant."""
    lab = Lab.attach(name)
    drawing = Drawing(lab)
    if as_json:
        print(report.value(drawing.now(), FORMAT_VERSION))
        return 0
    path = Path(output or f"{lab.name}.html").absolute()
    if path.suffix not in (".html", ".svg"):
        raise InputError(f"what is {path.name} to be?", hint="--output FILE.html or FILE.svg")
    _write(path, _drawn(drawing.now(), path, follow=follow))
    remark(f"{path}: drawn; {'again' if follow else '--follow draws it again'} every {_REFRESH_S} s")
    with contextlib.suppress(KeyboardInterrupt):
        while follow and lab.record.alive():
            time.sleep(_REFRESH_S)
            _write(path, _drawn(drawing.now(), path, follow=True))
    _write(path, _drawn(drawing.now(), path, follow=False))
    return 0


class Drawing:
    """Counts flows, call by call, so that each is read once."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._sources = sources_of(lab)
        self._counts: dict[EdgeKey, Counter[str]] = defaultdict(Counter)
        self._why: dict[EdgeKey, Counter[str]] = defaultdict(Counter)
        self._lost = 0

    def now(self) -> Graph:
        for source in self._sources:
            self._count(source.new())
        keys = sorted(self._counts, key=lambda key: -self._counts[key].total())
        edges = [self._edge(key) for key in keys[:MAX_EDGES]]
        written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        left_out = max(0, len(keys) - MAX_EDGES)
        return Graph(self._lab.name, written, tuple(_nodes(self._lab)), tuple(edges), left_out, self._lost)

    def _count(self, records: Iterable[Record]) -> None:
        for record in records:
            if isinstance(record, Lost):
                self._lost += record.count
            elif key := _key(record):
                self._counts[key][_counted(record)] += 1
                if why := flow_report.reasons(record):
                    self._why[key][why] += 1

    def _edge(self, key: EdgeKey) -> Edge:
        counts, why = self._counts[key], self._why[key]
        return Edge(
            *key,
            forwarded=counts["forwarded"],
            dropped=counts["dropped"],
            asked=counts["asked"],
            refused=counts["refused"],
            failed=counts["failed"],
            why=tuple(f"{count} × {text}" for text, count in why.most_common(8)),
        )


def _key(flow: Flow) -> EdgeKey | None:
    """Whose edge a flow is on; None where no pod is at its beginning, or it is an answer."""
    if not flow.source.pod or flow.is_reply:
        return None
    if flow.dns is not None:
        asked = flow.dns.query.removesuffix(".")
        return flow.source.key, "name", _SEARCH_LIST if asked.endswith(_SEARCHED) else asked or "unreadable"
    end = flow.destination
    if end.service or end.pod:
        return flow.source.key, "cluster", f"service {end.service}" if end.service else end.key
    named = next(iter(end.names), "").removesuffix(".")
    return (flow.source.key, "name", named) if named else (flow.source.key, "address", end.address)


def _counted(flow: Flow) -> str:
    if flow.dns is not None:
        return _QUERIES.get(flow.verdict, "failed")
    return "dropped" if flow.verdict is Verdict.DROPPED else "forwarded"


def _nodes(lab: Lab) -> Iterator[NodeBox]:
    status = lab.status()
    for node in status.nodes:
        policies = _policies(lab, node.name)
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
