"""Learned addresses: the cache and the kernel's set, changed together.

The cache knows names, the kernel knows selectors; this is where one becomes the other. Times in the cache are
the TTL's end; in the kernel an element also gets one collection interval and the agent-down grace on top, so
that nothing expires under a pod while no shim is there to judge it (a live shim deletes earlier). Only what
rules name is written: a selector that is still on its way brings its addresses with its transaction. Callers
hold `kernel.lock`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Set
from ipaddress import IPv4Address
from typing import Final

from acns.clock import steady
from acns.datapath.selectors import selector_id
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.errors import AcnsError
from acns.fqdn.cache import Change, NameCache
from acns.shim.kernel import Kernel
from acns.shim.retiming import Margins

SAME_S: Final = 0.5
"""Ends of an element that differ by less are one: of many that are written together the kernel counts some of
them from a moment later than we do."""

Elements = Mapping[FQDNSelector, Mapping[bytes, float]]


class Learned:
    """`margin_s`: what a kernel timeout has on top of the TTL."""

    def __init__(
        self, cache: NameCache, kernel: Kernel, margin_s: float, clock: Callable[[], float] = steady
    ) -> None:
        self.cache = cache
        self.kernel = kernel
        self.margin_s = margin_s
        self.clock = clock
        self.in_kernel: frozenset[FQDNSelector] = frozenset()
        """Those of the cache's selectors that rules name there: an endpoint's come with its interface."""
        self.endpoints: Set[bytes] | None = None
        """Whose live connections keep addresses, raw; None, before the first policy: anybody's."""
        self.knows_all = True
        """Whether the kernel has no address of an earlier run's that there was no room to adopt."""
        self.leftover: dict[str, frozenset[bytes]] = {}
        """Selector id → what the kernel has of it though no rule names it any more, and we know of."""
        self.names_collected = 0
        """How many names have gone at collections."""

    def learn(self, name: Name, addresses: Iterable[bytes], ttl_s: float, asked_by: str = "") -> Change:
        """Record an answer and commit its addresses; returns when the kernel has them. `ttl_s`: from now."""
        change = self.cache.learn(name, addresses, ttl_s, self.clock(), asked_by)
        self.write(change)
        return change

    def promise(self, name: Name, addresses: Iterable[bytes]) -> float:
        """How long these addresses, just learned, stay for certain, in seconds; 0: that cannot be said."""
        return self.cache.promise(name, tuple(addresses), self.clock())

    async def collect(self) -> Change:
        """Let go what has expired and is not in use; refresh what is kept for a live connection."""
        live = await self.kernel.live_destinations(self.endpoints)
        before = self.cache.name_count
        change = self.cache.collect(self.clock(), live)
        self.names_collected += before - self.cache.name_count
        self.write(Change(change.put, {}))
        await self._let_go(change)
        return change

    async def _let_go(self, change: Change) -> None:
        """Delete what is over by our reckoning, but not what the resolver has renewed in our stead, and tells
        us of a moment later."""
        ids = {selector_id(one): one for one in change.delete if one in self.in_kernel}
        unwanted = {id_: change.delete[one] for id_, one in ids.items()}
        try:
            renewed = await self.kernel.delete_past(unwanted, self.margin_s) if unwanted else {}
        except AcnsError:
            self.cache.unwritten(change)
            raise
        for id_, elements in renewed.items():
            self.adopt_some(ids[id_], elements, self.clock())

    def adopt(self, selectors: Iterable[FQDNSelector], margins: Margins) -> int:
        """Take over what the kernel has learned for these selectors; how many addresses. Once more does no
        harm: a round that fails after it is tried again. `margins`: what their timeouts have on top.

        What is there of other selectors is left over: an earlier run did not come to take it out.
        """
        ids = {selector_id(one): one for one in selectors}
        read_at, found = self.clock(), self.kernel.elements()
        if not margins.are(self.margin_s):
            # With another margin they would be taken for what the resolver has renewed in our stead.
            mine = {id_: elements for id_, elements in found.items() if id_ in ids}
            if doubtful := margins.note(mine, self.margin_s):
                self.kernel.retime(doubtful, functools.partial(margins.changed, margin_s=self.margin_s))
                read_at, found = self.clock(), self.kernel.elements()
        self.leftover = {id_: frozenset(elements) for id_, elements in found.items() if id_ not in ids}
        self.in_kernel = frozenset(selector for id_, selector in ids.items() if id_ in found)
        return sum(self.adopt_some(one, found[selector_id(one)], read_at) for one in self.in_kernel)

    def leave(self, closed: Mapping[FQDNSelector, frozenset[bytes]]) -> None:
        """No rule names these selectors any more: what they have opened is left over."""
        for selector, addresses in closed.items():
            if addresses:
                id_ = selector_id(selector)
                self.leftover[id_] = self.leftover.get(id_, frozenset()) | addresses

    async def tidy(self) -> None:
        """Take out what is left over. Raises AcnsError; it is then still to be done."""
        leftover, self.leftover = self.leftover, {}
        if not leftover:
            return
        try:
            await self.kernel.delete_many(leftover)
        except AcnsError:
            self.leftover = leftover
            raise

    def adopt_some(self, selector: FQDNSelector, elements: Mapping[bytes, float], read_at: float) -> int:
        """Take over these elements of its, with the seconds that they had left at a time of `clock`; how many
        there was room for."""
        count = 0
        for address, left_s in elements.items():
            adopted = self.cache.adopt(selector, address, read_at + left_s - self.margin_s)
            self.knows_all &= adopted
            count += adopted
        return count

    def differences(self, selector: FQDNSelector, present: Mapping[bytes, float], read_at: float) -> Change:
        """What it takes to make the kernel, which has these elements with their seconds left, have what is
        known: addresses that are not there, or would go before their TTL ends, and those that nobody learned.
        `read_at`: when reading them began, by `clock`; it may take longer than ends may differ.
        """
        wanted = self.cache.elements(selector)
        missing = {
            address: expires_at
            for address, expires_at in wanted.items()
            if read_at + present.get(address, -math.inf) < expires_at
        }
        foreign = frozenset(present.keys() - wanted.keys()) if self.knows_all else frozenset[bytes]()
        return Change({selector: missing} if missing else {}, {selector: foreign} if foreign else {})

    def renewed(
        self, selector: FQDNSelector, present: Mapping[bytes, float], read_at: float
    ) -> dict[bytes, float]:
        """Those of these elements that stay for longer than anybody told us of, with their seconds left."""
        wanted = self.cache.elements(selector)
        return {
            address: left_s
            for address, left_s in present.items()
            if read_at + left_s - self.margin_s > wanted.get(address, math.inf) + SAME_S
        }

    def lost(self) -> None:
        """The kernel has no learned set any more: it is to be made again, with what is known."""
        self.in_kernel = frozenset()

    def timeouts(self, selectors: Iterable[FQDNSelector]) -> dict[FQDNSelector, dict[IPv4Address, float]]:
        """Element timeouts, in seconds from now, of selectors that rules are about to name."""
        now = self.clock()
        return {
            selector: {
                IPv4Address(address): self._timeout_s(expires_at, now)
                for address, expires_at in self.cache.elements(selector).items()
            }
            for selector in selectors
        }

    def write(self, change: Change) -> None:
        """Bring a change to the kernel. Raises AcnsError; its elements are then due again."""
        try:
            self._put(change.put)
            self._delete(change.delete)
        except AcnsError:
            self.cache.unwritten(change)
            raise

    def _delete(self, elements: Mapping[FQDNSelector, frozenset[bytes]]) -> None:
        unwanted = {
            selector_id(selector): addresses
            for selector, addresses in elements.items()
            if selector in self.in_kernel
        }
        if unwanted:
            self.kernel.delete(unwanted)

    def _put(self, elements: Elements) -> None:
        now = self.clock()
        wanted = {
            selector_id(selector): {
                address: self._timeout_s(expires_at, now) for address, expires_at in addresses.items()
            }
            for selector, addresses in elements.items()
            if addresses and selector in self.in_kernel
        }
        if wanted:
            self.kernel.put(wanted)

    def _timeout_s(self, expires_at: float, now: float) -> float:
        return max(expires_at - now, 0.0) + self.margin_s
