"""The link to the writer, with the test in the writer's place."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from acns.errors import EnvironmentFault
from acns.resolver import writer_link
from acns.resolver.writer_link import WriterLink
from acns.writer import wire
from acns.writer.wire import Lease, Outcome

LEASES = (Lease(b"\1" * 8, b"\xc0\0\2\7", 1e9),)


@pytest.fixture
def ends() -> Iterator[tuple[WriterLink, socket.socket]]:
    """The link, and the writer's end of it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    its.setblocking(False)
    process = subprocess.Popen([sys.executable, "-c", ""])
    link = WriterLink(process, ours)
    with its:
        yield link, its
    process.wait()
    ours.close()


async def test_a_writer_that_hangs_is_as_good_as_ended(
    ends: tuple[WriterLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_link, "HANGS_S", 0.05)
    link, _ = ends
    heard, asked = asyncio.create_task(link.run()), asyncio.create_task(link.put(LEASES))
    with pytest.raises(EnvironmentFault, match="hangs"):
        await asyncio.wait_for(heard, 5)
    asked.cancel()


async def test_a_writer_that_never_says_that_it_is_there_is_not_waited_for(
    ends: tuple[WriterLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_link, "STARTS_S", 0.05)
    link, _ = ends
    with pytest.raises(EnvironmentFault, match="hangs"):
        await asyncio.wait_for(link.run(), 5)


async def test_a_writer_that_has_said_so_may_be_silent(
    ends: tuple[WriterLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_link, "STARTS_S", 0.05)
    link, its = ends
    heard = asyncio.create_task(link.run())
    await asyncio.get_running_loop().sock_sendall(its, wire.answer(0, Outcome.WRITTEN))
    done, _ = await asyncio.wait([heard], timeout=0.5)
    assert not done
    heard.cancel()


async def test_a_writer_that_has_nothing_to_do_may_be_silent(
    ends: tuple[WriterLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_link, "HANGS_S", 0.05)
    link, its = ends
    heard, asked = asyncio.create_task(link.run()), asyncio.create_task(link.put(LEASES))
    loop = asyncio.get_running_loop()
    sequence, _ = wire.read_request(await loop.sock_recv(its, wire.MAX_BYTES))
    await loop.sock_sendall(its, wire.answer(sequence, Outcome.WRITTEN))
    assert await asked is Outcome.WRITTEN
    done, _ = await asyncio.wait([heard], timeout=0.2)
    assert not done
    heard.cancel()
