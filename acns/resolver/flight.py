"""A query on its way, for who asks with a socket of its own: what to send, where to, and whom to tell; and
how those before it have ended.
"""

from __future__ import annotations

from typing import Final, Protocol

from acns.resolver.intercept import Server

ID_BYTES: Final = 2
UNKNOWN_ID, DUPLICATE, LATE = "unknown_id", "duplicate", "late"
"""What an answer is that nobody waits for: of metrics."""
_REMEMBERED: Final = 256


class Ended:
    """How the last queries of one connection have ended, by their IDs: what comes under such an ID now is the
    same answer again, or one that was given up. (`UDPUpstream`, with few sockets, has a table of all IDs.)"""

    __slots__ = ("how",)

    def __init__(self) -> None:
        self.how: dict[int, str] = {}
        """By ID; who notes many at once is to `bound` it then."""

    def answered(self, ident: int) -> None:
        self._note(ident, DUPLICATE)

    def given_up(self, ident: int) -> None:
        self._note(ident, LATE)

    def kind(self, ident: int) -> str:
        """Of an answer that nobody waits for."""
        return self.how.get(ident, UNKNOWN_ID)

    def bound(self) -> None:
        """Forget the first ones, of more than can be kept."""
        while len(self.how) > _REMEMBERED:
            del self.how[next(iter(self.how))]

    def _note(self, ident: int, how: str) -> None:
        self.how.pop(ident, None)
        self.how[ident] = how
        self.bound()


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

    def failed(self, reason: str) -> None:
        """The query could not be sent, or the server said that it is not there."""

    def silent(self) -> None:
        """No answer came in time."""

    def abandoned(self) -> None:
        """Nobody is left to answer to."""


def restored(answer: bytes, query: bytes) -> bytes:
    """`answer` under the ID of `query`."""
    return query[:ID_BYTES] + answer[ID_BYTES:]
