"""Hundreds of connections between pods and the Internet, all of them talking, in the hands of one thread.

Both ends of every connection are sockets of the test, opened where they belong. A client sends numbered
messages and the server echoes them; the server sends on its own, too, so that a cut shows in both directions.
Beside them knock packets that nobody should let through, from sockets or ready-made.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Generic, TypeVar

from lab.runtime.handles import Inside, PodHandle
from lab.runtime.lab import Lab

from .gauge import FIRST_PORT, LAST_PORT, PROTOCOLS, Key
from .probes import happens
from .turnover import Flow, Place
from .wire import DEADLINE_S

PERIOD_S = 0.2
"""Each connection sends this often."""
TICK_S = 0.005
KNOCKS_PER_TICK = 24

T = TypeVar("T")

_MESSAGE = struct.Struct("!II")  # connection, number
_PUSHED = 0xFFFF_FFFF  # the number of what the server sends on its own
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 4 << 20
_ABORT = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class Connection:
    """One connection of a flow. `sent`, `echoed`: how many messages, by the client's count."""

    flow: Flow
    number: int
    client: socket.socket
    key: Key
    sent: int = 0
    echoed: int = 0
    paused: bool = False
    server: Callable[[bytes], object] | None = None
    """Sends to the client; known when the first message has come."""
    _rest: bytes = b""

    def speak(self) -> None:
        """One message from each end, unless it is to be silent."""
        if self.paused:
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.client.send(_MESSAGE.pack(self.number, self.sent))
            self.sent += 1
        if self.server:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self.server(_MESSAGE.pack(self.number, _PUSHED))

    def hear(self) -> None:
        """Count what has come back."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._rest += self.client.recv(1 << 16)
        whole = len(self._rest) // _MESSAGE.size * _MESSAGE.size
        for _, number in _MESSAGE.iter_unpack(self._rest[:whole]):
            self.echoed += number != _PUSHED
        self._rest = self._rest[whole:]


@dataclass(frozen=True, slots=True)
class Knock:
    """One packet, to be sent again and again."""

    flow: Flow
    key: Key
    _send: Callable[[], object]
    close: Callable[[], object]

    def send(self) -> None:
        with contextlib.suppress(OSError):
            self._send()


class Traffic:
    """All connections and knocks. Sockets come and go from the test's thread, messages from ours."""

    def __init__(self, lab: Lab, rng: random.Random) -> None:
        self.connections: set[Connection] = set()
        self._lab = lab
        self._ports = iter(rng.sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT))
        self._numbers = itertools.count(1)
        self._by_number: dict[int, Connection] = {}
        self._knocks: tuple[Knock, ...] = ()
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._raw: dict[str, socket.socket] = {}
        self._servers: list[socket.socket] = []

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join()
        for one in (*self._servers, *self._raw.values(), *(each.client for each in self.connections)):
            one.close()
        for knock in self._knocks:
            knock.close()
        self._selector.close()

    def check(self) -> None:
        """Raise what went wrong in our thread."""
        if self._failures:
            raise self._failures[0]

    # --- servers ------------------------------------------------------------------------------------------

    def serve(self, place: Inside, address: IPv4Address, ports: Iterable[int]) -> None:
        """Listen there, TCP and UDP, on these ports of that address."""
        for port in ports:
            self._serve_tcp(place, (str(address), port))
            self._serve_udp(place, (str(address), port))

    def _serve_tcp(self, place: Inside, at: tuple[str, int]) -> None:
        listener = place.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(at)
        listener.listen(512)
        self._watch(listener, partial(self._accept, listener))

    def _serve_udp(self, place: Inside, at: tuple[str, int]) -> None:
        bound = place.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        bound.bind(at)
        self._watch(bound, partial(self._answer, bound))

    def _watch(self, one: socket.socket, on_input: Callable[[], None]) -> None:
        one.setblocking(False)
        with self._lock:
            self._servers.append(one)
            self._selector.register(one, selectors.EVENT_READ, on_input)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                self._servers.append(accepted)
                self._selector.register(accepted, selectors.EVENT_READ, partial(self._echo, accepted))

    def _echo(self, accepted: socket.socket) -> None:
        """Say again what is heard; the first message tells whose end this is."""
        try:
            heard = accepted.recv(1 << 16)
        except ConnectionError:
            heard = b""
        if not heard:
            self._selector.unregister(accepted)
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):
            accepted.send(heard)
        if len(heard) >= _MESSAGE.size:
            self._introduce(_MESSAGE.unpack_from(heard)[0], accepted.send)

    def _answer(self, bound: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                message, peer = bound.recvfrom(64)
                bound.sendto(message, peer)
                if len(message) == _MESSAGE.size:
                    self._introduce(_MESSAGE.unpack(message)[0], partial(_send_to, bound, peer))

    def _introduce(self, number: int, server: Callable[[bytes], object]) -> None:
        connection = self._by_number.get(number)
        if connection and not connection.server:
            connection.server = server

    # --- connections --------------------------------------------------------------------------------------

    def open(self, flow: Flow) -> Connection:
        """A connection that speaks from now on. It may take a moment to be made; see `silent`."""
        kind = socket.SOCK_STREAM if flow.protocol == "TCP" else socket.SOCK_DGRAM
        client, key = self._bound(flow, kind)
        client.setblocking(False)
        if flow.protocol == "TCP":
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            client.connect((str(flow.place.address), flow.port))
        connection = Connection(flow, next(self._numbers), client, key)
        with self._lock:
            self.connections.add(connection)
            self._by_number[connection.number] = connection
            self._selector.register(client, selectors.EVENT_READ, connection.hear)
        return connection

    def silent(self, connections: Iterable[Connection]) -> list[str]:
        """Wait until each has been answered; those that never are."""
        waiting = list(connections)

        def all_are_answered() -> bool:
            self.check()
            return all(one.echoed for one in waiting)

        happens(all_are_answered, DEADLINE_S)
        return [str(one.flow) for one in waiting if not one.echoed]

    def close(self, connections: Iterable[Connection]) -> None:
        """End them, without a word where TCP allows it."""
        for connection in connections:
            with self._lock:
                self.connections.discard(connection)
                self._by_number.pop(connection.number, None)
                self._selector.unregister(connection.client)
            if connection.flow.protocol == "TCP":
                connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            connection.client.close()

    def pause(self, connections: Iterable[Connection], paused: bool) -> None:
        """Have them fall silent, or speak again."""
        with self._lock:
            for connection in connections:
                connection.paused = paused

    # --- knocks -------------------------------------------------------------------------------------------

    def knock(self, flow: Flow) -> Knock:
        """Packets that should get nowhere, from a port of their own."""
        pod = self._lab.pod(flow.client)
        if flow.protocol == "UDP":
            client, key = self._bound(flow, socket.SOCK_DGRAM)
            client.setblocking(False)
            target = (str(flow.place.address), flow.port)
            return Knock(flow, key, lambda: client.sendto(b"knock", target), client.close)
        port = next(self._ports)
        packet = _syn(pod, flow.place, port, flow.port)
        raw = self._raw_socket(pod)
        target = (str(flow.place.address), 0)
        return Knock(flow, (PROTOCOLS["tcp"], port), lambda: raw.sendto(packet, target), lambda: None)

    def use(self, knocks: Iterable[Knock]) -> None:
        """From now on these knock, and no others."""
        with self._lock:
            before, self._knocks = self._knocks, tuple(knocks)
        for gone in set(before) - set(self._knocks):
            gone.close()

    @property
    def knocks(self) -> tuple[Knock, ...]:
        return self._knocks

    def _raw_socket(self, pod: PodHandle) -> socket.socket:
        if pod.name not in self._raw:
            self._raw[pod.name] = pod.open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        return self._raw[pod.name]

    def _bound(self, flow: Flow, kind: int) -> tuple[socket.socket, Key]:
        """A socket of the client's, on a port that nobody else had."""
        pod, port = self._lab.pod(flow.client), next(self._ports)
        client = pod.open_socket(socket.AF_INET, kind)
        client.bind((str(pod.address), port))
        return client, (PROTOCOLS[flow.protocol.lower()], port)

    # --- our thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        speakers: _Turns[Connection] = _Turns()
        knockers: _Turns[Knock] = _Turns()
        try:
            while not self._ending.wait(TICK_S):
                with self._lock:
                    for selected, _ in self._selector.select(0):
                        selected.data()
                    share = -(-len(self.connections) * TICK_S // PERIOD_S)
                    for connection in speakers.take(tuple(self.connections), int(share)):
                        connection.speak()
                    for knock in knockers.take(self._knocks, KNOCKS_PER_TICK):
                        knock.send()
        except BaseException as error:  # noqa: BLE001 - raised again by `check`
            self._failures.append(error)


class _Turns(Generic[T]):
    """Some at a time, each in its turn."""

    def __init__(self) -> None:
        self._at = 0

    def take(self, items: Sequence[T], count: int) -> list[T]:
        if not items:
            return []
        start, self._at = self._at, self._at + count
        return [items[index % len(items)] for index in range(start, start + min(count, len(items)))]


def _send_to(bound: socket.socket, peer: Any, data: bytes) -> None:
    bound.sendto(data, peer)


def _syn(pod: PodHandle, place: Place, source_port: int, port: int) -> bytes:
    """A SYN from a pod, with its IP header (whose checksum and length the kernel fills in)."""
    source, target = pod.address.packed, place.address.packed
    segment = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 5 << 4, 0x02, 64_000, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, PROTOCOLS["tcp"], len(segment))
    words = struct.unpack("!16H", pseudo + segment)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, PROTOCOLS["tcp"], 0, source, target)
    return header + segment[:16] + struct.pack("!H", checksum) + segment[18:]
