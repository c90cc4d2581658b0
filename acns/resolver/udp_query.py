"""A query that came in a datagram: what is noted of it while it is on its way, and what it is when more is to
be done for it than to pass an answer on.
"""

from __future__ import annotations

import socket
from typing import NamedTuple, Protocol

from acns.resolver.batch import PEER_AT, QUERY_AT, SOCKADDR_BYTES, address_of
from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import Address, Server
from acns.resolver.judged import Case
from acns.resolver.query import Query, Transport
from acns.resolver.sockets import Ready

Key = bytes
"""A query's ID, who asks, whom, and the rest of its octets: a place of a listener's `Batch`, as it is."""


def packet_of(key: Key) -> bytes:
    """The query as it came."""
    return key[:ID_BYTES] + key[QUERY_AT:]


def source_of(key: Key) -> Address:
    """The pod's address and port."""
    return address_of(key[PEER_AT : PEER_AT + SOCKADDR_BYTES])


UNUSED, ANSWERED, GIVEN_UP = 0, 1, 2
"""How the query before under an ID has ended."""


class Waiting(NamedTuple):
    """A query on its way: from which port, under which ID, since when, and when it was last sent."""

    case: Case
    key: Key
    asked_at: float
    port: Port
    ident: int
    sent_at: float


class Port:
    """An upstream socket, what waits on it, oldest first, by ID, and how those before ended."""

    __slots__ = ("descriptor", "ended", "send", "socket", "waiting")

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.descriptor = made.fileno()
        self.send = made.sendto
        self.waiting: dict[int, Waiting] = {}
        self.ended = bytearray(1 << 16)

    def end(self, ident: int, how: int = ANSWERED) -> Waiting:
        """It waits no more, and is remembered as ended so."""
        self.ended[ident] = how
        return self.waiting.pop(ident)


class Clients(Protocol):
    """Where such queries come from."""

    transport: Transport

    def ready(self, port: Port) -> Ready:
        """What to call when something is at the port."""

    def query(self, waiting: Waiting) -> Query:
        """For the unusual ends that a query may take."""

    def send(self, server: Server, answer: bytes, to: Address) -> None: ...

    def forget(self, key: Key) -> None:
        """It is on its way no more."""


class UDPQuery(Query):
    """A datagram's query, when it needs more than to be passed on."""

    __slots__ = ("_clients", "_key")

    def __init__(self, clients: Clients, waiting: Waiting) -> None:
        super().__init__(clients.transport, waiting.case, packet_of(waiting.key), waiting.asked_at)
        self._clients = clients
        self._key = waiting.key

    def deliver(self, packet: bytes | None) -> None:
        self._clients.forget(self._key)
        if packet is not None:
            self._clients.send(self.case.asker.server, packet, source_of(self._key))
