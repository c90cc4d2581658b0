"""A query that came over a connection: what is noted of it while it is on its way, and what it is when more
is to be done for it than to pass an answer on.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from acns.resolver.judged import Case
from acns.resolver.query import Query, Transport


class Waiting(NamedTuple):
    """A query on its way: as it came, when, and how often it was sent into a connection that closed."""

    case: Case
    packet: bytes
    asked_at: float
    times: int = 0


class Client(Protocol):
    """Where such queries come from: one connection of a pod."""

    transport: Transport
    pieces: list[bytes]
    """What leaves for the pod with the next flush, the same list always."""

    def query(self, waiting: Waiting) -> Query:
        """For the unusual ends that a query may take."""

    def passed_on(self, count: int, now: float) -> None:
        """So many queries have ended: their answers are among the pieces."""

    def work(self) -> None:
        """There may be room for more."""

    def work_at(self, now: float) -> None:
        """The same, for who knows the time."""

    def reply(self, packet: bytes | None) -> None:
        """One query has ended; None: without an answer."""


class TCPQuery(Query):
    """A connection's query, when it needs more than to be passed on."""

    __slots__ = ("_client",)

    def __init__(self, client: Client, waiting: Waiting) -> None:
        super().__init__(client.transport, waiting.case, waiting.packet, waiting.asked_at)
        self._client = client

    def deliver(self, packet: bytes | None) -> None:
        self._client.reply(packet)
