"""Clients and a DNS server that count: queries over UDP and over lasting TCP connections, and their answers.

The server says "no such record" to everything at once, so nothing is learned and every answer is due. On a
TCP connection it answers in order; so does whoever stands between, or `reordered` says so.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from ..resolver.resolver_world import SERVER, World, query, rcode

NAME = "www.example.com."
TCP_CLIENTS = 4
LAST_ANSWER_S = 15.0
_ID = 0xFFFF


def answer(asked: bytes) -> bytes:
    """NOERROR without a record: the query, with QR and RA set."""
    return asked[:2] + bytes((asked[2] | 0x80, asked[3] | 0x80)) + asked[4:]


class Server:
    """At SERVER, over both transports."""

    def __init__(self, world: World) -> None:
        self._udp = world.dns.udp(SERVER, 53)
        self._listener = world.dns.listen(SERVER, 53)
        self._udp.settimeout(None)
        self._listener.settimeout(None)
        for work in (self._answer_udp, self._accept):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for one in (self._udp, self._listener):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _answer_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                packet, peer = self._udp.recvfrom(4096)
                if packet:
                    self._udp.sendto(answer(packet), peer)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                made, _ = self._listener.accept()
                threading.Thread(target=self._answer_tcp, args=(made,), daemon=True).start()

    def _answer_tcp(self, made: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), made, made.makefile("rwb") as stream:
            while packet := _frame(stream.read):
                stream.write(struct.pack("!H", len(packet)) + answer(packet))
                stream.flush()


class Client:
    """One socket. Queries are numbered, and their IDs are the numbers' low halves: what is missing, repeated
    or out of order shows in them."""

    def __init__(self, made: socket.socket, every_s: float, *, stream: bool) -> None:
        self.sent = 0
        self.answered: list[int] = []
        self.failed: list[int] = []
        """The codes of answers that were none."""
        self.broken = ""
        self._socket = made
        self._every_s = every_s
        self._stream = stream
        self._stop = threading.Event()
        made.settimeout(LAST_ANSWER_S)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._hear)]
        for thread in self._threads:
            thread.start()

    @property
    def lost(self) -> set[int]:
        return set(range(1, self.sent + 1)) - set(self.answered)

    @property
    def repeated(self) -> bool:
        return len(self.answered) != len(set(self.answered))

    @property
    def reordered(self) -> bool:
        return self._stream and self.answered != sorted(self.answered)

    def finish(self) -> None:
        """Ask no more, and wait for what is due."""
        self._stop.set()
        self._threads[0].join()
        deadline = time.monotonic() + LAST_ANSWER_S
        while self.lost and not self.broken and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _ask(self) -> None:
        message = query(NAME, "TXT")
        due = time.monotonic()
        with contextlib.suppress(OSError):
            for number in itertools.count(1):
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                due += self._every_s
                packet = struct.pack("!H", number & _ID) + message[2:]
                self.sent = number
                self._socket.sendall(struct.pack("!H", len(packet)) + packet if self._stream else packet)

    def _hear(self) -> None:
        try:
            while packet := _frame(self._exactly) if self._stream else self._socket.recv(4096):
                self._count(packet)
            self.broken = "closed"
        except (OSError, EOFError) as error:
            self.broken = str(error) or type(error).__name__

    def _count(self, packet: bytes) -> None:
        last = self.sent
        self.answered.append(last - (last - int.from_bytes(packet[:2]) & _ID))
        if code := rcode(packet):
            self.failed.append(code)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self._socket.recv(count - len(data))):
            data += more
        return data


@contextlib.contextmanager
def traffic(world: World, per_s: int) -> Iterator[list[Client]]:
    """Half of it over UDP, half over TCP connections; finished when the block ends."""
    with contextlib.closing(Server(world)):
        udp = world.pod.udp()
        udp.connect((SERVER, 53))
        clients = [Client(udp, 2 / per_s, stream=False)]
        clients += [
            Client(world.pod.connect(SERVER), 2 * TCP_CLIENTS / per_s, stream=True)
            for _ in range(TCP_CLIENTS)
        ]
        try:
            yield clients
        finally:
            for client in clients:
                client.finish()


def _frame(read: Callable[[int], bytes]) -> bytes:
    head = read(2)
    if len(head) < 2:
        return b""
    return read(int.from_bytes(head))
