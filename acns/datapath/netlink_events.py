"""Netlink sockets that only listen: the kernel multicasts or logs, we read when we like.

What is not read in time the kernel throws away, and says so once (ENOBUFS) without saying how much: an
`Overrun`. That is the cheapest way to bear a flood: a reader with a budget stops reading.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

from acns.datapath import netlink
from acns.datapath.netlink import NetlinkSocket
from acns.errors import EnvironmentFault

GENERIC_BYTES = 4  # struct nfgenmsg, before the attributes of all netfilter messages

_HEADER = struct.Struct("=IHHII")
_READ_BYTES = 1 << 16
_BACKLOG_BYTES = 1 << 16  # some hundred events: what is read after a flood should not be history

Message = tuple[int, int, bytes]
"""Type, flags, body."""


class Overrun(Exception):
    """The kernel had to drop events since the last read."""


class EventSocket(NetlinkSocket):
    """A netfilter socket in the namespace of the thread that makes it; after `listen`, only events come."""

    def __init__(self, *, groups: int = 0) -> None:
        super().__init__(netlink.NETFILTER, groups=groups)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BACKLOG_BYTES)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self.socket.fileno()

    def receive(self) -> list[Message] | None:
        """The events of one datagram; None when there are none now. Raises Overrun."""
        try:
            return list(messages(self.socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)))
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Overrun from error
            raise EnvironmentFault(f"reading events: {error}") from error


def messages(datagram: bytes) -> Iterator[Message]:
    """All whole messages of a datagram."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, datagram[offset + _HEADER.size : offset + length]
        offset += length + (-length % 4)
