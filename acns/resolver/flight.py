"""What an upstream transport knows of a query on its way: what to send, where to, and whom to tell."""

from __future__ import annotations

from typing import Final, Protocol

from acns.resolver.intercept import Server

ID_BYTES: Final = 2


class Flight(Protocol):
    """A query that waits for its DNS server. Exactly one of the four outcomes ends it, once."""

    @property
    def packet(self) -> bytes:
        """The pod's query, as it came."""

    @property
    def server(self) -> Server: ...

    @property
    def kept_id(self) -> int | None:
        """The ID that the query has to leave under, where a signature covers it; None: any."""

    def answered(self, packet: bytes) -> bool:
        """An answer from that server, under whatever ID. False: it does not count, wait on."""

    def answered_by(self, rest: bytes, now: float) -> bool:
        """The same, for who reads many at one time: behind the ID, within a burst of the journal's."""

    def failed(self, reason: str) -> None:
        """The query could not be sent, or the server said that it is not there."""

    def silent(self) -> None:
        """No answer came in time."""

    def abandoned(self) -> None:
        """Nobody is left to answer to."""


def restored(answer: bytes, query: bytes) -> bytes:
    """`answer` under the ID of `query`."""
    return query[:ID_BYTES] + answer[ID_BYTES:]
