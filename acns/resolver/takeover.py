"""Committing in the shim's stead while it is away or hangs: new addresses of allowed names open anyway.

Nothing is decided here that the shim would decide otherwise. That the pod may have asked for the name is the
gate's judgement, by the last policy snapshot; which selectors a name belongs to, and how long its elements
stay, is what the shim's own file says (`acns.api.ledger_file`). They are written by a process of their own
(`acns.writer`), since this one may not; those of a selector that no rule names any more open nothing, and the
shim takes them out when it is back. What there is no room for (`room`) is not committed.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from acns import statelog
from acns.api import ledger_file
from acns.api.codec import Mapping
from acns.api.ledger_file import KnownSelectors
from acns.errors import AcnsError, PeerError
from acns.fqdn import untold
from acns.fqdn.addresses import is_learnable_address
from acns.fqdn.matcher import Matcher
from acns.resolver.room import MOST_OF_NAME, Room
from acns.resolver.writer_link import WriterLink
from acns.telemetry import log as logs
from acns.writer import wire
from acns.writer.wire import Lease, Outcome

log = logs.named(__name__)

MAX_TTL_S: Final = 7 * 86_400  # as the shim: RFC 8767 section 4
PATIENCE_S: Final = 3.0
"""For the writer. A ruleset that is being committed holds it up for part of a second, a busy machine for
longer; pods wait 5 s (resolv.conf(5)), and all there is for them without it is SERVFAIL."""


class Takeover:
    """`ledger`: the shim's file."""

    def __init__(self, writer: WriterLink, ledger: Path) -> None:
        self.writer = writer
        self._room = Room()
        self._ledger = ledger
        self._read: tuple[tuple[int, ...], KnownSelectors, Matcher] | None = None
        self._reading = asyncio.Lock()
        self._log_failed = logs.Seldom()

    def shim_is_back(self) -> None:
        """What was committed in its stead is its to bound from now on."""
        self._room = Room()

    async def commit(self, mapping: Mapping, age_s: float) -> bool:
        """Whether the kernel has the addresses of an answer that came `age_s` ago, wherever they belong."""
        try:
            leases = await self._leases(mapping, age_s)
            async with asyncio.timeout(PATIENCE_S):
                for start in range(0, len(leases), wire.MOST):
                    if await self.writer.put(leases[start : start + wire.MOST]) is not Outcome.WRITTEN:
                        return False
        except TimeoutError:
            self._failed("the writer does not answer")
            return False
        except AcnsError as error:
            self._failed(str(error))
            return False
        return True

    async def _leases(self, mapping: Mapping, age_s: float) -> list[Lease]:
        known, matcher = await self._selectors()
        ttl_s = min(max(mapping.ttl_s, known.terms.min_ttl_s), MAX_TTL_S)
        # The shim will find these as they are: what it allows for itself has to be in them.
        stays_s = ttl_s + untold.kept_s(ttl_s) + known.terms.margin_s
        now = time.time()
        addresses = [one for one in mapping.addresses if is_learnable_address(one)]
        octets = [known.octets[one] for one in matcher.matching(mapping.name)]
        if octets and len(addresses) > MOST_OF_NAME:
            raise PeerError(f"an answer has {len(addresses)} addresses")
        leases = [Lease(one, address, now - age_s + stays_s) for one in octets for address in addresses]
        self._room.take(mapping.source, mapping.name, leases, known.terms.margin_s, now)
        return leases

    async def _selectors(self) -> tuple[KnownSelectors, Matcher]:
        """As the shim's file has them now. Raises AcnsError."""
        async with self._reading:
            version = _version(self._ledger)
            if self._read is None or self._read[0] != version:
                known = await asyncio.to_thread(ledger_file.read, self._ledger)
                if known.damage:
                    log.failure("the shim's ledger is damaged, going by what is before", known.damage)
                self._read = version, known, Matcher(known.octets)
            return self._read[1:]

    def _failed(self, reason: str) -> None:
        if self._log_failed():
            log.error("addresses not committed in the shim's stead", reason=reason)


def _version(path: Path) -> tuple[int, ...]:
    """Another one whenever the file has changed, and once more when that is no append under way any more."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, statelog.is_fresh(path)
