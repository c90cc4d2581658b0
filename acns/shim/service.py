"""The FQDNData service: policy out, mappings in.

Several policy streams are served at once (an old and a new resolver during an upgrade), each at the pace of
its peer's acknowledgements: one that never acknowledges gets no second snapshot, and holds up nobody. A
mapping is answered only after the kernel has its addresses: that answer is what lets the resolver release the
DNS answer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from acns import statefile
from acns.api import answered, codec, hung, kept
from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.api.address import for_grpc
from acns.errors import AcnsError, EnvironmentFault, PeerError
from acns.shim.acknowledgements import Acknowledgements
from acns.shim.mappings import Mappings
from acns.shim.metrics import ShimMetrics
from acns.shim.publisher import Publisher
from acns.telemetry import log as logs
from acns.telemetry import sockets

log = logs.named(__name__)

STREAM_INTERVAL_S = 0.25  # never more than a few snapshots a second to one peer
ACK_PATIENCE_S = 10.0  # then it is said, once a snapshot; Cilium's proxy acknowledges at once
# Cilium's keep-alive (pkg/fqdn/service): a hung peer is noticed within seconds.
SERVER_OPTIONS = (
    ("grpc.keepalive_time_ms", 5_000),
    *hung.within_ms(1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)


class FQDNDataService(rpc.FQDNDataServicer):
    """Thin: hands snapshots from the publisher out and mappings to `Mappings`."""

    def __init__(self, publisher: Publisher, mappings: Mappings, metrics: ShimMetrics) -> None:
        self.publisher = publisher
        self.mappings = mappings
        self.metrics = metrics
        self._taken: dict[object, int] = {}

    @property
    def streams(self) -> int:
        """Policy streams served now."""
        return len(self._taken)

    @property
    def streams_behind(self) -> int:
        """How many of them have not taken the newest snapshot yet."""
        return sum(version != self.publisher.version for version in self._taken.values())

    async def StreamPolicyState(
        self, acks: AsyncIterator[pb.PolicyStateResponse], context: Any
    ) -> AsyncIterator[pb.PolicyState]:
        """Full snapshots: one at once, the next after the peer's answer and a change."""
        version, stream = 0, object()
        self._taken[stream] = version
        acknowledgements = Acknowledgements(acks, self._unasked)
        log.info("policy stream opened", streams=self.streams)
        try:
            while found := await self.publisher.newer_than(version):
                version, state = found
                acknowledgements.forget()
                yield state
                if not await self._acknowledged(acknowledgements, state.request_id, version):
                    return
                self._taken[stream] = version
                await asyncio.sleep(STREAM_INTERVAL_S)
        except PeerError as error:
            log.failure("policy stream ended", error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        finally:
            acknowledgements.close()
            del self._taken[stream]
            log.info("policy stream closed", streams=self.streams)

    async def _acknowledged(self, acks: Acknowledgements, request_id: str, version: int) -> bool:
        """Wait for the peer's word on a snapshot; False when it will not come. PeerError: it is none."""
        late = asyncio.get_running_loop().call_later(
            ACK_PATIENCE_S, log.warning, "policy snapshot not acknowledged yet"
        )
        try:
            ack = await acks.of(request_id)
        finally:
            late.cancel()
        if ack is None:
            return False
        refused = ack.response != pb.RESPONSE_CODE_NO_ERROR
        self.metrics.acknowledgements.add("refused" if refused else "applied")
        if refused:
            name = codec.code_name(ack.response)
            log.error("policy snapshot refused by peer", response=name, version=version)
        return True

    def _unasked(self) -> None:
        self.metrics.acknowledgements.add("unasked")

    async def UpdateMappingRequest(self, request: pb.FQDNMapping, context: Any) -> pb.UpdateMappingResponse:
        """Answered only after the kernel commit; not at all where another shim has taken this one's place."""
        try:
            self.mappings.learned.kernel.fence()
        except AcnsError as error:  # as if this one were gone already: whoever hears it looks for the other
            await context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
        taken = await self.mappings.update(request, answered.from_metadata(context.invocation_metadata()))
        self.metrics.reports.add(codec.code_name(taken.code))
        context.set_trailing_metadata(kept.to_metadata(taken.kept_s))
        return pb.UpdateMappingResponse(response=taken.code)


class Server:
    """The gRPC server on its sockets. The unix socket is of this generation: gRPC unlinks its path when it
    stops, and an old one must not take the new one's away. Nobody finds it there before the generation's
    `switch`: one that cannot start takes no other's place."""

    def __init__(self, service: FQDNDataService, socket: Path, tcp_listen: str) -> None:
        self.generation = sockets.Generation(socket)
        self.tcp_listen = tcp_listen
        self._publisher = service.publisher
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        rpc.add_FQDNDataServicer_to_server(service, self._server)

    async def start(self) -> None:
        statefile.make_folder(self.generation.own.parent, "fqdndata_socket")
        self.generation.clear()
        before = os.umask(0o177)
        try:
            self._bind(f"unix:{self.generation.own}")
            await self._server.start()
        finally:
            os.umask(before)
        if self.tcp_listen:
            log.warning(
                "FQDNData on TCP, without TLS",
                address=self.tcp_listen,
                note="whoever reaches it can open the firewall",
            )

    async def stop(self) -> None:
        """Let running calls finish, briefly, and the streams, which otherwise never would."""
        await self._publisher.close()
        await self._server.stop(grace=0.5)
        self.generation.remove()

    def _bind(self, address: str) -> None:
        addresses = [address, self.tcp_listen] if self.tcp_listen else [address]
        for one in addresses:
            try:
                self._server.add_insecure_port(for_grpc(one))
            except RuntimeError as error:
                raise EnvironmentFault(
                    f"cannot serve FQDNData on {one}: {error}",
                    hint="path over 107 bytes, or port taken?",
                ) from error
