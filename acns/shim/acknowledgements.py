"""A peer's acknowledgements, each taken for the snapshot that it is about.

Cilium's proxy leaves `request_id` empty; but what came before a snapshot left cannot be about it, and an id
that is not the snapshot's is about another one. So a peer that acknowledges twice is not sent the next but
one any sooner, and one that floods is not read on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from acns.api import fqdndata_pb2 as pb
from acns.errors import PeerError

UNREAD = 16


class Acknowledgements:
    """Reads `stream` beside whoever sends; `unasked` is told of each that nobody waits for. To be closed."""

    def __init__(self, stream: AsyncIterator[pb.PolicyStateResponse], unasked: Callable[[], None]) -> None:
        self._read: asyncio.Queue[pb.PolicyStateResponse | None] = asyncio.Queue(UNREAD)
        self._reader = asyncio.create_task(self._run(stream))
        self._unasked = unasked
        self._failure: PeerError | None = None

    def forget(self) -> None:
        """A snapshot is about to leave: what has come so far is about others."""
        while not self._read.empty():
            if self._read.get_nowait() is None:
                self._read.put_nowait(None)
                return
            self._unasked()

    async def of(self, request_id: str) -> pb.PolicyStateResponse | None:
        """The one about this snapshot; None when the peer will send no more. Raises PeerError after one that
        cannot be read: what comes behind it is not read either."""
        while (ack := await self._read.get()) is not None:
            if ack.request_id in ("", request_id):
                return ack
            self._unasked()
        if self._failure is not None:
            raise self._failure
        return None

    def close(self) -> None:
        self._reader.cancel()

    async def _run(self, stream: AsyncIterator[pb.PolicyStateResponse]) -> None:
        try:
            async for ack in stream:
                await self._read.put(ack)
        except Exception as error:  # noqa: BLE001 - the decoder's, or gRPC's: told to whoever waits
            self._failure = PeerError(f"an acknowledgement cannot be read: {error}")
        await self._read.put(None)
