"""Which selectors match a name, without asking each of them.

Most selectors are literal, and most patterns end in labels without a wildcard (`*.example.com`): both are
found by what a name ends in. Of the patterns with the same last labels (`app1*.example.com`,
`*-db.example.com`) only those are tried that share the name's text before the first wildcard and behind the
last one. So a name costs the same with one pattern and with ten thousand, but for those that differ between
their wildcards alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector, Frame

_Shape = tuple[int, int]
"""How long a frame's head and tail are."""


class Matcher:
    """Selectors by the names they match."""

    def __init__(self, selectors: Iterable[FQDNSelector]) -> None:
        self.selectors = frozenset(selectors)
        self._literal: defaultdict[Name, list[FQDNSelector]] = defaultdict(list)
        self._patterns: defaultdict[Frame, list[FQDNSelector]] = defaultdict(list)
        self._shapes: defaultdict[Name, set[_Shape]] = defaultdict(set)  # by a frame's end
        for selector in self.selectors:
            if selector.literal is not None:
                self._literal[selector.literal].append(selector)
            elif (frame := selector.frame) is not None:
                self._patterns[frame].append(selector)
                self._shapes[frame.end].add((len(frame.head), len(frame.tail)))

    def matching(self, name: Name) -> tuple[FQDNSelector, ...]:
        """Those that match the name."""
        found = [one for one in self._candidates(name) if one.matches(name)]
        return (*self._literal.get(name, ()), *found)

    def matches(self, name: Name) -> bool:
        """Whether any does."""
        return name in self._literal or any(one.matches(name) for one in self._candidates(name))

    def _candidates(self, name: Name) -> Iterator[FQDNSelector]:
        """The patterns whose frame fits."""
        for start in range(len(name) + 1):
            end = name[start:]
            if end in self._shapes:
                wild = b".".join(name[:start])
                for head, tail in self._shapes[end]:
                    if head + tail <= len(wild):
                        frame = Frame(end, wild[:head], wild[len(wild) - tail :])
                        yield from self._patterns.get(frame, ())
