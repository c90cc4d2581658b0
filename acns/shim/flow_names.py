"""Which names were answered with an address: what a flow's address is called.

`learned` is called where mappings are committed and costs an append; the index behind it is kept by the flow
log's thread alone. A name stays known for some time after its TTL: that a connection fails *because* a name
has expired can only be read from a flow that still says the name.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.name import Name

REMEMBERED_S = 3600.0
MAX_ADDRESSES = 50_000
MAX_NAMES = 16  # per address: a CDN's may have thousands
_MAX_WAITING = 10_000

_Lesson = tuple[Name, tuple[bytes, ...], float]


class FlowNames:
    """Address → names. `learned` for any thread, all else for one."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._waiting: deque[_Lesson] = deque(maxlen=_MAX_WAITING)
        self._known: OrderedDict[bytes, dict[str, float]] = OrderedDict()  # longest not learned first

    def learned(self, name: Name, addresses: Iterable[bytes], ttl_s: float) -> None:
        """An answer said this; addresses as four octets."""
        self._waiting.append((name, tuple(addresses), self._clock() + ttl_s + REMEMBERED_S))

    def of(self, address: IPv4Address) -> tuple[str, ...]:
        """The names known for an address, without their final dot, by name."""
        self.take_in()
        known = self._known.get(address.packed)
        if known is None:
            return ()
        now = self._clock()
        return tuple(sorted(name for name, until in known.items() if now <= until))

    def take_in(self) -> None:
        """Bring the index up to date."""
        while self._waiting:
            name, addresses, until = self._waiting.popleft()
            text = names.to_text(name).removesuffix(".")
            for address in addresses:
                self._note(address, text, until)

    def _note(self, address: bytes, name: str, until: float) -> None:
        known = self._known.setdefault(address, {})
        self._known.move_to_end(address)
        known[name] = max(until, known.pop(name, until))
        if len(known) > MAX_NAMES:
            del known[next(iter(known))]
        if len(self._known) > MAX_ADDRESSES:
            self._known.popitem(last=False)
