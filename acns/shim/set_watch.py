"""Learned sets that somebody else has changed: flushed, an address taken out or put in.

What the compiled table should hold is compared with each reading of the kernel's; what is learned is not part
of it, and there may be twenty thousand addresses. So it is looked at apart, whenever somebody else has
committed something in this namespace: read beside everything else, and only where a set differs looked at
once more with nobody writing.

What the resolver has put there in this process's stead (while it hung, say), or lets stay for longer, is
nobody's tampering: it is adopted like what a restart finds, and gets its name when the resolver tells of it.
Until that is done nothing is deleted without a look (`Learned.collect`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

from acns.datapath.sets import fqdn_set_name
from acns.dns.pattern import FQDNSelector
from acns.errors import AcnsError
from acns.fqdn.cache import Change
from acns.shim.enforcer import Enforcer
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.telemetry import log as logs

log = logs.named(__name__)

PAUSE_S = 1.0
"""Between two looks, however often others commit: each reads all sets, in a tenth of a second or two."""


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
                log.failure("learned sets not looked at", error)
                self._kernel.touched.set()
            await asyncio.sleep(PAUSE_S)

    async def look(self) -> None:
        """Compare all learned sets with what is known, adopt what the resolver did, bring back the rest."""
        others = self._kernel.others
        sets = {fqdn_set_name(selector): selector for selector in self._learned.in_kernel}
        seen = await self._kernel.read_sets(sets)
        doubtful = {name: sets[name] for name in seen if self._is_doubtful(sets[name], seen[name])}
        if doubtful:
            async with self._kernel.lock:
                await self._bring_back(doubtful)
        if self._learned.knows_all:  # what there was no room to adopt has to be looked at each time
            self._kernel.looked_at = others

    def _is_doubtful(self, selector: FQDNSelector, seen: Mapping[bytes, float]) -> bool:
        return bool(self._learned.differences(selector, seen) or self._learned.renewed(selector, seen))

    async def _bring_back(self, doubtful: dict[str, FQDNSelector]) -> None:
        seen = await self._kernel.read_sets(doubtful)
        for name, elements in seen.items():
            new = {one: elements[one] for one in self._kernel.taken_over(name) & elements.keys()}
            renewed = self._learned.renewed(doubtful[name], elements)  # those keep their comment, or none
            self._learned.adopt_some(doubtful[name], new | renewed)
        changes = [
            change
            for name, elements in seen.items()
            if (change := self._learned.differences(doubtful[name], elements))
        ]
        for change in changes:
            self._learned.write(change)
        if changes:
            self._enforcer.report(list(_lines(changes)))


def _lines(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        for selector, back in change.put.items():
            yield from (f"put back: {IPv4Address(address)} of {selector.key}" for address in back)
        for selector, out in change.delete.items():
            yield from (f"taken out: {IPv4Address(address)} of {selector.key}" for address in out)
