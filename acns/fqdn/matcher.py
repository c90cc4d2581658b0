"""Which selectors match a name, without asking each of them.

Most selectors are literal, and most patterns end in labels without a wildcard (`*.example.com`): both are
found by what a name ends in. Only those patterns are tried that share the name's last labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector


class Matcher:
    """Selectors by the names they match."""

    def __init__(self, selectors: Iterable[FQDNSelector]) -> None:
        self.selectors = frozenset(selectors)
        self._literal: defaultdict[Name, list[FQDNSelector]] = defaultdict(list)
        self._patterns: defaultdict[Name, list[FQDNSelector]] = defaultdict(list)
        for selector in self.selectors:
            if selector.literal is None:
                self._patterns[_literal_end(selector)].append(selector)
            else:
                self._literal[selector.literal].append(selector)

    def matching(self, name: Name) -> tuple[FQDNSelector, ...]:
        """Those that match the name."""
        found = list(self._literal.get(name, ()))
        for start in range(len(name) + 1):
            found += (one for one in self._patterns.get(name[start:], ()) if one.matches(name))
        return tuple(found)


def _literal_end(selector: FQDNSelector) -> Name:
    """The labels behind its last wildcard."""
    labels = selector.text.removesuffix(".").split(".")
    wild = max((place for place, label in enumerate(labels) if "*" in label), default=-1)
    return tuple(label.encode("ascii") for label in labels[wild + 1 :])
