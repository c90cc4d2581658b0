"""What ICMP says of the datagrams that a socket has sent: which of them had nowhere to go.

Only from the error queue is all of it heard. Without one an unconnected socket hears nothing, and a connected
one of a closed port, but not of a host or a network that cannot be reached.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, NamedTuple

from acns.resolver.intercept import Address

IP_RECVERR: Final = 11  # linux/in.h
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # struct sock_extended_err
_UNREACHABLE: Final = frozenset(
    (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT)
)
_ERRORS_AT_ONCE: Final = 64
_QUOTED_BYTES: Final = 512
_ANCILLARY_BYTES: Final = 256


class Unreachable(NamedTuple):
    """Of one datagram: its payload, as much as is quoted (it may be nothing), where it went, and the error's
    name."""

    payload: bytes
    server: Address
    reason: str


def queue_errors(sender: socket.socket) -> None:
    """From now on, for `take_errors`. Who watches the socket has to take them, or it stays ready for ever."""
    sender.setsockopt(socket.SOL_IP, IP_RECVERR, 1)


def take_errors(sender: socket.socket) -> list[Unreachable]:
    """Those that have come, oldest first; when many have, the rest at the next call."""
    found = []
    for _ in range(_ERRORS_AT_ONCE):
        try:
            payload, ancillary, _, server = sender.recvmsg(
                _QUOTED_BYTES, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE
            )
        except OSError:  # BlockingIOError: no more of them
            sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # or the epoll reports it for ever
            break
        if (reason := _reason(ancillary)) is not None:
            found.append(Unreachable(payload, server, reason))
    return found


def _reason(ancillary: list[tuple[int, int, bytes]]) -> str | None:
    """The error's name when the ancillary data say that the datagram had nowhere to go."""
    for level, kind, data in ancillary:
        if level == socket.SOL_IP and kind == IP_RECVERR:
            number = int(_EXTENDED_ERROR.unpack_from(data)[0])
            return errno.errorcode[number] if number in _UNREACHABLE else None
    return None
