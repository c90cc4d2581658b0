"""A shim at its socket, a link that follows it, the snapshots that pass, and a slow disk beneath."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.api.address import for_grpc
from acns.resolver.agent import AgentLink
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.policy_file import PolicyFile
from acns.telemetry.journal import Journal

WAIT_S = 30.0


class Shim(rpc.FQDNDataServicer):
    """One snapshot a stream."""

    async def StreamPolicyState(self, responses: Any, context: Any) -> AsyncIterator[pb.PolicyState]:
        yield pb.PolicyState(request_id="1")
        async for _ in responses:
            pass


def many(count: int) -> pb.PolicyState:
    """A snapshot with so many patterns, no two the same."""
    return pb.PolicyState(
        egress_l7_dns_policy=[
            pb.DNSPolicy(
                source_endpoint_id=1, dns_pattern=[f"*.s{number}.example.com" for number in range(count)]
            )
        ]
    )


def snapshot(pod: int) -> pb.PolicyState:
    rule = pb.DNSPolicy(source_endpoint_id=pod)
    return pb.PolicyState(request_id=str(pod), egress_l7_dns_policy=[rule])


def pods(link: AgentLink) -> set[int]:
    assert link.table is not None
    return {rule.endpoint_id for rule in link.table.rules}


class SlowDisk:
    """Keeps a snapshot when it is told to."""

    def __init__(self) -> None:
        self.asked, self.told = threading.Event(), threading.Event()
        self.last: pb.PolicyState | None = None

    def save(self, state: pb.PolicyState) -> bool:
        self.last = state
        self.asked.set()
        return self.told.wait(WAIT_S)

    def load(self) -> None:
        return None


async def serving(address: str) -> grpc.aio.Server:
    server = grpc.aio.server()
    rpc.add_FQDNDataServicer_to_server(Shim(), server)
    server.add_insecure_port(address)
    await server.start()
    return server


@asynccontextmanager
async def following(folder: Path, kept: PolicyFile | SlowDisk) -> AsyncIterator[AgentLink]:
    """A link beside its shim, for as long as the block runs."""
    address = f"unix:{folder / 'shim'}"
    link = AgentLink(address, ResolverMetrics(), Journal("", "resolver"), kept)  # type: ignore[arg-type]
    server = await serving(for_grpc(address))
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await server.stop(None)
