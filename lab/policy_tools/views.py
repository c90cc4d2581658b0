"""The cluster as each node of a running lab has it: by the manifests that its own shim has in force.

Mostly all have the same. One may have refused a file that another took, or was given another one by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from acns.errors import EnvironmentFault
from acns.policy.model import Enforcement
from acns.policy.overview import Overview
from acns.policy.profiles import Profile
from lab.policy_tools import inputs
from lab.policy_tools.node_state import NodeState


@dataclass(frozen=True, slots=True)
class InForce:
    """What a node goes by: its manifests' texts, by file name, and how its shim reads them."""

    texts: Mapping[str, str]
    profile: Profile
    enforcement: Enforcement


def in_force(states: Mapping[str, NodeState]) -> dict[str, InForce]:
    """By node; without those that have read nothing yet."""
    found = {}
    for node, state in states.items():
        try:
            texts = state.texts()
        except EnvironmentFault:
            continue
        given = state.settings
        found[node] = InForce(texts, Profile(given.profile), Enforcement(given.enforcement))
    return found


def overviews(of_nodes: Mapping[str, InForce]) -> dict[str, Overview]:
    """By node; each knows of the others. Nodes that go by the same share one."""
    views: dict[str, Overview] = {}
    for node, given in of_nodes.items():
        same = (views[other] for other in views if of_nodes[other] == given)
        views[node] = next(same, None) or _overview(given, views)
    return views


def differing(of_nodes: Mapping[str, InForce]) -> Iterator[str]:
    """Which nodes go by other manifests than the first, and by which."""
    first = next(iter(of_nodes), "")
    for node in of_nodes:
        texts, here = of_nodes[first].texts, of_nodes[node].texts
        names = sorted(name for name in texts.keys() | here.keys() if texts.get(name) != here.get(name))
        if names:
            yield f"{node} goes by other manifests than {first}: {', '.join(names)}"


def _overview(given: InForce, views: Mapping[str, Overview]) -> Overview:
    return Overview(inputs.cluster_of(given.texts, given.profile), given.enforcement, views)
