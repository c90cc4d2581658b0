"""TCP connections to DNS servers that no pod uses: kept for a while, for the next pod that asks one."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import Final

from acns.resolver.intercept import Server
from acns.resolver.sockets import Sockets

MAX_IDLE: Final = 64
MAX_IDLE_S: Final = 2.0
"""Servers keep connections longer: RFC 7766 section 6.2.3 has "a few seconds" as the least."""


class Idle:
    """Connections that no pod uses, each to be used again by one, the latest first."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._kept: dict[socket.socket, tuple[Server, float]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, server: Server, connection: socket.socket) -> None:
        """Watched: one that the server closes, or says something on, is closed."""
        if len(self._kept) >= MAX_IDLE:
            self._drop(next(iter(self._kept)))
        self._kept[connection] = server, self._sockets.loop.time()
        self._sockets.add(connection.fileno(), partial(self._said, connection))

    def take(self, server: Server) -> socket.socket | None:
        for connection, (there, _) in reversed(self._kept.items()):
            if there == server:
                self._forget(connection)
                return connection
        return None

    def sweep(self, now: float) -> None:
        """Close those that nobody has wanted for a while."""
        for connection, (_, since) in list(self._kept.items()):
            if since + MAX_IDLE_S > now:
                return
            self._drop(connection)

    def close(self) -> None:
        for connection in list(self._kept):
            self._drop(connection)

    def _said(self, connection: socket.socket, events: int, now: float) -> None:
        with contextlib.suppress(BlockingIOError):  # nothing: what was told was another's
            connection.recv(1)
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        self._sockets.remove(connection.fileno())
        del self._kept[connection]
