"""The floor under a new name: a bare gRPC call whose server adds one element to a set by netlink.

`python -m lab.bench.dns_echo PATH` is the server: the contract's own service with nothing behind it. It works
in a network namespace of its own, so that its set is nobody else's. Says "ready" on stdout.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.datapath import constants, selectors
from acns.datapath.elements import Elements
from lab.errors import ProcessFailed
from lab.kernel import netns, nft

_SELECTOR = "fqdn_0000000000"
_TTL_S = 300.0


def rate(path: Path, count: int, at_once: int) -> float:
    """Calls a second, so many at once."""
    argv = [sys.executable, "-m", "lab.bench.dns_echo", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if server.stdout.readline().strip() != "ready":
                raise ProcessFailed(f"{' '.join(argv)} ended before it was ready")
            return count / asyncio.run(_called(path, count, at_once))
        finally:
            server.kill()


async def _called(path: Path, count: int, at_once: int) -> float:
    numbers = iter(range(count))
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        stub = rpc.FQDNDataStub(channel)

        async def caller() -> None:
            for number in numbers:
                address = (0x64400000 + number).to_bytes(4, "big")
                await stub.UpdateMappingRequest(pb.FQDNMapping(fqdn="x.", record_ip=[address], ttl=300))

        started = time.monotonic()
        await asyncio.gather(*(caller() for _ in range(at_once)))
        return time.monotonic() - started


class _Echo(rpc.FQDNDataServicer):
    def __init__(self) -> None:
        self._elements = Elements()

    async def StreamPolicyState(self, acks: Any, context: Any) -> AsyncIterator[pb.PolicyState]:
        """No policy."""
        return
        yield

    async def UpdateMappingRequest(self, request: pb.FQDNMapping, context: Any) -> pb.UpdateMappingResponse:
        self._elements.put({_SELECTOR: {request.record_ip[0]: _TTL_S}})
        return pb.UpdateMappingResponse(response=pb.RESPONSE_CODE_NO_ERROR)


async def _serve(path: str) -> None:
    own = netns.own()
    learned = f"set {selectors.LEARNED} {{ typeof {selectors.KEY_TYPE}; flags timeout; }}"
    table = f"table inet {constants.TABLE} {{ {learned}\n}}\n"
    nft.load(own, table)
    Path(path).unlink(missing_ok=True)
    server = grpc.aio.server()
    rpc.add_FQDNDataServicer_to_server(_Echo(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


def main() -> None:
    netns.unshare(netns.CLONE_NEWNET)
    asyncio.run(_serve(sys.argv[1]))


if __name__ == "__main__":
    main()
