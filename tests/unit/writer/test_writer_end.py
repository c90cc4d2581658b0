"""How the writer ends: with its resolver, whatever that has left unread."""

from __future__ import annotations

import asyncio
import socket

from acns.writer import wire
from acns.writer.__main__ import _serve


async def test_a_resolver_that_ends_with_an_answer_unread_is_an_end_like_any_other() -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its, ours:
        serving = asyncio.create_task(asyncio.to_thread(_serve, its, None))
        await asyncio.to_thread(ours.recv, wire.MAX_BYTES, socket.MSG_PEEK)
        ours.close()
        async with asyncio.timeout(5):
            await serving
