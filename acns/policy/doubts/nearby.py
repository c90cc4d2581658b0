"""Which selectors may match a pod that another one matches, without comparing each with each.

Nearly every selector asks for some label with a value (`app=web`). Of those that ask for the same label only
those can meet that ask for a value in common; so selectors are kept by the values that they ask for, and
looked for by the label that leaves the fewest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from acns.policy.implications import Implied
from acns.policy.selectors import Selector


class Nearby:
    """The selectors, each once, in order; with what they imply."""

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self.implied: Mapping[Selector, Implied] = {one: Implied.by(one) for one in dict.fromkeys(selectors)}
        self._asking: defaultdict[str, defaultdict[str, list[Selector]]]
        self._asking = defaultdict(lambda: defaultdict(list))  # by label, by value
        self._how_many: defaultdict[str, int] = defaultdict(int)  # ask for a label
        self._others: dict[str, list[Selector]] = {}  # do not
        for one, implied in self.implied.items():
            for label, values in implied.required.items():
                self._how_many[label] += 1
                for value in values:
                    self._asking[label][value].append(one)

    def to(self, wanted: Implied) -> Iterator[Selector]:
        """All that meet `wanted`, and few others, in no order."""
        required = wanted.required
        if not wanted.is_possible:
            return
        if not required:
            yield from self.implied
            return
        label = min(required, key=lambda each: self._count(each, required[each]))
        asking = self._asking[label]
        yield from {one: None for value in required[label] for one in asking.get(value, ())}
        yield from self._without(label)

    def _count(self, label: str, values: Iterable[str]) -> int:
        alike = sum(len(self._asking[label].get(value, ())) for value in values)
        return alike + len(self.implied) - self._how_many[label]

    def _without(self, label: str) -> list[Selector]:
        """Those that do not ask for it."""
        if label not in self._others:
            found = (one for one, implied in self.implied.items() if label not in implied.required)
            self._others[label] = list(found)
        return self._others[label]
