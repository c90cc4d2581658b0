"""Scripted peers of the two agents, over raw gRPC: a resolver for the shim, an agent for the resolver.

They run in the test's own process and speak over unix sockets; `Relay` carries that to a socket in a node's
namespace, where the agents serve and connect on TCP.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, TypeVar

import grpc

from ...waiting import until as until
from . import plain_wire as wire

T = TypeVar("T")
WAIT_S = 30.0  # a process may take seconds to start where much else runs


class Relay:
    """Carries each connection that `listener` takes to one that `connect` makes; both are the relay's."""

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        listener.settimeout(None)  # whoever comes may need longer to start than a test waits for an answer
        self._listener = listener
        self._connect = connect
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                self._ends.append(here)
                try:
                    there = self._connect()
                except OSError:
                    here.close()
                    continue
                self._ends.append(there)
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=_carry, args=(source, target), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def unix_listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


# --- a resolver, scripted ---------------------------------------------------------------------------------


class PolicyStream:
    """One StreamPolicyState, read in a thread."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._sent: queue.Queue[bytes | None] = queue.Queue()
        self._received: queue.Queue[wire.Snapshot | grpc.RpcError] = queue.Queue()
        self._call: Any = channel.stream_stream(wire.STREAM)(iter(self._sent.get, None))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def snapshot(self) -> wire.Snapshot:
        """The next one; the stream's error where it has ended."""
        received = self._received.get(timeout=WAIT_S)
        if isinstance(received, grpc.RpcError):
            raise received
        return received

    @property
    def has_more(self) -> bool:
        return not self._received.empty()

    def acknowledge(self, request_id: str = "", response: int = wire.NO_ERROR) -> None:
        self._sent.put(wire.acknowledgement(request_id, response))

    def next_after(self, snapshot_wanted: Callable[[wire.Snapshot], bool]) -> wire.Snapshot:
        """Acknowledge until one comes that is wanted."""
        while True:
            self.acknowledge()
            if snapshot_wanted(found := self.snapshot()):
                return found

    def half_close(self) -> None:
        self._sent.put(None)

    def close(self) -> None:
        self._call.cancel()
        self._sent.put(None)
        self._thread.join()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._received.put(wire.Snapshot.decoded(message))
        except grpc.RpcError as error:
            self._received.put(error)


class ScriptedResolver:
    """A client of the contract."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._update = self._channel.unary_unary(wire.UPDATE)
        self._streams: list[PolicyStream] = []

    def stream(self) -> PolicyStream:
        made = PolicyStream(self._channel)
        self._streams.append(made)
        return made

    def report(self, report: wire.Report) -> int:
        """The ResponseCode. grpc.RpcError where the call itself fails."""
        return wire.read_response(self._update(report.encoded(), timeout=WAIT_S))

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._channel.close()


# --- an agent, scripted -----------------------------------------------------------------------------------

Behaviour = Callable[[wire.Report, grpc.ServicerContext], bytes]


def confirm(report: wire.Report, context: grpc.ServicerContext) -> bytes:
    return wire.response(wire.NO_ERROR)


class ScriptedAgent(grpc.GenericRpcHandler):
    """A server of the contract on a unix socket. What is published goes to every stream, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behaviour: Behaviour = confirm
        self.reports: queue.Queue[wire.Report] = queue.Queue()
        self.acknowledgements: queue.Queue[tuple[int, str]] = queue.Queue()
        self.time_left_s: float | None = None
        """What the newest update call left us."""
        self.streams = 0
        self.waits_for_acknowledgement = True
        self.end_streams = threading.Event()
        self._published: list[bytes] = []
        self._changed = threading.Condition()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()

    def stop(self) -> None:
        if self._server:
            self._server.stop(None).wait()
            self._server = None

    @property
    def is_running(self) -> bool:
        return self._server is not None

    def reopen(self) -> None:
        """End the streams; returns when a new one has been served."""
        before = self.streams
        self.end_streams.set()
        until(lambda: self.streams > before, "a new stream")
        self.acknowledgements.queue.clear()
        self.end_streams.clear()
        until(lambda: not self.acknowledgements.empty(), "the new stream is acknowledged")

    def publish(self, *snapshots: wire.Snapshot | bytes) -> None:
        with self._changed:
            self._published += [one if isinstance(one, bytes) else one.encoded() for one in snapshots]
            self._changed.notify_all()

    def put(self, snapshot: wire.Snapshot) -> None:
        """Publish, and wait until it is in force."""
        self.publish(snapshot)
        assert self.acknowledgements.get(timeout=WAIT_S) == (wire.NO_ERROR, snapshot.request_id)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == wire.STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if details.method == wire.UPDATE:
            return grpc.unary_unary_rpc_method_handler(self._report)
        return None

    def _stream(self, acks: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self.streams += 1
        sent = max(len(self._published) - 1, 0)
        reader = None if self.waits_for_acknowledgement else self._reading(acks)
        while context.is_active() and not self.end_streams.is_set():
            with self._changed:
                if sent == len(self._published):
                    self._changed.wait(0.05)
                    continue
                message = self._published[sent]
            sent += 1
            yield message
            if reader is None:
                try:
                    self.acknowledgements.put(wire.read_acknowledgement(next(acks)))
                except (StopIteration, grpc.RpcError):
                    return

    def _reading(self, acks: Iterator[bytes]) -> threading.Thread:
        def read() -> None:
            with contextlib.suppress(grpc.RpcError):
                for ack in acks:
                    self.acknowledgements.put(wire.read_acknowledgement(ack))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _report(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        report = wire.Report.decoded(message)
        self.time_left_s = context.time_remaining()
        self.reports.put(report)
        return self.behaviour(report, context)
