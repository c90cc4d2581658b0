"""What should stand in the kernel's learned set, and what must be written to get there.

One element per selector and address. An address is held by every name that brought it, and leaves with the
last of them. Nothing is written here: changes gather until `take()`, which assumes that its caller
writes them; `unwritten()` takes that back. An element's expiry never goes down, and it is written again only
when it has grown by more than `slack_s`: answers out of a server's cache repeat the same moment of expiry,
rounded to a second, and would otherwise cost a kernel commit each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from acns.dns.pattern import FQDNSelector


@dataclass(frozen=True, slots=True)
class Change:
    """Element writes (selector → address → expiry, seconds since the epoch) and removals; empty is false."""

    put: Mapping[FQDNSelector, Mapping[bytes, float]]
    delete: Mapping[FQDNSelector, frozenset[bytes]]

    def __bool__(self) -> bool:
        return bool(self.put or self.delete)


@dataclass(slots=True)
class _Element:
    expires_at: float = -math.inf
    written: float = -math.inf
    """The expiry that the kernel was told; -inf: none yet."""
    holders: int = 0


class ElementTable:
    """The elements of all selectors, and the changes since the last `take`."""

    def __init__(self, slack_s: float) -> None:
        self._slack_s = slack_s
        self._selectors: dict[FQDNSelector, dict[bytes, _Element]] = {}
        self._put: dict[FQDNSelector, dict[bytes, float]] = {}
        self._delete: dict[FQDNSelector, set[bytes]] = {}

    def add(self, selector: FQDNSelector) -> None:
        self._selectors[selector] = {}

    def remove(self, selector: FQDNSelector) -> None:
        """It goes with its elements, whoever holds them."""
        for address, element in self._selectors.pop(selector).items():
            self._gone(selector, address, element)

    def elements(self, selector: FQDNSelector) -> dict[bytes, float]:
        """Address → expiry; empty for a selector that is not here."""
        return {address: element.expires_at for address, element in self._selectors.get(selector, {}).items()}

    def hold(self, selector: FQDNSelector, address: bytes, expires_at: float) -> None:
        """One more name needs this address."""
        element = self._selectors[selector].setdefault(address, _Element())
        element.holders += 1
        self.extend(selector, address, expires_at)

    def extend(self, selector: FQDNSelector, address: bytes, expires_at: float) -> None:
        """A name needs this address until then; nothing happens where that is no news."""
        element = self._selectors[selector][address]
        element.expires_at = max(element.expires_at, expires_at)
        if element.expires_at - element.written > self._slack_s:
            self._put.setdefault(selector, {})[address] = element.expires_at

    def release(self, selector: FQDNSelector, address: bytes) -> None:
        """One name needs this address no more."""
        elements = self._selectors[selector]
        element = elements[address]
        element.holders -= 1
        if element.holders == 0:
            del elements[address]
            self._gone(selector, address, element)

    def adopt(self, selector: FQDNSelector, address: bytes, written: float) -> None:
        """The kernel has this held element already, with that expiry: no write of it is needed."""
        element = self._selectors[selector][address]
        element.written = max(element.written, written)
        if element.expires_at - element.written <= self._slack_s:
            self._put.get(selector, {}).pop(address, None)

    def take(self) -> Change:
        """The changes since the last call. The caller writes them, or says that it could not."""
        put = {selector: addresses for selector, addresses in self._put.items() if addresses}
        for selector, addresses in put.items():
            for address, expires_at in addresses.items():
                self._selectors[selector][address].written = expires_at
        delete = {selector: frozenset(addresses) for selector, addresses in self._delete.items() if addresses}
        self._put, self._delete = {}, {}
        return Change(put, delete)

    def unwritten(self, change: Change) -> None:
        """This change did not reach the kernel: its writes are due again, with the next need of each."""
        for selector, addresses in change.put.items():
            elements = self._selectors.get(selector, {})
            for address in addresses:
                if address in elements:
                    elements[address].written = -math.inf

    def _gone(self, selector: FQDNSelector, address: bytes, element: _Element) -> None:
        self._put.get(selector, {}).pop(address, None)
        if element.written > -math.inf:
            self._delete.setdefault(selector, set()).add(address)
