"""What is wrong or doubtful *between* objects: each is right by itself, together they miss what was meant.

Errors say what cannot be enforced as written (an address that two pods claim, a Service that cannot be a DNS
server). Warnings have a code, and are silent where the policy's text says that they are meant. Of what cannot
be known nothing is said: where there is no pod at all, no selector is blamed for selecting none.

This looks at everything, which takes as long as resolving from nothing: for validators, and for an agent
beside its work, never before a commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from acns.errors import Problem
from acns.policy.cluster import Cluster
from acns.policy.doubts import absences, addresses, denied, inside, names, servers, sharing
from acns.policy.doubts.scene import NOTHING_KNOWN, Doubt, Resolutions, Scene
from acns.policy.ignores import Ignored, silences
from acns.policy.model import Enforcement


def problems(
    cluster: Cluster,
    enforcement: Enforcement = Enforcement.DEFAULT,
    resolutions: Resolutions = NOTHING_KNOWN,
) -> list[Problem]:
    """Over all nodes, sorted, each once. `resolutions`: what names are known to resolve to."""
    scene = Scene(cluster, enforcement, resolutions)
    ignored = {(policy.kind, policy.key): policy.ignored for policy in cluster.policies}
    return sorted({doubt.problem for doubt in _all(scene) if not _is_silenced(doubt, ignored)})


def _all(scene: Scene) -> Iterator[Doubt]:
    for room in (addresses, servers, absences, inside, names, denied, sharing):
        yield from room.doubts(scene)


def _is_silenced(doubt: Doubt, ignored: dict[tuple[str, str], Ignored]) -> bool:
    if doubt.policy is None:
        return False
    said, of_rule = ignored.get(doubt.policy, {}), replace(doubt.problem, line=doubt.rule_line)
    return silences(said, doubt.problem) or silences(said, of_rule)
