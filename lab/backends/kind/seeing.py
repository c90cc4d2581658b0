"""Seeing into a lab on kind: events, rules, caches, the picture; of what its nodes have and its shims say.

Everything is read on the nodes by programs that every node image has (`nft`, `tail`), or said by the agents;
what it means is worked out by what does so for labs of namespaces.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from acns import statelog
from acns.api import ledger_file
from acns.datapath.selectors import selector_id
from acns.errors import AcnsError
from acns.policy.overview import Overview
from lab.backends.kind import cluster, explaining, looking, objects, observing, tools
from lab.backends.kind.kind_lab import KindLab
from lab.backends.kind.objects import AGENTS
from lab.backends.kind.recording import OnKind
from lab.policy_tools import name_cache, node_state
from lab.policy_tools.graphing import Drawing, boxes, restricting
from lab.policy_tools.name_cache import NodeCache
from lab.policy_tools.node_state import Meaning
from lab.report import ruleset as report
from lab.runtime import happenings
from lab.runtime.explaining import remark
from lab.runtime.happenings import HappeningFile


def events(lab: KindLab, typed: happenings.Typed) -> int:
    """Of all agents; what happened to the cluster's pods says `kubectl get events`."""
    sources = [HappeningFile(file, node) for node, file in observing.journal_files(lab)]
    return happenings.show(sources, typed, alive=lab.store.exists, poll_s=observing.POLL_S)


# --- rules --------------------------------------------------------------------------------------------------


def rules(lab: KindLab, pod: str | None) -> list[report.Part]:
    """All nodes', or those that this pod meets. Raises LabNotFound."""
    if pod is None:
        return [
            report.whole(node, report.read(_listing(lab, node)), _meanings(lab, node)) for node in _nodes(lab)
        ]
    found = OnKind(lab)
    _, interface = found.link(pod)
    wanted = found.pod(pod)
    node = wanted.node_name
    rules_there = report.read(_listing(lab, node))
    return [report.of_pod(node, wanted.key, str(wanted.pod_ip), interface, rules_there, _meanings(lab, node))]


def _listing(lab: KindLab, node: str) -> str:
    return lab.tools.docker("exec", node, "nft", "list", "ruleset").out


def _meanings(lab: KindLab, node: str) -> Mapping[str, Meaning]:
    """Without the ledger there are still the comments in the kernel."""
    argv = ["docker", "exec", node, "cat", f"{objects.state_folder(lab.topology)}/ledger.log"]
    done, content = tools.run_for_bytes(argv)
    try:
        if not done.ok:
            raise tools.failure(argv, done)
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            values = statelog.read(Path(file.name), ledger_file.FORMAT, ledger_file.VERSION)
        return node_state.meanings(values, below="")
    except AcnsError as error:
        remark(f"{node}: policies are named as far as the kernel's comments do: {error.message}")
        return {}


# --- what names have opened ---------------------------------------------------------------------------------


def caches(lab: KindLab, pod: str | None) -> list[NodeCache]:
    """By node; with `pod`, what its own policy opens. Connections are not read here. Looked at once more
    where shim and kernel differ, for the two are not about the same instant."""
    found = _caches(lab, pod)
    return found if all(one.agrees for one in found) else _caches(lab, pod)


def _caches(lab: KindLab, pod: str | None) -> list[NodeCache]:
    overview = explaining.given(lab).overview
    agents = lab.tools.get("pods", "-n", AGENTS)
    key = "/".join(lab.pod(pod)) if pod else None
    return [
        _cache(lab, agents, overview, node, key)
        for node in _nodes(lab)
        if key is None or key in {one.endpoint.key for one in overview.node(node).endpoints}
    ]


def _cache(
    lab: KindLab, agents: list[looking.Item], overview: Overview, node: str, pod: str | None
) -> NodeCache:
    selectors = name_cache.wanted_of(overview.node(node), pod)
    view = _view(looking.shim_says(lab, agents, node, "/cache"))
    opened = report.learned(report.read(_listing(lab, node)))
    held = {one: frozenset(map(IPv4Address, opened.get(selector_id(one), ()))) for one in selectors}
    return name_cache.compared(node, pod, selectors, view, held, ())


def _view(text: str) -> Mapping[str, Any] | None:
    try:
        view = json.loads(text)
    except ValueError:
        return None
    return view if isinstance(view, dict) and {"now", "addresses"} <= view.keys() else None


# --- the picture --------------------------------------------------------------------------------------------


def drawing(lab: KindLab) -> Drawing:
    """Flows as `lab.observe` has them; pods and policies as the cluster has them when it is drawn."""

    def nodes() -> Iterator[Any]:
        policies = restricting(explaining.given(lab).overview)
        return boxes(lab.status(), lambda _: policies)

    return Drawing(lab.name, list(observing.sources(lab)), lambda: list(nodes()))


def _nodes(lab: KindLab) -> list[str]:
    return cluster.node_names(lab.name, lab.store.nodes())
