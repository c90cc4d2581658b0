"""Numbers that stay: identities, endpoint ids, grants.

The kernel (`ct mark`) and the peers (FQDNData) want small numbers where we have texts. A registry gives each
text the lowest number never used, remembers it across restarts (the shim saves `news()`), and reuses a
forgotten number only when the range is used up, longest-forgotten first: a live connection may still have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from acns.errors import EnvironmentFault

# Cilium's reserved identities (pkg/identity/numericidentity.go) and ranges.
RESERVED_IDENTITIES = {
    "reserved:host": 1,
    "reserved:world": 2,
    "reserved:unmanaged": 3,
    "reserved:health": 4,
    "reserved:init": 5,
    "reserved:remote-node": 6,
    "reserved:kube-apiserver": 7,
    "reserved:ingress": 8,
}
IDENTITY_RANGE = (256, 65_535)
CIDR_IDENTITY_RANGE = (1 << 24, (1 << 24) + 65_535)
ENDPOINT_RANGE = (1, 65_535)
GRANT_RANGE = (1, 65_535)


class NumberRegistry:
    """Texts to numbers in `first`..`last`, both included."""

    def __init__(self, kind: str, first: int, last: int, known: Mapping[str, int] | None = None) -> None:
        self.kind = kind
        self.first, self.last = first, last
        self._forgotten: dict[str, None] = {}
        self._news: dict[str, int] = {}
        self.restore(known or {})

    def restore(self, known: Mapping[str, int]) -> None:
        """Begin with what was saved. Before any number is given."""
        self._numbers = dict(known)
        self._next = max(self._numbers.values(), default=self.first - 1) + 1

    def number(self, key: str) -> int:
        """The number of `key`, a new one if it has none. Raises EnvironmentFault when none is left."""
        self._forgotten.pop(key, None)
        if key not in self._numbers:
            self._numbers[key] = self._news[key] = self._fresh()
        return self._numbers[key]

    def adopt(self, known: Mapping[str, int]) -> None:
        """Numbers found in use elsewhere (the kernel): taken over where they contradict nothing known."""
        taken = set(self._numbers.values())
        for key, number in known.items():
            if key not in self._numbers and number not in taken:
                self._numbers[key] = self._news[key] = number
                taken.add(number)
        self._next = max(self._next, *(number + 1 for number in known.values()), self.first)

    def keep_only(self, keys: Iterable[str]) -> None:
        """Mark all others as forgotten: their numbers stay theirs until the range is used up."""
        live = keys if isinstance(keys, Set) else set(keys)
        self._forgotten.update(dict.fromkeys(sorted(self._numbers.keys() - live - self._forgotten.keys())))

    def known(self) -> dict[str, int]:
        """Everything to save for the next start."""
        return dict(self._numbers)

    @property
    def unsaved(self) -> Mapping[str, int]:
        """What `news` would say."""
        return self._news

    def news(self) -> dict[str, int]:
        """What has been given since the last call. A number here that another text had is that one's no
        more."""
        news, self._news = self._news, {}
        return news

    def _fresh(self) -> int:
        if self._next <= self.last:
            self._next += 1
            return self._next - 1
        if not self._forgotten:
            raise EnvironmentFault(
                f"all {self.last - self.first + 1} numbers for {self.kind} are in use",
                hint="fewer distinct rules or label sets on this node",
            )
        oldest = next(iter(self._forgotten))
        del self._forgotten[oldest]
        return self._numbers.pop(oldest)
