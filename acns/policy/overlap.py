"""Whether two FQDN selectors speak of a common name, without knowing any name.

Decided on the patterns alone, label by label, so it holds for every name there can be. It may say yes where
only names that are too long to exist would do; a no is always right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector

ANY_LABELS = "**"  # as a first label: one or more whole labels


def overlap(one: FQDNSelector, other: FQDNSelector) -> bool:
    """Whether some name is matched by both."""
    if one.is_match_all or other.is_match_all or one == other:
        return True
    if one.literal is not None:
        return other.matches(one.literal)
    if other.literal is not None:
        return one.matches(other.literal)
    return _labels_overlap(_labels(one), _labels(other))


def _labels(selector: FQDNSelector) -> list[str]:
    return selector.text.split(".")[:-1]


def _labels_overlap(one: list[str], other: list[str]) -> bool:
    """Both end at the root, so labels are compared from there."""
    tail_one, open_one = _tail(one)
    tail_other, open_other = _tail(other)
    if not open_one and not open_other and len(one) != len(other):
        return False
    # What is open takes one label at least, and any.
    if open_one and not open_other and len(other) <= len(tail_one):
        return False
    if open_other and not open_one and len(one) <= len(tail_other):
        return False
    return all(map(globs_overlap, reversed(tail_one), reversed(tail_other)))


def _tail(labels: list[str]) -> tuple[list[str], bool]:
    """The labels that are fixed in number, and whether any number may stand before them."""
    return (labels[1:], True) if labels[0] == ANY_LABELS else (labels, False)


class Overlaps:
    """Selectors, to be asked whether any speaks of a name that another one speaks of.

    Names end in the labels behind a pattern's last wildcard, so of two that overlap, one ends in what the
    other ends in: only such are looked at. Of these most differ in the text before their first wildcard or
    behind the last, or in how many labels they have, and they are not compared either.
    """

    def __init__(self, selectors: Iterable[FQDNSelector]) -> None:
        self._names: dict[Name, _Edges] = {}
        self._patterns: defaultdict[Name, list[_Edges]] = defaultdict(list)  # by their last labels
        self._under: defaultdict[Name, list[_Edges]] = defaultdict(list)  # by what these end in
        for one in map(_edges, dict.fromkeys(selectors)):
            if one.selector.literal is not None:
                self._names[one.end] = one
            else:
                self._patterns[one.end].append(one)
            for ending in one.endings():
                self._under[ending].append(one)

    def any(self, wanted: FQDNSelector) -> bool:
        """Whether one of them does."""
        mine = _edges(wanted)
        return any(overlap(wanted, one.selector) for one in self._near(mine) if one.may_meet(mine))

    def _near(self, wanted: _Edges) -> Iterator[_Edges]:
        for ending in wanted.endings():
            yield from self._patterns.get(ending, ())
        if wanted.selector.literal is None:
            yield from self._under.get(wanted.end, ())
        elif found := self._names.get(wanted.end):
            yield found


@dataclass(frozen=True, slots=True)
class _Edges:
    """What all names of a selector begin with and end in, as text; the whole labels at the end; and how many
    labels they have, 0: some number."""

    selector: FQDNSelector
    head: str
    tail: str
    end: Name
    count: int

    def endings(self) -> Iterator[Name]:
        return (self.end[start:] for start in range(len(self.end) + 1))

    def may_meet(self, other: _Edges) -> bool:
        if self.count and other.count and self.count != other.count:
            return False
        begins = self.head.startswith(other.head) or other.head.startswith(self.head)
        return begins and (self.tail.endswith(other.tail) or other.tail.endswith(self.tail))


@lru_cache(maxsize=4096)
def _edges(selector: FQDNSelector) -> _Edges:
    if selector.is_match_all:
        return _Edges(selector, "", "", (), 0)
    text, labels = selector.text, _labels(selector)
    end = selector.frame.end if selector.frame else selector.literal or ()
    count = 0 if labels[0] == ANY_LABELS else len(labels)
    return _Edges(selector, text.partition("*")[0], text.rpartition("*")[2], end, count)


@lru_cache(maxsize=4096)
def globs_overlap(one: str, other: str) -> bool:
    """Whether some label is matched by both of two labels with `*`s, each of which stands for any characters
    or none."""
    reached = {(0, 0)}
    waiting = [(0, 0)]
    while waiting:
        for step in _steps(one, other, *waiting.pop()):
            if step not in reached:
                reached.add(step)
                waiting.append(step)
    return (len(one), len(other)) in reached


def _steps(one: str, other: str, i: int, j: int) -> list[tuple[int, int]]:
    """How far both get by one character more, or by ending a star."""
    here, there = one[i : i + 1], other[j : j + 1]
    steps = []
    if here == "*":
        steps += [(i + 1, j), (i, j + 1)] if there else [(i + 1, j)]
    if there == "*":
        steps += [(i, j + 1), (i + 1, j)] if here else [(i, j + 1)]
    if here and here == there:
        steps.append((i + 1, j + 1))
    return steps
