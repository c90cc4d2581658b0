"""The policy stream breaks at any moment, also in the midst of a snapshot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.resolver.agent import AgentLink
from acns.resolver.metrics import ResolverMetrics
from acns.telemetry.journal import Journal

WAIT_S = 30.0


class Shim(rpc.FQDNDataServicer):
    """One snapshot a stream."""

    async def StreamPolicyState(self, responses: Any, context: Any) -> AsyncIterator[pb.PolicyState]:
        yield pb.PolicyState(request_id="1")
        async for _ in responses:
            pass


class SlowDisk:
    """Keeps a snapshot when it is told to."""

    def __init__(self) -> None:
        self.asked, self.told = threading.Event(), threading.Event()

    def save(self, state: pb.PolicyState) -> None:
        self.asked.set()
        assert self.told.wait(WAIT_S)

    def load(self) -> None:
        return None


async def serving(address: str) -> grpc.aio.Server:
    server = grpc.aio.server()
    rpc.add_FQDNDataServicer_to_server(Shim(), server)
    server.add_insecure_port(address)
    await server.start()
    return server


async def test_a_shim_that_goes_while_its_snapshot_is_kept_is_met_again(tmp_path: Path) -> None:
    address, disk = f"unix:{tmp_path / 'shim'}", SlowDisk()
    link = AgentLink(address, ResolverMetrics(), Journal("", "resolver"), disk)  # type: ignore[arg-type]
    server = await serving(address)
    following = asyncio.create_task(link.run())
    connected = asyncio.create_task(link.connected.wait())
    try:
        assert await asyncio.to_thread(disk.asked.wait, WAIT_S)
        await server.stop(None)
        server = await serving(address)
        disk.told.set()
        await asyncio.wait((following, connected), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert connected.done(), following
    finally:
        disk.told.set()
        for task in (following, connected):
            task.cancel()
        await asyncio.gather(following, connected, return_exceptions=True)
        await server.stop(None)
