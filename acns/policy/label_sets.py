"""The label sets of a cluster, each kept once, and where the pods are that have it.

A cluster's pods are few workloads many times over, and selectors see nothing of a pod but its labels. So what
is derived of labels exists once for all pods that share them, and what a selector matches is looked for among
label sets, not among pods.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from acns.policy.anchors import Pair, anchors_of, pairs_of
from acns.policy.model import identity_key
from acns.policy.selectors import Labels, Selector, Triples


@dataclass(slots=True, eq=False)
class LabelSet:
    """One of them. `addresses`: of the pods that have it."""

    labels: Labels
    identity: str
    addresses: set[IPv4Address] = field(default_factory=set)


class LabelSets:
    """All that pods have, by what selectors require of them."""

    def __init__(self) -> None:
        self._by_labels: dict[Triples, LabelSet] = {}
        self._carriers: dict[Pair, set[LabelSet]] = {}
        self._empty: set[LabelSet] = set()

    def of(self, labels: Labels) -> LabelSet:
        """The one with these labels, kept until `settle` at least."""
        triples = labels.triples
        found = self._by_labels.get(triples)
        if found is None:
            found = self._by_labels[triples] = LabelSet(labels, identity_key(labels.texts))
            for pair in pairs_of(labels):
                self._carriers.setdefault(pair, set()).add(found)
            self._empty.add(found)
        return found

    def enter(self, one: LabelSet, address: IPv4Address) -> None:
        """A pod with these labels is at `address` now."""
        one.addresses.add(address)
        self._empty.discard(one)

    def leave(self, one: LabelSet, address: IPv4Address) -> None:
        """No pod with these labels is at `address` any more."""
        one.addresses.discard(address)
        if not one.addresses:
            self._empty.add(one)

    def settle(self) -> None:
        """Forget those that no pod has."""
        for one in self._empty:
            del self._by_labels[one.labels.triples]
            for pair in pairs_of(one.labels):
                self._carriers[pair].discard(one)
                if not self._carriers[pair]:
                    del self._carriers[pair]
        self._empty.clear()

    def matching(self, selector: Selector) -> Iterable[LabelSet]:
        """Those that `selector` matches."""
        anchors = anchors_of(selector)
        if anchors is None:
            found: Iterable[LabelSet] = self._by_labels.values()
        else:
            found = set[LabelSet]().union(*(self._carriers.get(pair, ()) for pair in anchors))
        return (one for one in found if selector.matches(one.labels))
