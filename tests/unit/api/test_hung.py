"""A peer that hangs keeps its sockets open and says nothing: each side ends the connection by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio

from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.resolver.agent import CHANNEL_OPTIONS, AgentLink
from acns.resolver.metrics import ResolverMetrics
from acns.shim.service import SERVER_OPTIONS
from acns.telemetry.journal import Journal

WAIT_S = 40.0
"""gRPC's own patience is a minute."""


class Shim(rpc.FQDNDataServicer):
    """One snapshot a stream."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def StreamPolicyState(self, responses: Any, context: Any) -> AsyncIterator[pb.PolicyState]:
        try:
            yield pb.PolicyState(request_id="1")
            async for _ in responses:
                pass
        finally:
            self.ended.set()


class Relay:
    """Between the two; `hang` stops what it carries, and closes nothing."""

    def __init__(self, path: Path, to: Path) -> None:
        self.path = path
        self._to = to
        self._carrying: list[asyncio.Task[None]] = []
        self._kept: list[asyncio.StreamWriter] = []

    async def start(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._accepted, self.path)

    def hang(self) -> None:
        for one in self._carrying:
            one.cancel()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._to)
        self._kept += (writer, back)
        self._carrying += (
            asyncio.create_task(_carry(reader, back)),
            asyncio.create_task(_carry(there, writer)),
        )


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


@contextlib.asynccontextmanager
async def between(folder: Path) -> AsyncIterator[tuple[Shim, Relay]]:
    """A server with the shim's options, behind a relay."""
    shim, relay = Shim(), Relay(folder / "relay", folder / "shim")
    server = grpc.aio.server(options=SERVER_OPTIONS)
    rpc.add_FQDNDataServicer_to_server(shim, server)
    server.add_insecure_port(f"unix:{folder / 'shim'}")
    await server.start()
    listening = await relay.start()
    try:
        yield shim, relay
    finally:
        relay.hang()
        listening.close()
        await server.stop(None)


@contextlib.contextmanager
def running(link: AgentLink) -> Iterator[None]:
    task = asyncio.create_task(link.run())
    try:
        yield
    finally:
        task.cancel()


async def test_the_resolver_gives_up_a_shim_that_hangs(tmp_path: Path) -> None:
    async with between(tmp_path) as (_, relay):
        link = AgentLink(f"unix:{relay.path}", ResolverMetrics(), Journal("", "resolver"))
        with running(link):
            await asyncio.wait_for(link.connected.wait(), WAIT_S)
            relay.hang()
            async with asyncio.timeout(WAIT_S):
                while link.connected.is_set():
                    await asyncio.sleep(0.05)


async def test_the_shim_gives_up_a_resolver_that_hangs(tmp_path: Path) -> None:
    async with (
        between(tmp_path) as (shim, relay),
        grpc.aio.insecure_channel(f"unix:{relay.path}", options=CHANNEL_OPTIONS) as channel,
    ):
        call = rpc.FQDNDataStub(channel).StreamPolicyState()  # type: ignore[call-arg]
        await call.read()
        relay.hang()
        await asyncio.wait_for(shim.ended.wait(), WAIT_S)
