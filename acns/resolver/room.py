"""How much the resolver may put into the kernel's set in the shim's stead: what a living shim would bound.

A name's servers may give other addresses in every answer, each with a TTL of a week, and nobody takes any
out of it while the shim is away. So there is a limit of what is within its TTL per name and pod, as the
shim has it, and one of what is in the kernel in all, as much as the shim adopts when it is back. Past half of
that a pod may have no more than an even part of what is left, so who has little finds room.

What is there already costs nothing again, whoever asks for it; it counts for who brought it. Time is an
argument, in seconds since the epoch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from acns.dns.name import Name
from acns.errors import PeerError
from acns.writer.wire import Lease

MOST_OF_NAME: Final = 1_000
"""Addresses of a name within their TTL that one pod brings."""
MOST: Final = 50_000
"""Elements of all selectors, until their timeouts."""
_SWEEP_S: Final = 10.0
"""Between two looks for what has ended, which take some tens of ms."""

_Owner = tuple[bytes, Name]
"""The pod that has brought it, and the name."""
_Element = tuple[bytes, bytes]
"""The octets of the selector's id, and the address."""


@dataclass(slots=True)
class _Held:
    gone_at: float
    owner: _Owner


class Room:
    """What was taken of it, until it ends."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held: dict[_Element, _Held] = {}
        self._of_pod: Counter[bytes] = Counter()
        """How many elements it has brought."""
        self._of_name: dict[_Owner, dict[bytes, float]] = {}
        """Address → the end of its TTL, of those that were new with this owner."""
        self._sweep_at = -math.inf

    def __len__(self) -> int:
        return len(self._held)

    def take(self, pod: bytes, name: Name, leases: Sequence[Lease], margin_s: float, now: float) -> None:
        """Count these for the pod and the name, all or none. `margin_s`: what a lease has on top of the TTL.

        They stay counted if the writer fails. Raises PeerError where there is no room.
        """
        owner, new = (pod, name), {_element(lease) for lease in leases if not self._has(lease, now)}
        self._check_name(owner, {address for _, address in new}, now)
        self._check_all(pod, len(new), now)
        for element in new:
            self._add(element, owner)
        for lease in leases:
            self._extend(lease, lease.expires_at - margin_s)

    def _has(self, lease: Lease, now: float) -> bool:
        held = self._held.get(_element(lease))
        return held is not None and held.gone_at > now

    def _check_name(self, owner: _Owner, new: set[bytes], now: float) -> None:
        known = self._of_name.get(owner, {})
        if len(known) + len(new) > MOST_OF_NAME:
            for address in [one for one, ends_at in known.items() if ends_at <= now]:
                del known[address]
        if len(known.keys() | new) > MOST_OF_NAME:
            raise PeerError(f"the name has {MOST_OF_NAME} addresses of this pod already")

    def _check_all(self, pod: bytes, more: int, now: float) -> None:
        if not more or self._fits(pod, more):
            return
        self._sweep(now)
        if not self._fits(pod, more):
            raise PeerError(f"no room for {more} more elements of a pod that has {self._of_pod[pod]}")

    def _fits(self, pod: bytes, more: int) -> bool:
        if len(self) + more <= self._most // 2:
            return True
        pods = len(self._of_pod) + (pod not in self._of_pod)
        return self._of_pod[pod] + more <= (self._most - len(self)) // pods

    def _add(self, element: _Element, owner: _Owner) -> None:
        ended = self._held.pop(element, None)
        if ended is not None:
            self._of_pod[ended.owner[0]] -= 1
        self._held[element] = _Held(-math.inf, owner)
        self._of_pod[owner[0]] += 1
        self._of_name.setdefault(owner, {}).setdefault(element[1], -math.inf)

    def _extend(self, lease: Lease, ends_at: float) -> None:
        held = self._held[_element(lease)]
        held.gone_at = max(held.gone_at, lease.expires_at)
        known = self._of_name.get(held.owner, {})
        if lease.address in known:
            known[lease.address] = max(known[lease.address], ends_at)

    def _sweep(self, now: float) -> None:
        """Let go what has ended."""
        if now < self._sweep_at <= now + _SWEEP_S:  # not where the clock was set back
            return
        self._sweep_at = now + _SWEEP_S
        for element in [one for one, held in self._held.items() if held.gone_at <= now]:
            self._of_pod[self._held.pop(element).owner[0]] -= 1
        self._of_pod = +self._of_pod
        self._of_name = {
            owner: living
            for owner, known in self._of_name.items()
            if (living := {one: ends_at for one, ends_at in known.items() if ends_at > now})
        }


def _element(lease: Lease) -> _Element:
    return lease.selector, lease.address
