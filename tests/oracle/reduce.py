"""From a counterexample to the smallest one: whatever can be left out of the manifests is.

hypothesis shrinks what it drew; here the result itself is reduced, as a person would do it: an object
less, a rule less, a label less, as long as the disagreement stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .cluster import Cluster

Path = tuple[Any, ...]

# Without these nothing is an object any more.
KEPT = frozenset(
    {"apiVersion", "kind", "metadata", "name", "namespace", "spec", "status", "endpointSelector"}
)


def reduced(cluster: Cluster, fails: Callable[[Cluster], bool]) -> Cluster:
    """The same disagreement with nothing in it that can go. `fails` raises nothing."""
    again = True
    while again:
        again = False
        for path in _paths(list(cluster.manifests)):
            smaller = _without(cluster, path)
            if smaller is not None and fails(smaller):
                cluster, again = smaller, True
                break
    for name in cluster.learned:
        fewer = replace(cluster, learned={key: each for key, each in cluster.learned.items() if key != name})
        if fails(fewer):
            cluster = fewer
    plain = replace(cluster, enforcement="default")
    return plain if fails(plain) else cluster


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Of everything that could be left out, the largest first."""
    inside = list(enumerate(value)) if isinstance(value, list) else list(value.items())
    for key, _ in inside:
        if key not in KEPT:
            yield (*path, key)
    for key, each in inside:
        if isinstance(each, list | dict):
            yield from _paths(each, (*path, key))


def _without(cluster: Cluster, path: Path) -> Cluster | None:
    manifests = copy.deepcopy(list(cluster.manifests))
    holder: Any = manifests
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return replace(cluster, manifests=tuple(manifests))
