"""Where the shim's Kubernetes objects come from.

A source yields the whole state as it is now, and again after each change; what it cannot read it reports as
problems and leaves at the last state that was good. The folder of manifests (`files`) is one source, the API
server's watches (`kubernetes`) are the other: the shim behind them is the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # `listing` is imported by commands too, which have no use for all of policy
    from acns.errors import Problem
    from acns.policy.cluster import Cluster
    from acns.policy.objects import Object
    from acns.shim.preflight import ClusterFacts


@dataclass(frozen=True, slots=True)
class Observed:
    """All objects that count now, and everything wrong with what was offered.

    `versions` says what was read: for each part of the source (a file) which version of it (its mtime, ns).
    `complete` is False while a part cannot be read that an earlier run may have read: to go by the rest alone
    could open what is shut.
    """

    objects: tuple[Object, ...] | Cluster
    """Those of a source that keeps them in order are a cluster already."""
    problems: tuple[Problem, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True


class Source(Protocol):
    """Yields when iterated, as soon as it knows everything, then on each change, for ever."""

    def watch(self) -> AsyncIterator[Observed]: ...

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why nothing has been yielded yet."""
        ...

    async def cluster_facts(self, node: str) -> ClusterFacts | None:
        """What is known of the cluster that this node is in; None where nobody says, or not now."""
        ...

    def described(self) -> Mapping[str, object]:
        """How it is doing, for people."""
        ...
