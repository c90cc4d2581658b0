"""Names and the addresses learned for them, and how long they stay: the shim's memory.

Every change of what is known becomes a `Change` of set elements for the kernel, so the shell around this only
writes. Time is an argument, in seconds since the epoch.

What this module keeps true:
* Per (name, address) the latest expiry wins; a shorter TTL later never shortens.
* An address leaves at a collection only: when its TTL has run out, no live connection goes to it nor to
  another address of its name, its idle grace is over, and it was not learned just now (with a TTL of 0 the
  pod's first packet may still be under way). A kept address is refreshed in the kernel at each collection.
* A selector that comes applies at once to all that is known; one that goes takes its elements with it.
* An element that two names of a selector share leaves with the last of them.
* Memory is bounded whatever is asked: addresses per name and endpoint, names, addresses in all. Names that no
  selector wants go first, then idle ones: past their TTL and out of use. Those that do count are not let go
  for whoever floods: of them the endpoints that hold more than their share (`shares`) lose theirs, those out
  of use before others. Of each kind the longest not asked for goes first.
* An element's expiry has on top what an answer may go beyond the TTL that was told (`untold`), and so does
  what is adopted: whoever finds it in the kernel after us does not know what we have promised.
* What was promised (`promise`) stays for that long, whatever is learned or which selectors come and go: the
  resolver lets answers with promised addresses pass without telling of them. Past half of a bound promises
  are made only to endpoints that hold no more than an even part of it, so that a flood does not have the
  others' answers told each time; near the bound to nobody, so there is always something else to let go.

Addresses found in the kernel at the start have no name; each stands for itself and ends the same way.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence, Set
from itertools import chain
from typing import Any

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.fqdn import untold
from acns.fqdn.addresses import is_learnable_address
from acns.fqdn.elements import Change, ElementTable
from acns.fqdn.leases import Census, End, Ended, Entry, Known, Lease, Stay
from acns.fqdn.matcher import Matcher
from acns.fqdn.shares import Holdings

__all__ = ["Census", "Change", "End", "Known", "NameCache", "Stay"]

_Found = tuple[FQDNSelector, bytes]
_BURST = (
    2  # times the limit per name, which is enforced at collections as Cilium does, and at this bound at once
)
PROMISED_AT_MOST_S = 300.0
_PROMISING_TO = 0.5  # of each bound
_PROMISING_AT_ALL_TO = 0.9
_EVICT_TO = 0.8  # of a bound on everything, so that the work of finding victims is spread over many


class NameCache:
    """What names resolved to, for the selectors of one node."""

    def __init__(
        self,
        *,
        max_addresses_per_name: int = 1_000,
        max_names: int = 50_000,
        max_addresses: int = 100_000,
        min_ttl_s: float = 0.0,
        idle_grace_s: float = 0.0,
        settle_s: float = 2.0,
        refresh_slack_s: float = 1.0,
        ended: Ended = lambda *_: None,
    ) -> None:
        """`idle_grace_s`: how long an expired address stays after its last connection.

        `settle_s`: how long any address stays after it was last learned. `refresh_slack_s`: by how much the
        kernel's expiry may lag behind before it is written again; keep it below the collection interval,
        which kernel timeouts have on top.
        """
        self._max_addresses_per_name = max_addresses_per_name
        self._max_names = max_names
        self._max_addresses = max_addresses
        self._min_ttl_s = min_ttl_s
        self._idle_grace_s = idle_grace_s
        self._settle_s = settle_s
        self._refresh_slack_s = refresh_slack_s
        self._ended = ended
        self._names: OrderedDict[Name, Entry] = OrderedDict()  # longest not learned first
        self._found: dict[_Found, Entry] = {}
        self._elements = ElementTable(refresh_slack_s)
        self._matcher = Matcher(())
        self._live: Set[bytes] = frozenset()
        self._address_count = 0
        self._holdings = Holdings()

    # --- what is known -------------------------------------------------------------------------------

    @property
    def name_count(self) -> int:
        return len(self._names)

    @property
    def address_count(self) -> int:
        """Pairs of name and address, and addresses found in the kernel."""
        return self._address_count

    @property
    def selectors(self) -> frozenset[FQDNSelector]:
        return self._matcher.selectors

    def census(self, now: float) -> Census:
        """How much of what is known is alive; a pass over the names."""
        names = addresses = kept = 0
        for entry in self._names.values():
            living, held = self._alive(entry, now)
            names += living > 0
            addresses += living
            kept += held
        return Census(names, addresses, kept)

    def _alive(self, entry: Entry, now: float) -> tuple[int, int]:
        """How many of its addresses are within their TTL, and how many a live connection keeps past it."""
        if entry.earliest >= now:
            return len(entry.leases), 0
        living = sum(lease.expires_at >= now for lease in entry.leases.values())
        return living, 0 if self._live.isdisjoint(entry.leases) else len(entry.leases) - living

    def elements(self, selector: FQDNSelector) -> dict[bytes, float]:
        """Address → expiry of everything that the selector opens now."""
        return self._elements.elements(selector)

    def addresses_of(self, name: Name) -> dict[bytes, float]:
        """Address → expiry as learned for one name."""
        entry = self._names.get(name)
        return {address: lease.expires_at for address, lease in entry.leases.items()} if entry else {}

    def known(self, now: float) -> Iterator[Known]:
        """Everything, names first."""
        for entry in chain(self._names.values(), self._found.values()):
            for address, lease in entry.leases.items():
                yield Known(
                    entry.name,
                    address,
                    entry.selectors,
                    lease.learned_at,
                    lease.expires_at,
                    lease.asked_by,
                    self._stay(entry, address, now),
                    self._stays_until(entry, lease),
                )

    # --- events --------------------------------------------------------------------------------------

    def learn(
        self, name: Name, addresses: Iterable[bytes], ttl_s: float, now: float, asked_by: str = ""
    ) -> Change:
        """An answer said this. Addresses that may never be learned, IPv6 ones too, are left out."""
        learnable = [address for address in addresses if is_learnable_address(address)]
        if learnable:
            entry = self._names.get(name)
            if entry is None:
                entry = self._names[name] = Entry(name, self._matcher.matching(name))
                entry.asked_by = asked_by
                self._holdings.add(asked_by, names=1, addresses=0)
            self._names.move_to_end(name)
            self._pass_on(entry, asked_by)
            ttl_s = max(ttl_s, self._min_ttl_s)
            lease = Lease(now + ttl_s, now, asked_by)
            for address in learnable:
                self._lease(entry, address, lease, until=lease.expires_at + untold.kept_s(ttl_s))
            if len(entry.leases) > _BURST * self._max_addresses_per_name:
                self._trim(entry, _BURST * self._max_addresses_per_name, now)
            self._stay_bounded(name, entry, now)
        return self._elements.take()

    def promise(self, name: Name, addresses: Sequence[bytes], now: float) -> float:
        """How long these addresses, just learned, stay for certain, in seconds; 0: that cannot be said."""
        entry = self._names.get(name)
        if entry is None or not self._may_promise(entry):
            return 0.0
        leases = [entry.leases.get(address) for address in addresses]
        found = [lease for lease in leases if lease is not None]
        if not found or len(found) < len(leases):
            return 0.0
        if len(entry.leases) > _PROMISING_TO * self._max_addresses_per_name:
            return 0.0
        until = min(now + PROMISED_AT_MOST_S, *(lease.expires_at for lease in found))
        for address, lease in zip(addresses, found, strict=True):
            entry.leases[address] = lease._replace(
                kept_until=max(until, lease.kept_until),
                untold_s=max(untold.kept_s(lease.expires_at - now), lease.untold_s),
            )
        return max(until - now, 0.0)

    def adopt(self, selector: FQDNSelector, address: bytes, expires_at: float) -> bool:
        """The kernel has this element of somebody else's, or from an earlier life, which it may have let lag
        behind what was known; of several ends the latest counts. The selector may be set before or after.
        False: there is no room for it, and the kernel's own timeout will end it; half of the room is for
        names."""
        entry = self._found.get((selector, address))
        if entry is None:
            if self._address_count >= self._max_addresses // 2:
                return False
            wanted = (selector,) if selector in self.selectors else ()
            entry = self._found[selector, address] = Entry(None, wanted)
        lease = Lease(expires_at + self._refresh_slack_s, -math.inf)
        self._lease(entry, address, lease, until=expires_at)
        for one in entry.selectors:
            self._elements.adopt(one, address, expires_at)
        return True

    def set_selectors(self, selectors: Iterable[FQDNSelector]) -> Change:
        """From now on these selectors count. The change closes what those that went had opened."""
        matcher = Matcher(selectors)
        gone, come = self.selectors - matcher.selectors, matcher.selectors - self.selectors
        self._matcher = matcher
        for selector in gone:
            self._elements.remove(selector)
        for selector in come:
            self._elements.add(selector)
        if gone or come:
            arrivals = Matcher(come)
            for name, entry in self._names.items():
                self._reselect(entry, gone, arrivals.matching(name))
            for (selector, _), entry in self._found.items():
                self._reselect(entry, gone, (selector,) if selector in come else ())
        return self._elements.take()

    def collect(self, now: float, live: Set[bytes]) -> Change:
        """Let go what is over. `live`: the addresses that live connections go to."""
        self._live = frozenset(live)
        self._collect_in(self._names, now)
        self._collect_in(self._found, now)
        return self._elements.take()

    def unwritten(self, change: Change) -> None:
        """The kernel refused this change: write its elements again as soon as they are learned again."""
        self._elements.unwritten(change)

    # --- leases --------------------------------------------------------------------------------------

    def _lease(self, entry: Entry, address: bytes, lease: Lease, until: float) -> None:
        """`until`: the end of its elements."""
        known = entry.leases.get(address)
        if known is None:
            self._count(entry, 1)
            for selector in entry.selectors:
                self._elements.hold(selector, address, until)
        else:
            lease = lease._replace(
                expires_at=max(known.expires_at, lease.expires_at),
                kept_until=known.kept_until,
                untold_s=known.untold_s,
            )
            for selector in entry.selectors:
                self._elements.extend(selector, address, until)
        entry.leases[address] = lease
        entry.earliest = min(entry.earliest, lease.expires_at)

    def _end(self, entry: Entry, address: bytes, why: End) -> None:
        self._ended(entry.name, address, entry.selectors, why)
        del entry.leases[address]
        self._count(entry, -1)
        for selector in entry.selectors:
            self._elements.release(selector, address)

    def _count(self, entry: Entry, addresses: int) -> None:
        """So many more, or less. What was found in the kernel is nobody's."""
        self._address_count += addresses
        if entry.name is not None:
            self._holdings.add(entry.asked_by, names=0, addresses=addresses)

    def _pass_on(self, entry: Entry, asked_by: str) -> None:
        """Of those who learn it a name counts for the one that holds least: who floods takes none over."""
        if self._holdings.names(asked_by) < self._holdings.names(entry.asked_by):
            held = len(entry.leases)
            self._holdings.add(entry.asked_by, names=-1, addresses=-held)
            self._holdings.add(asked_by, names=1, addresses=held)
            entry.asked_by = asked_by

    def _reselect(self, entry: Entry, gone: Set[FQDNSelector], come: tuple[FQDNSelector, ...]) -> None:
        kept = tuple(selector for selector in entry.selectors if selector not in gone)
        for selector in come:
            for address, lease in entry.leases.items():
                self._elements.hold(selector, address, lease.expires_at + lease.untold_s)
        entry.selectors = kept + come

    # --- collection ----------------------------------------------------------------------------------

    def _collect_in(self, entries: MutableMapping[Any, Entry], now: float) -> None:
        for key, entry in list(entries.items()):
            if entry.earliest < now:
                self._let_go(entry, now)
            if len(entry.leases) > self._max_addresses_per_name:
                self._trim(entry, self._max_addresses_per_name, now)
            if not entry.leases:
                del entries[key]
                self._gone(entry)

    def _let_go(self, entry: Entry, now: float) -> None:
        if not self._live.isdisjoint(entry.leases):
            entry.last_live = now
        for address, lease in list(entry.leases.items()):
            if now <= lease.expires_at:
                continue
            if now > self._stays_until(entry, lease):
                self._end(entry, address, End.EXPIRED)
            else:
                for selector in entry.selectors:
                    self._elements.extend(selector, address, now)
        entry.earliest = min((lease.expires_at for lease in entry.leases.values()), default=math.inf)

    def _stay(self, entry: Entry, address: bytes, now: float) -> Stay:
        lease = entry.leases[address]
        if now <= lease.expires_at:
            return Stay.FRESH
        if address in self._live:
            return Stay.IN_USE
        if not self._live.isdisjoint(entry.leases):
            return Stay.NAME_IN_USE
        return Stay.GRACE if now <= self._stays_until(entry, lease) else Stay.DUE

    def _stays_until(self, entry: Entry, lease: Lease) -> float:
        in_use_until = max(lease.expires_at + lease.untold_s, entry.last_live) + self._idle_grace_s
        return max(in_use_until, lease.learned_at + self._settle_s)

    # --- bounds --------------------------------------------------------------------------------------

    def _trim(self, entry: Entry, at_most: int, now: float) -> None:
        """Where the name has more than so many addresses for one endpoint, down to the limit: earliest expiry
        first, never one in use, promised, or learned just now: who asked may connect to it. An address counts
        for the endpoint that was last told it."""
        by_endpoint: dict[str, list[bytes]] = {}
        for address, lease in entry.leases.items():
            by_endpoint.setdefault(lease.asked_by, []).append(address)
        for addresses in by_endpoint.values():
            if len(addresses) > at_most:
                surplus = len(addresses) - self._max_addresses_per_name
                idle = [
                    address
                    for address in addresses
                    if address not in self._live
                    and max(entry.leases[address].kept_until, entry.leases[address].learned_at) < now
                ]
                for address in heapq.nsmallest(surplus, idle, key=lambda one: entry.leases[one].expires_at):
                    self._end(entry, address, End.LIMIT_PER_NAME)

    def _stay_bounded(self, newest_name: Name, newest: Entry, now: float) -> None:
        """Make room where there is too much. An answer that a pod waits for is not what has to go for it."""
        if self._within(1.0):
            return
        if not newest.selectors:
            self._forget(newest_name, newest, now)
        self._let_some_go(lambda entry: not entry.selectors, now)
        self._let_some_go(lambda entry: self._is_idle(entry, now), now)
        if self._within(1.0):
            return
        has_surplus = self._holdings.surplus(
            names=_EVICT_TO * self._max_names,
            addresses=_EVICT_TO * self._max_addresses - len(self._found),
        )

        def is_surplus(entry: Entry) -> bool:
            return entry is not newest and has_surplus(entry.asked_by)

        def is_idle_surplus(entry: Entry) -> bool:
            return is_surplus(entry) and self._live.isdisjoint(entry.leases)

        for dispensable in (is_idle_surplus, is_surplus, lambda entry: entry is not newest):
            self._let_some_go(dispensable, now)
        if not self._within(1.0):
            self._end_all(newest, lambda lease: max(lease.kept_until, lease.learned_at) < now)

    def _let_some_go(self, dispensable: Callable[[Entry], bool], now: float) -> None:
        """Where there is too much, down to somewhat less, of what is dispensable and not promised."""
        if self._within(1.0):
            return
        for name, entry in list(self._names.items()):
            if self._within(_EVICT_TO):
                return
            if dispensable(entry):
                self._forget(name, entry, now)

    def _is_idle(self, entry: Entry, now: float) -> bool:
        """Whether nothing but its grace keeps it."""
        return self._live.isdisjoint(entry.leases) and all(
            now > max(lease.expires_at + lease.untold_s, lease.learned_at + self._settle_s)
            for lease in entry.leases.values()
        )

    def _may_promise(self, entry: Entry) -> bool:
        if self._within(_PROMISING_TO):
            return True
        is_modest = self._holdings.is_modest(
            entry.asked_by,
            names=_PROMISING_TO * self._max_names,
            addresses=_PROMISING_TO * self._max_addresses,
        )
        return is_modest and self._within(_PROMISING_AT_ALL_TO)

    def _within(self, share: float) -> bool:
        return (
            len(self._names) <= self._max_names * share and self._address_count <= self._max_addresses * share
        )

    def _forget(self, name: Name, entry: Entry, now: float) -> None:
        """All of it but the addresses that are promised."""
        self._end_all(entry, lambda lease: lease.kept_until < now)
        if not entry.leases:
            del self._names[name]
            self._gone(entry)

    def _end_all(self, entry: Entry, dispensable: Callable[[Lease], bool]) -> None:
        for address, lease in list(entry.leases.items()):
            if dispensable(lease):
                self._end(entry, address, End.LIMIT)

    def _gone(self, entry: Entry) -> None:
        if entry.name is not None:
            self._holdings.add(entry.asked_by, names=-1, addresses=0)
