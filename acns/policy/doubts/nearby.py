"""Which selectors may match a pod that another one matches, and which must, without comparing each with each.

Nearly every selector asks for some label with a value (`app=web`). Of those that ask for the same label only
those can meet that ask for a value in common; so selectors are kept by the values that they ask for, and
looked for by the label that leaves the fewest. One that matches all that another one matches asks for no
label that the other does not ask for: such are kept by the rarest of their labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from acns.policy.implications import Implied
from acns.policy.selectors import CLUSTER_KEY, Selector

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Kept(Generic[T]):
    """What a selector implies, and what is kept by it."""

    implied: Implied
    value: T


class Nearby(Generic[T]):
    """What is kept by selectors. Selectors are long: none is hashed when something is looked for."""

    def __init__(self, values: Mapping[Selector, T]) -> None:
        self._all = [_Kept(Implied.by(one), value) for one, value in values.items()]
        self._asking: defaultdict[str, defaultdict[str, list[_Kept[T]]]]
        self._asking = defaultdict(lambda: defaultdict(list))  # by label, by value
        self._how_many: defaultdict[str, int] = defaultdict(int)  # ask for a label
        self._others: dict[str, list[_Kept[T]]] = {}  # do not
        for one in self._all:
            for label, values_of in one.implied.required.items():
                self._how_many[label] += 1
                for value in values_of:
                    self._asking[label][value].append(one)
        self._by_rarest: defaultdict[tuple[str, str], list[_Kept[T]]] = defaultdict(list)
        self._asking_nothing: list[_Kept[T]] = []
        for one in self._all:
            self._keep_by_rarest(one)

    def _keep_by_rarest(self, one: _Kept[T]) -> None:
        required = one.implied.required
        labels = [each for each in required if each != CLUSTER_KEY]  # which every pod has
        if not labels:
            self._asking_nothing.append(one)
            return
        rarest = min(labels, key=lambda each: self._how_many[each])
        for value in required[rarest]:
            self._by_rarest[rarest, value].append(one)

    def including(self, wanted: Implied) -> Iterator[T]:
        """Of all that match whatever `wanted` matches, in no order."""
        if wanted.is_possible:
            labels = ((label, next(iter(values))) for label, values in wanted.required.items())
            near = (one for label in labels for one in self._by_rarest.get(label, ()))
            yield from (one.value for one in (*self._asking_nothing, *near) if one.implied.includes(wanted))

    def meeting(self, wanted: Implied) -> Iterator[T]:
        """Of all that may match something that `wanted` matches, in no order."""
        return (one.value for one in self._near(wanted) if one.implied.meets(wanted))

    def _near(self, wanted: Implied) -> Iterable[_Kept[T]]:
        required = wanted.required
        if not wanted.is_possible:
            return ()
        if not required:
            return self._all
        label = min(required, key=lambda each: self._count(each, required[each]))
        asking = self._asking[label]
        alike = {id(one): one for value in required[label] for one in asking.get(value, ())}
        return (*alike.values(), *self._without(label))

    def _count(self, label: str, values: Iterable[str]) -> int:
        alike = sum(len(self._asking[label].get(value, ())) for value in values)
        return alike + len(self._all) - self._how_many[label]

    def _without(self, label: str) -> list[_Kept[T]]:
        """Those that do not ask for it."""
        if label not in self._others:
            self._others[label] = [one for one in self._all if label not in one.implied.required]
        return self._others[label]
