"""A TCP socket on the event loop: read once per turn, written once for all that a turn brought.

No asyncio transport: it sends each message by itself, and costs as much again as the query does. What is
kept true: nothing is written after the end was said; what a peer that does not read makes us hold is known
(`unsent`), so that its owner can stop making more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Final, Protocol

from acns.resolver.sockets import Sockets

READ_BYTES: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_NO_LOW_WATER: Final = 0x7FFF_FFFF


class Owner(Protocol):
    """Who a stream tells. None of these may raise."""

    def received(self, stream: Stream, data: bytes, now: float) -> None: ...

    def ended(self, stream: Stream) -> None:
        """The peer has closed its half; it may still read."""

    def wrote(self, stream: Stream) -> None:
        """More of what was unsent is sent; while it is `stuck`, not all."""

    def lost(self, stream: Stream, reason: str) -> None:
        """The stream is closed by an error; an errno's name."""


class Stream:
    """One connected socket, its own from now on. It does not read before `resume`."""

    __slots__ = ("_fd", "_owner", "_socket", "_sockets", "_unsent", "closed", "pieces", "reading", "stuck")

    def __init__(self, connected: socket.socket, owner: Owner, sockets: Sockets) -> None:
        self._socket = connected
        self._fd = connected.fileno()
        self._owner = owner
        self._sockets = sockets
        self.reading = False
        self.pieces: list[bytes] = []
        """What leaves with the next `flush`; the same list always."""
        self._unsent = b""  # what the last one left over; we are told when more may go
        self.closed = False
        self.stuck = False
        """Whether the peer reads too little: the kernel holds all that it takes. Without what is not flushed,
        which may still go at once."""

    @property
    def unsent(self) -> bool:
        return self.stuck or bool(self.pieces)

    # --- writing --------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send the pieces as one."""
        if not self.pieces or self.closed:
            return
        data = b"".join(self.pieces)
        self.pieces.clear()
        if self.stuck:
            self._unsent += data
        else:
            self._send(data)

    def push(self) -> None:
        """Have the kernel take all that its buffer has room for, since nothing will follow: it goes on
        sending that after `close`; where the peer has sent what nobody read, it resets (RFC 2525, 2.17)."""
        if self.stuck and not self.closed:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NO_LOW_WATER)
            self._send(self._unsent)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail(error)
            return
        if sent < len(data):
            if not self.stuck:
                self._sockets.loop.add_writer(self._fd, self._writable)
            self._unsent, self.stuck = data[sent:], True
        elif self.stuck:
            self._unsent, self.stuck = b"", False
            self._sockets.loop.remove_writer(self._fd)

    def _writable(self) -> None:
        before = len(self._unsent)
        self._send(self._unsent)
        if not self.closed and len(self._unsent) < before:
            self._owner.wrote(self)

    # --- reading --------------------------------------------------------------------------------------

    def resume(self) -> None:
        if not self.reading and not self.closed:
            self.reading = True
            self._sockets.add(self._fd, self._readable)

    def pause(self) -> None:
        if self.reading:
            self.reading = False
            self._sockets.remove(self._fd)

    def _readable(self, events: int, now: float) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if data:
            self._owner.received(self, data, now)
        else:
            self.pause()
            self._owner.ended(self)

    # --- the end --------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Close so that the kernel forgets it at once, and the peer is told."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close: what the kernel has taken is still sent. The owner hears no more."""
        if self.closed:
            return
        self.pause()
        if self.stuck:
            self._sockets.loop.remove_writer(self._fd)
        self.pieces.clear()
        self._unsent, self.stuck = b"", False
        self.closed = True
        self._socket.close()

    def give_up(self) -> socket.socket:
        """The socket, for another owner: nothing of it is unsent or was read."""
        self.pause()
        self.closed = True
        return self._socket

    def _fail(self, error: OSError) -> None:
        self.close()
        self._owner.lost(self, errno_name(error))


def errno_name(error: OSError) -> str:
    """As the journal has it."""
    return errno.errorcode.get(error.errno or 0, os.strerror(error.errno or 0))
