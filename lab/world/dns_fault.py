"""A DNS server's bad day: `python -m lab.world.dns_fault`, between a DNS server and those who ask it.

Runs in the server's namespace, where a NAT rule sends what comes for port 53 here. It passes queries on to
the server, or does not, as its control file says; the file is read again when it changes, and when it is
gone the program ends. What it can be:

* `silent`: nothing is answered. `servfail`: SERVFAIL at once. `slow`: answers come `delay_s` later.
* `lossy`: a `share` of queries, and of answers, is lost. `flapping`: silent every other `delay_s`.
* `lying`: before each true answer come false ones that a resolver must not believe: with another ID, from
  another port, to another question, from another address. Each tells `LIE`. Over TCP only the first and the
  third can be told.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import dnslib

from lab.world.ready import say_ready

Mode = Literal["silent", "servfail", "slow", "lossy", "lying", "flapping"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
PORT: Final = 5399
LIE: Final = "198.51.100.66"
LIARS_PORT: Final = 5398
LIARS_ADDRESS: Final = "198.51.100.67"

_IP_TRANSPARENT: Final = 19
_WATCH_S: Final = 0.1
_SERVER_S: Final = 10.0

Address = tuple[str, int]
Reply = Callable[[bytes], None]


def control_text(mode: Mode, *, delay_s: float, share: float) -> str:
    """What the control file says."""
    return json.dumps({"mode": mode, "delay_s": delay_s, "share": share})


def command(control: Path, server: str, *, ready_fd: int, seed: int = 0) -> list[str]:
    """argv without the interpreter. Writes one byte to `ready_fd` when it listens."""
    files = ["--control", str(control), "--ready-fd", str(ready_fd)]
    return ["-m", "lab.world.dns_fault", *files, "--server", server, "--seed", str(seed)]


def is_running(control: Path) -> bool:
    """Whether a relay goes by this control file: it holds a lock beside it as long as it lives."""
    with _lock_file(control).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock_file(control: Path) -> Path:
    return control.with_suffix(".lock")


class Control:
    """The control file, as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        self._seen = (0, 0)

    def refresh(self) -> bool:
        """Read it where it has changed; False when it is gone."""
        try:
            found = self._path.stat()
            if (seen := (found.st_ino, found.st_mtime_ns)) != self._seen:
                self._values, self._seen = json.loads(self._path.read_text()), seen
        except FileNotFoundError:
            return False
        return True

    @property
    def mode(self) -> Mode:
        """What it is like at this moment."""
        mode: Mode = self._values["mode"]
        if mode == "flapping":
            return "silent" if int(time.monotonic() / self.delay_s) % 2 else "slow"
        return mode

    @property
    def delay_s(self) -> float:
        return float(self._values["delay_s"])

    @property
    def share(self) -> float:
        return float(self._values["share"])

    @property
    def flaps(self) -> bool:
        return bool(self._values["mode"] == "flapping")


class Relay(asyncio.DatagramProtocol):
    """Between those who ask and the server."""

    def __init__(self, control: Control, server: str, seed: int) -> None:
        self._control = control
        self._server = server
        self._rng = random.Random(seed)
        self._transport: asyncio.DatagramTransport
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own is no DatagramTransport by inheritance before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        task = asyncio.create_task(self._udp(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _udp(self, query: bytes, peer: Address) -> None:
        def reply(answer: bytes) -> None:
            self._transport.sendto(answer, peer)

        if self._control.mode == "lying":
            tell_lies(query, peer, reply)
        await self._treat(query, reply, self._ask_udp)

    async def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, a query after the other."""

        def reply(answer: bytes) -> None:
            writer.write(struct.pack("!H", len(answer)) + answer)

        try:
            while True:
                query = await _frame(reader)
                if self._control.mode == "lying":
                    for lie in (with_another_id(query), to_another_question(query)):
                        reply(lie)
                await self._treat(query, reply, self._ask_tcp)
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _treat(
        self, query: bytes, reply: Reply, ask: Callable[[bytes], Awaitable[bytes | None]]
    ) -> None:
        mode = self._control.mode
        if mode == "silent" or self._is_lost():
            return
        if mode == "servfail":
            reply(_header(query, rcode=2))
            return
        if mode == "slow" and not self._control.flaps:
            await asyncio.sleep(self._control.delay_s)
        answer = await ask(query)
        if answer is not None and not self._is_lost():
            reply(answer)

    def _is_lost(self) -> bool:
        return self._control.mode == "lossy" and self._rng.random() < self._control.share

    async def _ask_udp(self, query: bytes) -> bytes | None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as own:
            own.connect((self._server, 53))
            try:
                async with asyncio.timeout(_SERVER_S):
                    await loop.sock_sendall(own, query)
                    return await loop.sock_recv(own, 65_535)
            except (TimeoutError, OSError):
                return None

    async def _ask_tcp(self, query: bytes) -> bytes | None:
        try:
            async with asyncio.timeout(_SERVER_S):
                reader, writer = await asyncio.open_connection(self._server, 53)
                writer.write(struct.pack("!H", len(query)) + query)
                answer = await _frame(reader)
                writer.close()
                return answer
        except (TimeoutError, OSError, EOFError):
            return None


# --- lies ---------------------------------------------------------------------------------------------------


def tell_lies(query: bytes, peer: Address, reply: Reply) -> None:
    """All the ways in which an answer over UDP can be somebody else's."""
    reply(with_another_id(query))
    reply(to_another_question(query))
    _from(("", LIARS_PORT), lie_to(query), peer)
    _from((LIARS_ADDRESS, 53), lie_to(query), peer)


def lie_to(query: bytes) -> bytes:
    """A false answer that fits the query."""
    record = dnslib.DNSRecord.parse(query)
    made = record.reply()
    made.add_answer(dnslib.RR(record.q.qname, dnslib.QTYPE.A, rdata=dnslib.A(LIE), ttl=300))
    return bytes(made.pack())


def with_another_id(query: bytes) -> bytes:
    lie = lie_to(query)
    return bytes((lie[0] ^ 0x55, lie[1] ^ 0xAA)) + lie[2:]


def to_another_question(query: bytes) -> bytes:
    """The ID is right; the name is not."""
    other = dnslib.DNSRecord.question("liar.example.org")
    return query[:2] + lie_to(bytes(other.pack()))[2:]


def _from(source: Address, packet: bytes, peer: Address) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(source)
        made.sendto(packet, peer)


def _header(query: bytes, rcode: int) -> bytes:
    return query[:2] + bytes((query[2] | 0x80, rcode)) + query[4:]


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(length)


async def serve(control: Control, server: str, seed: int, ready_fd: int | None) -> None:
    """Until the control file is gone."""
    loop = asyncio.get_running_loop()
    _, relay = await loop.create_datagram_endpoint(
        lambda: Relay(control, server, seed), local_addr=("0.0.0.0", PORT)
    )
    await asyncio.start_server(relay.tcp, "0.0.0.0", PORT)
    say_ready(ready_fd)
    while control.refresh():
        await asyncio.sleep(_WATCH_S)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lab.world.dns_fault", description="A DNS server's bad day.")
    parser.add_argument("--control", type=Path, required=True, help="JSON file: mode, delay_s, share")
    parser.add_argument("--server", required=True, help="address of the DNS server")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a byte when it listens")
    parser.add_argument("--seed", type=int, default=0, help="for what is lost")
    arguments = parser.parse_args(argv)
    control = Control(arguments.control)
    with _lock_file(arguments.control).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not control.refresh():
            return 0
        asyncio.run(serve(control, arguments.server, arguments.seed, arguments.ready_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main())
