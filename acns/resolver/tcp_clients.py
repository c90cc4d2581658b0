"""TCP connections of pods, accepted transparently: their local address is the server that was asked.

What a pod can make us hold is bounded: connections in all and per pod, queries in flight per connection (past
that it is not read), answers it does not read (past that neither it nor its server is), the time without a
complete query, the time without reading its answers. A pod past its rate is read more slowly, and refused
nothing. A pod that has closed its half still gets its answers.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from acns.resolver.budget import Budget
from acns.resolver.handover import Connection
from acns.resolver.idle import Idle
from acns.resolver.intercept import Address
from acns.resolver.metrics import TCP
from acns.resolver.overload import Budgeted
from acns.resolver.settings import ResolverSettings
from acns.resolver.sockets import Sockets
from acns.resolver.stream import Stream
from acns.resolver.tcp_client import Gate, TCPClient
from acns.resolver.transparent import Transparency

ACCEPTED_AT_ONCE: Final = 8
SWEEP_INTERVAL_S: Final = 0.1
NO_DESCRIPTORS_PAUSE_S: Final = 0.1


class TCPClients:
    """All TCP connections of pods."""

    def __init__(self, settings: ResolverSettings, gate: Gate, transparency: Transparency) -> None:
        self.settings = settings
        self.transparency = transparency
        self.gate = gate
        self.budget = Budget(settings.max_tcp_connections, settings.max_tcp_connections_per_pod)
        self.connections: set[TCPClient] = set()
        self.sockets = Sockets()
        self.idle = Idle(self.sockets)
        self.changed = asyncio.Event()
        """A connection has come to its end, or owes its pod less."""
        self._listener: socket.socket | None = None
        self._accepts = False
        self._sweeper: asyncio.TimerHandle | None = None

    def serve(self, listener: socket.socket) -> None:
        """Accept from `listener`, which is ours from now on."""
        self._listener, self._accepts = listener, True
        self._accept_on(listener)

    def adopt(self, given: Connection) -> None:
        """A connection that another resolver has served until now."""
        if not self.budget.take(share := self.budget.share(given.pod[0])):
            self._refuse(given.socket, "limit")
            return
        connection = TCPClient(self, given.socket, given.pod, given.server, share)
        self.connections.add(connection)
        if self._sweeper is None:
            self._sweep_later()
        connection.go_on(given.unread)

    async def give_up(self, give: Callable[[Connection], Awaitable[None]]) -> None:
        """Read no more; `give` each connection away as soon as it owes its pod nothing. One that cannot be
        given stays."""
        for connection in self.connections:
            connection.leave()
        while self.connections:
            self.changed.clear()
            for connection in list(self.connections):
                if (given := connection.given_up()) is not None:
                    try:
                        await give(given)
                    except BaseException:
                        self.adopt(given)
                        raise
            if self.connections:
                await self.changed.wait()

    def give_up_listener(self) -> socket.socket:
        """Accept no more; somebody else may, from this listener and its queue."""
        assert self._listener, "it is accepted from"
        self._accepts = False
        self.sockets.remove(self._listener.fileno())
        return self._listener

    def take_back(self) -> None:
        """Accept and read again."""
        if self._listener and not self._accepts:
            self.serve(self._listener)
        for connection in self.connections:
            connection.stay()

    def stop_accepting(self) -> None:
        if self._listener:
            self.sockets.remove(self._listener.fileno())
            self._listener.close()
            self._listener = None

    @property
    def owes(self) -> bool:
        """Whether an answer waits here for its pod to read."""
        return any(connection.owes for connection in self.connections)

    def close(self) -> None:
        self.stop_accepting()
        if self._sweeper:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.end()
        self.idle.close()
        self.sockets.close()

    def forget(self, connection: TCPClient) -> None:
        """It has come to its end."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.budget.give(connection.share)
            self.changed.set()

    # --- new ones -------------------------------------------------------------------------------------

    def _accept_on(self, listener: socket.socket) -> None:
        if listener is self._listener and self._accepts:
            self.sockets.add(listener.fileno(), partial(self._acceptable, listener))

    def _acceptable(self, listener: socket.socket, events: int, now: float) -> None:
        own = listener.getsockname()
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                made, peer = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # gone before it was accepted
            except OSError:  # no descriptors, no memory: it would be ready again at once
                self.gate.metrics.tcp_refused.add("descriptors")
                self.sockets.remove(listener.fileno())
                self.sockets.loop.call_later(NO_DESCRIPTORS_PAUSE_S, self._accept_on, listener)
                return
            self._accepted(made, peer, own)

    def _accepted(self, made: socket.socket, peer: Address, own: Address) -> None:
        server = made.getsockname()
        if server == own:
            self._refuse(made, "direct")  # not redirected
        elif not self.budget.take(share := self.budget.share(peer[0])):
            self.gate.overload.note(socket.inet_aton(peer[0]), TCP, Budgeted.CONNECTIONS)
            self._refuse(made, "limit")
        else:
            made.setblocking(False)
            self.connections.add(TCPClient(self, made, peer, (socket.inet_aton(server[0]), server[1]), share))
            if self._sweeper is None:
                self._sweep_later()

    def _refuse(self, made: socket.socket, reason: str) -> None:
        self.gate.metrics.tcp_refused.add(reason)
        Stream(made, _NOBODY, self.sockets).reset()

    # --- time -----------------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        self._sweeper = self.sockets.loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        """One timer for all connections; none where there are none."""
        now = self.sockets.loop.time()
        for connection in list(self.connections):
            connection.sweep(now)
        self.idle.sweep(now)
        self._sweeper = None
        if self.connections or len(self.idle):
            self._sweep_later()


class _Nobody:
    """Owns connections that are refused."""

    def received(self, stream: Stream, data: bytes, now: float) -> None: ...

    def ended(self, stream: Stream) -> None: ...

    def wrote(self, stream: Stream) -> None: ...

    def lost(self, stream: Stream, reason: str) -> None: ...


_NOBODY: Final = _Nobody()
