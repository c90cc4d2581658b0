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
from collections.abc import Iterable, Iterator, Set
from ipaddress import IPv4Address

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
        others = self._kernel.others
        seen = await self._kernel.read_elements()
        doubtful = {one for one in self._learned.in_kernel if self._is_doubtful(one, seen)}
        unknown = seen.keys() - map(selector_id, self._learned.in_kernel)
        if doubtful or unknown:
            async with self._kernel.lock:
                await self._bring_back(doubtful, seen)
                await self._take_out(unknown, seen)
        if self._learned.knows_all:  # what there was no room to adopt has to be looked at each time
            self._kernel.looked_at = others

    def _is_doubtful(self, selector: FQDNSelector, seen: Left) -> bool:
        elements = seen.get(selector_id(selector), {})
        return bool(
            self._learned.differences(selector, elements) or self._learned.renewed(selector, elements)
        )

    async def _bring_back(self, doubtful: Iterable[FQDNSelector], seen: Left) -> None:
        ids = {selector_id(one): one for one in doubtful if one in self._learned.in_kernel}
        known = self._learned.cache.elements
        there = await self._kernel.left({id_: {*seen.get(id_, ()), *known(one)} for id_, one in ids.items()})
        new = await self._kernel.taken_over(there)
        for id_, elements in there.items():
            adopted = {one: elements[one] for one in new.get(id_, ())}
            renewed = self._learned.renewed(ids[id_], elements)  # those keep their comment, or none
            self._learned.adopt_some(ids[id_], adopted | renewed)
        changes = [
            change
            for id_, selector in ids.items()
            if (change := self._learned.differences(selector, there.get(id_, {})))
        ]
        for change in changes:
            self._learned.write(change)
        if changes:
            self._enforcer.report(list(_lines(changes)))

    async def _take_out(self, unknown: Set[str], seen: Left) -> None:
        """What is of no selector. Of one that is gone the resolver may have put more there; nobody else.
        Before the first policy all is an earlier run's."""
        if not unknown or not self._enforcer.has_enforced:
            return
        known = unknown & {*map(selector_id, self._learned.in_kernel)}
        if known:  # by now: those are for the next look
            self._kernel.touched.set()
        there = await self._kernel.left({id_: seen[id_] for id_ in unknown - known})
        if not there:
            return
        late = await self._kernel.taken_over(there)
        self._kernel.delete(there)
        foreign = {id_: elements.keys() - late.get(id_, ()) for id_, elements in there.items()}
        lines = [_taken_out(address, id_) for id_, addresses in foreign.items() for address in addresses]
        if lines:
            self._enforcer.report(lines)


def _lines(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        for selector, back in change.put.items():
            yield from (f"put back: {IPv4Address(address)} of {selector.key}" for address in back)
        for selector, out in change.delete.items():
            yield from (_taken_out(address, selector.key) for address in out)


def _taken_out(address: bytes, of: str) -> str:
    return f"taken out: {IPv4Address(address)} of {of}"
