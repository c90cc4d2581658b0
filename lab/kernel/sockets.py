"""What sockets of the lab have in common."""

from __future__ import annotations

import socket
from typing import Final

_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h


def enlarge_receive_buffer(opened: socket.socket, octets: int) -> None:
    """As far as we may: an ordinary user's lab gets no more than the machine's limit (net.core.rmem_max)."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, octets)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)
