"""What pods do in a run: real sockets in their namespaces, queries from them and connections, really tried.

How long somebody waits follows from what was recorded: whoever was answered is waited for with patience,
silence is believed once a SYN has been repeated in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from acns.resolver.framing import Frames, framed
from lab.repro.scenario import messages
from lab.repro.scenario.topology import DNS_PORT
from lab.runtime.handles import Inside

PATIENCE_S: Final = 5.0
"""With whatever answered when it was recorded."""
SILENCE_S: Final = 1.6
"""Longer than Linux takes to repeat a SYN."""
_TOTAL_RETRANS_AT: Final = 100  # tcpi_total_retrans in struct tcp_info
_PING: Final = b"acns-repro\n"
_RECEIVE_BYTES: Final = 65_535
_UNREACHABLE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT)

Endpoint = tuple[str, int]


@dataclass(slots=True)
class Resolving:
    """A client's socket to a DNS server; several queries may be on their way."""

    transport: str
    peer: Endpoint
    socket: socket.socket
    _waiting: dict[int, asyncio.Future[bytes]] = field(default_factory=dict)
    _reader: asyncio.Task[None] | None = None
    _connecting: asyncio.Task[bool] | None = None
    _frames: Frames = field(default_factory=Frames)

    async def ask(self, query: bytes, patience_s: float) -> bytes | None:
        """What comes back under the query's ID. None: nothing, in that time."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()
        self._waiting[int.from_bytes(query[:2])] = answered
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(patience_s):
                if not await self._connected():
                    return None
                await loop.sock_sendall(self.socket, framed(query) if self._is_stream else query)
                return await answered
        return None

    def close(self) -> None:
        for task in (self._reader, self._connecting):
            if task is not None:
                task.cancel()
        self.socket.close()

    @property
    def _is_stream(self) -> bool:
        return self.transport == "tcp"

    async def _connected(self) -> bool:
        """Whether it is; the first who asks connects it for all."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(self.socket, self.peer)
        except OSError:
            return False
        self._reader = asyncio.create_task(self._read())
        return True

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                data = await loop.sock_recv(self.socket, _RECEIVE_BYTES)
                if not data and self._is_stream:
                    return
                for packet in self._messages(data):
                    waiting = self._waiting.get(int.from_bytes(packet[:2]))
                    if waiting is not None and not waiting.done():
                        waiting.set_result(packet)

    def _messages(self, data: bytes) -> Iterator[bytes]:
        if not self._is_stream:
            yield data
            return
        self._frames.feed(data)
        while (packet := self._frames.take()) is not None:
            yield packet


def resolving(pod: Inside, transport: str, server: str) -> Resolving:
    """A socket in the pod."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    made = pod.open_socket(socket.AF_INET, kind)
    made.setblocking(False)
    return Resolving(transport, (server, DNS_PORT), made)


@dataclass(slots=True)
class Connecting:
    """An attempt of a pod's to connect, and the connection."""

    transport: str
    peer: Endpoint
    socket: socket.socket

    async def connect(self, patience_s: float) -> str:
        """What became of it, in a scenario's words."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience_s):
                await loop.sock_connect(self.socket, self.peer)
                if self.transport == "udp":
                    await self._echo()
        except TimeoutError:
            return messages.SILENT
        except ConnectionRefusedError:
            return "reset"
        except OSError as error:
            return "unreachable" if error.errno in _UNREACHABLE else "reset"
        return "late" if self.transport == "tcp" and self._was_repeated() else "established"

    async def passes(self, patience_s: float) -> str:
        """Whether what is sent comes back."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(patience_s):
                if await self._echo():
                    return "passes"
        return "cut"

    def close(self) -> None:
        self.socket.close()

    async def _echo(self) -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.socket, _PING)
        return await loop.sock_recv(self.socket, _RECEIVE_BYTES)

    def _was_repeated(self) -> bool:
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS_AT + 4)
        return bool(struct.unpack_from("=I", info, _TOTAL_RETRANS_AT)[0])


def connecting(pod: Inside, transport: str, peer: Endpoint) -> Connecting:
    """A socket in the pod."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    made = pod.open_socket(socket.AF_INET, kind)
    made.setblocking(False)
    return Connecting(transport, peer, made)


def patience_s(recorded: str, slowest_answer_s: float = 0.0) -> float:
    """How long to wait for what was recorded so."""
    return slowest_answer_s + (SILENCE_S if recorded in (messages.SILENT, "cut") else PATIENCE_S)
