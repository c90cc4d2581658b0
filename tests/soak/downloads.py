"""Long downloads: they must not stand still while their name is allowed, and must stop when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import time
from collections.abc import Sequence

from . import world
from .clients import Clients
from .judge import Judge
from .model import NO, YES

BYTES_PER_S = 20_000
LENGTHS_S = (10, 40)
STALL_S = 5.0
REMEMBERED_S = 3.0
"""For so long after a lossy link is well again, TCP may wait as long for an acknowledgement as it did there:
seen with 40 % loss, 3.8 s against 0.2 s."""
ACKNOWLEDGED_S = 0.5
"""So soon what was heard is acknowledged, if no link is at fault."""
CUT_S = 1.0
"""Data may come so long after the policy has gone: what was under way."""
_PAUSE_S = 1.0
_LOOK_S = 0.5


async def keep(clients: Clients, judge: Judge, pod: str, name: str, seed: int) -> None:
    """For ever: one download after the other."""
    rng = random.Random(f"{seed} download {pod} {name}")
    while True:
        await _Download(clients, judge, pod, name).run(rng.randint(*LENGTHS_S))
        await asyncio.sleep(_PAUSE_S)


class _Download:
    def __init__(self, clients: Clients, judge: Judge, pod: str, name: str) -> None:
        self._clients, self._judge, self._pod, self._name = clients, judge, pod, name
        self._heard_at = math.inf
        self._unsure_since = math.inf
        """When something was heard last, and for certain acknowledged."""
        self._left = 0
        self._silent_s = 0.0
        """By how often it was looked: this program may have stood still itself."""
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, for_s: int) -> None:
        address = await self._address()
        if address is None:
            return
        made = self._clients.open_socket(self._pod, socket.SOCK_STREAM)
        try:
            reader = await self._begun(made, address, BYTES_PER_S * for_s)
            if reader is not None:
                self._judge.tally.counts["downloads"] += 1
                await self._read(reader)
        finally:
            if self._writer is not None:
                self._writer.transport.abort()
            made.close()

    async def _address(self) -> str | None:
        found: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        def told(rcode: int, addresses: tuple[str, ...], ttl_s: float) -> None:
            if not found.done():
                found.set_result(addresses[0] if addresses else None)

        self._clients.ask(self._pod, self._name, told)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(6.0):
                return await found
        return None

    async def _begun(self, made: socket.socket, address: str, size_bytes: int) -> asyncio.StreamReader | None:
        """None: not in time. The connections that must succeed are judged elsewhere."""
        path = f"/download?bytes={size_bytes}&rate={BYTES_PER_S}"
        try:
            async with asyncio.timeout(3.0):
                await asyncio.get_running_loop().sock_connect(made, (address, world.PORT))
                reader, writer = await asyncio.open_connection(sock=made)
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {self._name}\r\n\r\n".encode())
                await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError, TimeoutError):
            return None
        self._writer, self._left = writer, size_bytes
        return reader

    async def _read(self, reader: asyncio.StreamReader) -> None:
        self._heard_at = self._unsure_since = time.monotonic()
        while self._left > 0:
            try:
                async with asyncio.timeout(_LOOK_S):  # `wait_for` of Python 3.11 may swallow a cancellation
                    part = await reader.read(65_536)
            except TimeoutError:
                self._silent_s += _LOOK_S
                if self._gives_up():
                    return
                continue
            except OSError as error:
                self._broken(str(error))
                return
            if not part:
                self._broken(f"closed, {self._left} octets before its end")
                return
            self._hears(len(part))

    def _hears(self, size_bytes: int) -> None:
        now = time.monotonic()
        self._left -= size_bytes
        self._unsure_since = self._waits_since()
        self._heard_at, self._silent_s = now, 0.0
        if self._permission(now - CUT_S, now) is NO:
            self._judge.tally.violated(
                "wrongly passed", self._pod, f"download from {self._name} goes on without its policy", now
            )
            self._left = 0

    def _gives_up(self) -> bool:
        """Whether it stands still for good: cut by an edit, or for no reason that there is."""
        now = time.monotonic()
        if self._permission(self._heard_at - CUT_S, now) is not YES:
            if self._silent_s < 3.0:
                return False
            self._judge.tally.counts["downloads cut by an edit"] += 1
            return True
        faults = self._faults(self._heard_at - REMEMBERED_S, now)
        if now < excused_until(self._heard_at, self._waits_since(), faults) or self._silent_s < STALL_S:
            return False
        self._broken(f"nothing for {now - self._heard_at:.1f} s")
        return True

    def _waits_since(self) -> float:
        """Since when TCP may have waited ever longer: of what was heard while a link was at fault the
        acknowledgement may be lost."""
        sure = not self._faults(self._heard_at - ACKNOWLEDGED_S, self._heard_at + ACKNOWLEDGED_S)
        return self._heard_at if sure else self._unsure_since

    def _faults(self, start: float, end: float) -> list[tuple[float, float]]:
        """When the links of this way were at fault."""
        found = self._judge.model.weather.around(start, end, "link", pod=self._pod)
        return sorted((one.began, min(one.ended, end)) for one in found)

    def _broken(self, what: str) -> None:
        now = time.monotonic()
        if self._permission(self._heard_at - CUT_S, now) is YES:
            self._judge.tally.violated(
                "wrongly dropped", self._pod, f"download from {self._name}: {what}", self._heard_at
            )

    def _permission(self, start: float, end: float) -> object:
        return self._judge.model.policies.permission(self._pod, self._name, start, end)


def excused_until(heard_at: float, waits_since: float, faults: Sequence[tuple[float, float]]) -> float:
    """Until when a download may stand still that was heard last then, and has waited ever longer since
    `waits_since`.

    TCP's back-off doubles while nothing is acknowledged, and round trips that a lossy link has drawn out draw
    out the time before the next try: it comes within as long as all has lasted by then. A fault that begins
    later than that explains nothing.
    """
    excused = heard_at + STALL_S
    for began, ended in faults:
        if began <= excused:
            excused = max(excused, ended + (ended - min(began, waits_since)) + STALL_S)
    return excused
