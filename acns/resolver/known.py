"""What the kernel has already: addresses that the agent has promised to keep open under their names.

An answer with none but such addresses need not wait for a call. What this module keeps true: an address
counts as known only while the agent's promise lasts, less `LEAD_S`, in which to tell the agent again; without
a promise nothing is known, and every answer is told and waited for. A new connection may lead to an agent
that has forgotten, so everything is forgotten with the old one.

Time is an argument, in seconds of a clock that never steps back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from typing import Final, NamedTuple

from acns.dns.name import Name
from acns.fqdn import untold
from acns.resolver.memory import Memory

LEAD_S: Final = 1.0
"""Before a promise ends, answers wait for the next; longer than a call may take."""
_ROUNDING_S: Final = 1.0
"""So much less is no less: a promise is told in whole seconds."""
MAX_ADDRESSES: Final = 256
"""Of one name; others that it had before are told again when they come."""
_NAMES: Final = 65_536
_LEAST: Final = 4
"""So many addresses each name counts for at least."""


class Promise(NamedTuple):
    """`kept_until`: the address stays, come what may. `expires_at`: the end of the TTL that was told."""

    kept_until: float
    expires_at: float

    def sure_until(self, ttl_s: float) -> float:
        """Until when an answer of this TTL may leave at once, with nothing to be told.

        Each answer lets its pod use the address for longer than the agent was told. That may come to what the
        agent allows for (`fqdn.untold`), no more: it is told again before, and before its promise ends.
        """
        allowed_s = untold.allowed_s(ttl_s)
        return min(self.kept_until - max(LEAD_S, allowed_s), self.expires_at + allowed_s - ttl_s)


UNKNOWN: Final = Promise(-math.inf, -math.inf)


class Known:
    """Names and their addresses. `epoch` is another number after each time something was forgotten.

    `names`: so many of up to `_LEAST` addresses in each generation of the memory; more count for more.
    """

    def __init__(self, names: int = _NAMES) -> None:
        self.epoch = 0
        self._promises: Memory[Name, dict[bytes, Promise]] = Memory(names * _LEAST, weigh=_weight)

    def __len__(self) -> int:
        return len(self._promises)

    def promise(self, name: Name, addresses: Iterable[bytes]) -> Promise:
        """What holds for all these addresses; UNKNOWN when one of them is not known."""
        known = self._promises.get(name)
        if known is None:
            return UNKNOWN
        found = [known.get(address, UNKNOWN) for address in addresses]
        return Promise(min(one.kept_until for one in found), min(one.expires_at for one in found))

    def promised(self, name: Name, addresses: Iterable[bytes], promise: Promise) -> None:
        """The agent has these addresses, and keeps them. Of several promises the latest ends count.

        Of too many for one name those told now stay, and of the others whose promises last longest. The agent
        keeps what it promised for the rest, too: so no answer has to be looked at again, which every pod's
        would be, as often as somebody asks for such a name.
        """
        known = dict(self._promises.get(name) or {})  # by its weight it is remembered
        for address in addresses:
            latest = Promise(*map(max, known.get(address, UNKNOWN), promise))
            known[address] = promise if latest == promise else latest  # one for all takes less
        self._promises.put(name, known if len(known) <= MAX_ADDRESSES else _best(known, set(addresses)))

    def said(self, name: Name, addresses: Iterable[bytes], promise: Promise) -> None:
        """The agent's word on what was committed in its stead: it counts instead of what was taken for
        promised meanwhile. UNKNOWN: it promises nothing."""
        is_less = self.promise(name, addresses).kept_until > promise.kept_until + _ROUNDING_S
        if is_less or len(self._promises.get(name) or ()) >= MAX_ADDRESSES:  # not all are remembered
            self.forget(name)
        if promise is not UNKNOWN:
            self.promised(name, addresses, promise)

    def forget(self, name: Name) -> None:
        self._promises.discard(name)
        self.epoch += 1

    def forget_all(self) -> None:
        self._promises.clear()
        self.epoch += 1


def _best(known: dict[bytes, Promise], told: Set[bytes]) -> dict[bytes, Promise]:
    """As many as one name may have."""
    by_end = sorted(known, key=lambda one: (one in told, known[one].kept_until), reverse=True)
    return {one: known[one] for one in by_end[:MAX_ADDRESSES]}


def _weight(name: Name, known: dict[bytes, Promise]) -> int:
    return max(len(known), _LEAST)
