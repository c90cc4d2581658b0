"""The learned set, where somebody else has changed it: flushed, an address taken out or put in.

What the compiled table should hold is compared with each reading of the kernel's; what is learned is not part
of it, and there may be twenty thousand addresses. So it is looked at apart, whenever somebody else has
committed something in this namespace: read beside everything else, and only what differs is looked at once
more with nobody writing.

What the resolver has put there in this process's stead (while it hung, say), or lets stay for longer, is
nobody's tampering: it is adopted like what a restart finds, and gets its name when the resolver tells of it.
Until that is done nothing is deleted without a look (`Learned.collect`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Set
from ipaddress import IPv4Address

from acns.datapath.constants import TAKEOVER_COMMENT
from acns.datapath.elements import Found
from acns.datapath.selectors import selector_id
from acns.dns.pattern import FQDNSelector
from acns.errors import AcnsError
from acns.fqdn.cache import Change
from acns.shim.enforcer import Enforcer
from acns.shim.kernel import Kernel, Left
from acns.shim.learned import Learned
from acns.telemetry import log as logs

log = logs.named(__name__)

PAUSE_S = 1.0
"""Between two looks, however often others commit: each reads all, in a tenth of a second or two."""


class SetWatch:
    """`run` looks whenever the kernel was touched."""

    def __init__(self, kernel: Kernel, learned: Learned, enforcer: Enforcer) -> None:
        self._kernel = kernel
        self._learned = learned
        self._enforcer = enforcer

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._kernel.touched.wait()
            self._kernel.touched.clear()
            try:
                await self.look()
            except AcnsError as error:
                log.failure("learned addresses not looked at", error)
                self._kernel.touched.set()
            await asyncio.sleep(PAUSE_S)

    async def look(self) -> None:
        """Compare what is learned with what is known, adopt what the resolver did, bring back the rest."""
        others, read_at = self._kernel.others, self._learned.clock()
        seen = await self._kernel.read_elements()
        doubtful = {one for one in self._learned.in_kernel if self._is_doubtful(one, seen, read_at)}
        unknown = seen.keys() - map(selector_id, self._learned.in_kernel)
        if doubtful or unknown:
            async with self._kernel.lock:
                await self._bring_back(doubtful, seen)
                await self._take_out(unknown, seen)
        if self._learned.knows_all:  # what there was no room to adopt has to be looked at each time
            self._kernel.looked_at = others

    def _is_doubtful(self, selector: FQDNSelector, seen: Left, read_at: float) -> bool:
        elements, learned = seen.get(selector_id(selector), {}), self._learned
        return bool(
            learned.differences(selector, elements, read_at) or learned.renewed(selector, elements, read_at)
        )

    async def _bring_back(self, doubtful: Iterable[FQDNSelector], seen: Left) -> None:
        ids = {selector_id(one): one for one in doubtful if one in self._learned.in_kernel}
        known, read_at = self._learned.cache.elements, self._learned.clock()
        there = await self._kernel.find({id_: {*seen.get(id_, ()), *known(one)} for id_, one in ids.items()})
        put: dict[FQDNSelector, Mapping[bytes, float]] = {}
        delete: dict[FQDNSelector, frozenset[bytes]] = {}
        for id_, selector in ids.items():
            found = there.get(id_, {})
            elements = {address: one.left_s for address, one in found.items()}
            renewed = self._learned.renewed(selector, elements, read_at)  # those keep their comment, or none
            self._learned.adopt_some(selector, _taken_over(found) | renewed, read_at)
            change = self._learned.differences(selector, elements, read_at)
            put.update(change.put)
            delete.update(change.delete)
        if put or delete:
            self._learned.write(Change(put, delete))
            self._enforcer.report(list(_lines(put, delete)))

    async def _take_out(self, unknown: Set[str], seen: Left) -> None:
        """What is of no selector that rules name. Before the first policy all is an earlier run's.

        What is left over is ours. Of a selector that is gone, or that waits for its endpoint's interface, the
        resolver may have put more there.
        """
        if not unknown or not self._enforcer.has_enforced:
            return
        await self._learned.tidy()
        named = unknown & {*map(selector_id, self._learned.in_kernel)}
        if named:  # by now: those are for the next look
            self._kernel.touched.set()
        read_at = self._learned.clock()
        there = await self._kernel.find({id_: seen[id_] for id_ in unknown - named})
        for selector in self._learned.cache.selectors:
            if found := there.get(selector_id(selector)):
                self._learned.adopt_some(selector, _taken_over(found), read_at)
        await self._kernel.delete_many(there)
        lines = [
            _taken_out(address, id_)
            for id_, found in there.items()
            for address in found.keys() - _taken_over(found).keys()
        ]
        if lines and self._learned.knows_all:
            self._enforcer.report(lines)


def _taken_over(found: Mapping[bytes, Found]) -> dict[bytes, float]:
    """Those that the resolver has put there in our stead, with their seconds left."""
    return {address: one.left_s for address, one in found.items() if one.comment == TAKEOVER_COMMENT}


def _lines(
    put: Mapping[FQDNSelector, Iterable[bytes]], delete: Mapping[FQDNSelector, Iterable[bytes]]
) -> Iterator[str]:
    for selector, back in put.items():
        yield from (f"put back: {IPv4Address(address)} of {selector.key}" for address in back)
    for selector, out in delete.items():
        yield from (_taken_out(address, selector.key) for address in out)


def _taken_out(address: bytes, of: str) -> str:
    return f"taken out: {IPv4Address(address)} of {of}"
