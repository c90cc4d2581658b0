"""May this pod connect there, and why, in a lab on kind: the model, from what the cluster has.

Objects are the API server's, and what names have opened says each node's shim. No packet is traced: that
takes the namespaces of one machine. `lab.check` tries connections.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from acns.dns.name import Name
from acns.errors import Problem
from acns.policy import destination, manifests, matrix
from acns.policy.cluster import Cluster
from acns.policy.explain import Knowledge, explain, explain_query
from acns.policy.learnings import Learnings
from acns.policy.lookups import Server
from acns.policy.model import Traffic
from acns.policy.objects import Object
from acns.policy.overview import Overview
from lab.backends.kind import looking
from lab.backends.kind.kind_lab import KindLab
from lab.backends.kind.objects import AGENTS
from lab.errors import InputError
from lab.policy_tools import inputs, resolving
from lab.policy_tools.inputs import Given
from lab.policy_tools.node_state import learning
from lab.policy_tools.seen import Answered
from lab.runtime.explaining import remark

_KINDS: Final = (
    "namespaces",
    "nodes",
    "pods",
    "services",
    "endpointslices",
    "networkpolicies",
    *looking.CILIUM,
    "ciliumcidrgroups.cilium.io",
)


def connection(lab: KindLab, pod: str, to: str, server: Server | None) -> Answered:
    """What becomes of a connection. Raises InputError."""
    found = given(lab)
    source = found.overview.local(found.overview.pod(pod))
    wanted = destination.parse(to, found.overview, source.resident)
    return Answered(explain(found.overview, source, wanted, _knowledge(lab, found, server)))


def query(lab: KindLab, pod: str, name: Name, server: Server | None) -> Answered:
    """What becomes of a DNS query. Raises InputError."""
    found = given(lab)
    knowledge = _knowledge(lab, found, server)
    if knowledge.server is None:
        raise InputError("the cluster has no Service kube-system/kube-dns", hint="--server IP")
    source = found.overview.local(found.overview.pod(pod))
    return Answered(explain_query(found.overview, source, name, knowledge))


def matrix_of(
    lab: KindLab, traffics: Sequence[Traffic]
) -> tuple[tuple[matrix.Column, ...], tuple[matrix.Row, ...]]:
    """Pods × destinations: what the model makes of the cluster's objects and of what names have opened."""
    found = given(lab)
    columns = matrix.columns(found.overview, traffics, found.names)
    knowledge = _knowledge(lab, found, None)
    return columns, matrix.rows(found.overview, columns, lambda _: knowledge)


def given(lab: KindLab) -> Given:
    """The cluster's objects; of what the shims refuse, the last good version is not known here: it is left
    out, and said."""
    shim = lab.topology.nodes[0].shim
    profile = inputs.profile_of(shim.get("profile"))
    objects: list[Object] = []
    problems: list[Problem] = []
    for kind in _KINDS:
        for item in lab.tools.get(kind, "-A"):
            parsed = manifests.parse_served(dict(item), profile)
            objects += parsed.objects if parsed.ok else ()
            problems += parsed.problems
    for problem in problems:
        if not problem.warning:
            remark(f"left out: {problem}")
    overview = Overview(Cluster.of(objects), inputs.enforcement_of(shim.get("enforcement")))
    internet = lab.topology.internet
    return Given(
        f"lab {lab.name}",
        overview,
        tuple(problems),
        names=tuple(internet.names),
        resolutions=resolving.for_pods(internet),
    )


def _knowledge(lab: KindLab, found: Given, server: Server | None) -> Knowledge:
    agents = lab.tools.get("pods", "-n", AGENTS)
    nodes = [node.name for node in found.overview.cluster.nodes]
    learned = {node: _learned(lab, agents, node) for node in nodes}
    return Knowledge(learned, server or found.dns_server(), found.resolutions)


def _learned(lab: KindLab, agents: list[looking.Item], node: str) -> Learnings:
    text = looking.shim_says(lab, agents, node, "/cache")
    try:
        return Learnings(tuple(map(learning, json.loads(text)["addresses"])))
    except (ValueError, KeyError, TypeError, AttributeError):  # nothing, or whatever stands there instead
        remark(f"the shim of {node} does not answer: what names have opened there is not known")
        return Learnings()
