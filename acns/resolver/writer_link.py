"""The writer process as the resolver's loop uses it: leases go in, what became of them comes out.

One request is under way at a time; what comes meanwhile goes together in the next, so a burst of answers
costs few commits. The writer was started before this process gave its privileges up and cannot be started
again: its end, or its hanging, is the resolver's end too, and whoever supervises starts both anew.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from acns.errors import EnvironmentFault
from acns.writer import wire
from acns.writer.wire import Lease, Outcome

_END_S: Final = 2.0
STARTS_S: Final = 30.0
"""Without its first word for so long it gives none."""
_SECOND_LOOK_S: Final = 0.2
HANGS_S: Final = 10.0
"""Without an answer for so long it gives none any more. A busy machine, or a large ruleset that is being
committed, holds it up for less."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    leases: Sequence[Lease]
    outcome: asyncio.Future[Outcome]


class WriterLink:
    """Make it with `start`, while this process may still change the kernel."""

    def __init__(self, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        self.ready = asyncio.Event()
        """The writer has said that it is there."""
        self._process = process
        self._link = link
        self._sequence = 0
        self._line: list[_Waiting] = []
        self._under_way: list[_Waiting] = []
        self._overdue: asyncio.TimerHandle | None = None
        """When the answer to what is under way is given up, or the first word."""

    @classmethod
    def start(cls) -> WriterLink:
        """Start the writer; it is there when it answers."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            command = [sys.executable, "-m", "acns.writer", str(its.fileno())]
            process = subprocess.Popen(command, pass_fds=(its.fileno(),), stdin=subprocess.DEVNULL)
        ours.setblocking(False)
        return cls(process, ours)

    async def put(self, leases: Sequence[Lease]) -> Outcome:
        """Have the kernel's elements last so long at least. At most `wire.MOST` leases."""
        waiting = _Waiting(leases, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        if not self._under_way:
            self._send()
        try:
            return await waiting.outcome
        finally:  # who gave up waiting leaves nothing behind
            if waiting in self._line:
                self._line.remove(waiting)

    async def run(self) -> None:
        """Hear the writer out, for ever. Raises EnvironmentFault when it ends or hangs."""
        if not self._under_way:
            self._start_clock(STARTS_S)
        while data := await self._heard():
            if not self._under_way:
                self._stop_clock()
            self.ready.set()
            sequence, outcome = wire.read_answer(data)
            if sequence != self._sequence or not self._under_way:
                continue  # its first word, or an answer that nobody waits for
            for waiting in self._under_way:
                if not waiting.outcome.done():
                    waiting.outcome.set_result(outcome)
            self._under_way = []
            self._stop_clock()
            if self._line:
                self._send()
        raise EnvironmentFault(
            "the process that writes learned addresses has ended, or hangs",
            hint="its log says why; start the resolver again",
        )

    async def _heard(self) -> bytes:
        """Empty when it has ended, also where that was with a request unread."""
        try:
            return await asyncio.get_running_loop().sock_recv(self._link, wire.MAX_BYTES)
        except ConnectionError:
            return b""

    def close(self) -> None:
        """Let the writer end."""
        self._stop_clock()
        self._link.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self) -> None:
        count = 0
        while self._line and count + len(self._line[0].leases) <= wire.MOST:
            count += len(self._line[0].leases)
            self._under_way.append(self._line.pop(0))
        self._sequence = self._sequence % 0xFFFF_FFFF + 1
        leases = [lease for waiting in self._under_way for lease in waiting.leases]
        self._start_clock(HANGS_S)
        try:
            self._link.send(wire.request(self._sequence, leases))
        except OSError:  # it has ended; `run` says so
            self._abandon()

    def _look_again(self) -> None:
        """It may be this process that stood still, with the answer unread."""
        loop = asyncio.get_running_loop()
        self._overdue = loop.call_later(_SECOND_LOOK_S, self._give_up)

    def _give_up(self) -> None:
        """`run` hears the end."""
        self._link.shutdown(socket.SHUT_RD)

    def _start_clock(self, within_s: float) -> None:
        self._stop_clock()
        self._overdue = asyncio.get_running_loop().call_later(within_s, self._look_again)

    def _stop_clock(self) -> None:
        if self._overdue:
            self._overdue.cancel()

    def _abandon(self) -> None:
        self._stop_clock()
        for waiting in (*self._under_way, *self._line):
            if not waiting.outcome.done():
                waiting.outcome.set_result(Outcome.FAILED)
        self._under_way, self._line = [], []
