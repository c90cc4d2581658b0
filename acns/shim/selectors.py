"""Which FQDN selectors the node's endpoints have, counted.

Thousands of selectors are spread over hundreds of endpoints, and most stay as they are from one policy to the
next. So each endpoint's are looked at again only when its egress policy is another object than before, and
the whole set is another object only when a selector came or went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from acns.dns.pattern import FQDNSelector
from acns.policy.model import FQDN, DirectionPolicy, NodePolicy


class SelectorCount:
    """Counts for the policy that was given last."""

    def __init__(self) -> None:
        self._users: Counter[FQDNSelector] = Counter()
        self._egress: dict[str, DirectionPolicy] = {}
        self._selectors: frozenset[FQDNSelector] = frozenset()

    def of(self, node: NodePolicy) -> frozenset[FQDNSelector]:
        """Every `toFQDNs` selector of the node; equal to `node.fqdn_selectors()`."""
        before, self._egress = self._egress, {one.endpoint.key: one.egress for one in node.endpoints}
        changed = [key for key, egress in self._egress.items() if before.get(key) is not egress]
        come = [selector for key in changed for selector in _selectors(self._egress[key])]
        went = [selector for key in changed if key in before for selector in _selectors(before[key])]
        went += [
            selector for key in before.keys() - self._egress.keys() for selector in _selectors(before[key])
        ]
        if self._count(come, went):
            self._selectors = frozenset(self._users)
        return self._selectors

    def _count(self, come: Iterable[FQDNSelector], went: Iterable[FQDNSelector]) -> bool:
        """Whether a selector came that nobody had, or one went that nobody has any more."""
        known = len(self._users)
        self._users.update(come)
        news = len(self._users) > known
        self._users.subtract(went)
        gone = [selector for selector in set(went) if not self._users[selector]]
        for selector in gone:
            del self._users[selector]
        return news or bool(gone)


def _selectors(egress: DirectionPolicy) -> list[FQDNSelector]:
    return [allow.peer.selector for allow in egress.allows if isinstance(allow.peer, FQDN)]
