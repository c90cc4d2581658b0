"""The sockets towards the pods: where redirected queries arrive, and from where answers leave.

The kernel hands a pod's packet to 127.0.0.1:PORT by tproxy, its addresses unchanged. For UDP the server the
pod asked comes as control data (IP_RECVORIGDSTADDR), for TCP it is the accepted socket's own address. An
answer has to come from that server's address and port, so it leaves from a transparent socket bound to it
(`node_replies` where the server is on this node, and has bound it itself).
All of them carry SO_MARK, by which the ruleset tells answers of the resolver from other traffic.

Needs CAP_NET_RAW (IP_TRANSPARENT, and SO_MARK from Linux 5.17) and, for port 53, CAP_NET_BIND_SERVICE; the
listener's large buffer needs CAP_NET_ADMIN, which is why it is made early (`privileged`). Each socket belongs
to the network namespace of the thread that makes it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from acns.datapath.constants import MARK_FROM_PROXY, PROXY_ADDRESS
from acns.errors import EnvironmentFault
from acns.resolver.node_replies import NodeReplies, is_on_node

# linux/in.h; not in Python's socket module.
IP_TRANSPARENT: Final = 19
IP_RECVORIGDSTADDR: Final = 20
SO_MEMINFO: Final = 55  # asm-generic/socket.h

RECEIVE_BUFFER_BYTES: Final = 4 << 20
TCP_RECEIVE_BYTES: Final = 32 << 10
TCP_SEND_BYTES: Final = 8 << 10
"""What the kernel keeps of one connection for us, and for the pod. It makes twice as much of both; without
bounds it keeps some 4 MiB of each."""
TCP_UNSENT_BYTES: Final = 512
"""It begins no other segment of answers while so much waits for room in the pod's window: who does not read
is soon asked no more. A segment has up to half of that window, so this does much where windows are small."""
MAX_MESSAGE_BYTES: Final = 65_535
_MEMORY: Final = struct.Struct("=II")  # octets held for reading, and how many may be (linux/sock_diag.h)
_SOCKADDR_IN: Final = struct.Struct("!2xH4s8x")  # the family is in host order, and known

Address = tuple[str, int]
Server = tuple[bytes, int]
"""Raw IPv4 address and port of the DNS server that a pod asked."""


def open_udp() -> socket.socket:
    """The socket where redirected UDP queries will arrive, with all that takes privileges done to it."""
    with (
        _explained("cannot make a transparent UDP socket"),
        _closing_on_error(_transparent_udp()) as listener,
    ):
        listener.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
        _large_receive_buffer(listener)
        return listener


def bind_udp(listener: socket.socket, port: int) -> socket.socket:
    """From now on they arrive."""
    with _explained(f"cannot listen on UDP {PROXY_ADDRESS}:{port}"):
        listener.bind((PROXY_ADDRESS, port))
    return listener


def open_tcp(port: int, *, backlog: int = 1024) -> socket.socket:
    """The listener where redirected TCP connections arrive; accepted sockets inherit its mark and bounds."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with _explained(f"cannot listen on TCP {PROXY_ADDRESS}:{port}"), _closing_on_error(listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _make_transparent(listener)
        _bound(listener)
        listener.bind((PROXY_ADDRESS, port))
        listener.listen(backlog)
        return listener


def _bound(listener: socket.socket) -> None:
    """What one connection can make the kernel hold (socket(7), tcp(7)); each piece of it leaves at once."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TCP_RECEIVE_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TCP_SEND_BYTES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, TCP_UNSENT_BYTES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def pressure(listener: socket.socket) -> int:
    """How much faster packets come than they are read: 1 while hardly any wait, 16 where half of the receive
    buffer is taken; between, twice as much for each doubling of what waits."""
    held, room = _MEMORY.unpack_from(listener.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64))
    return 1 if held <= room >> 4 else min(1 << (32 * held // room).bit_length() - 1, 16)


def server_of(place: bytes) -> Server:
    """Whom a pod asked, from the control data (IP_ORIGDSTADDR) of its datagram."""
    port, address = _SOCKADDR_IN.unpack_from(place)
    return address, port


class ReplySockets:
    """Transparent UDP sockets bound to the servers' addresses, kept open, the least recently used closed.

    Who sends much keeps a `sender`, as long as `generation` is the same: each closing begins another. A
    server on this node has none.
    """

    def __init__(self, limit: int, open_socket: Callable[[Server], socket.socket] | None = None) -> None:
        self.generation = 0
        self._limit = limit
        self._open = open_socket or _open_reply
        self._sockets: OrderedDict[Server, socket.socket] = OrderedDict()
        self._on_node: set[bytes] = set()
        self._as_node = NodeReplies()

    def sender(self, server: Server) -> socket.socket | None:
        """Sends from `server` to pods; None where only `send` does. Raises OSError."""
        found = self._sockets.get(server)
        if found is not None:
            self._sockets.move_to_end(server)
            return found
        return None if self._is_on_node(server[0]) else self._add(server)

    def send(self, server: Server, packet: bytes, to: Address) -> None:
        """Raises OSError, also where it cannot leave at once."""
        sender = self.sender(server)
        if sender is None:
            self._as_node.send(server, packet, to)
        else:
            sender.sendto(packet, to)

    def close(self) -> None:
        self._as_node.close()
        self.generation += 1
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _is_on_node(self, address: bytes) -> bool:
        if address not in self._on_node and is_on_node(address):
            if len(self._on_node) >= self._limit:
                self._on_node.clear()
            self._on_node.add(address)
        return address in self._on_node

    def _add(self, server: Server) -> socket.socket:
        while len(self._sockets) >= self._limit:
            self.generation += 1
            self._sockets.popitem(last=False)[1].close()
        made = self._sockets[server] = self._open(server)
        return made


def _open_reply(server: Server) -> socket.socket:
    with _closing_on_error(_transparent_udp()) as made:
        # Another generation of this resolver may answer from the same address.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # it only ever sends
        made.bind((socket.inet_ntoa(server[0]), server[1]))
        return made


def _transparent_udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with _closing_on_error(made):
        _make_transparent(made)
        return made


def _make_transparent(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_FROM_PROXY)


def _large_receive_buffer(sock: socket.socket) -> None:
    """Room for a burst of queries while the loop is busy; beyond rmem_max where we may."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), RECEIVE_BUFFER_BYTES)


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[socket.socket]:
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EnvironmentFault(
            f"{what}: {error.strerror}", hint="transparent sockets need CAP_NET_RAW"
        ) from error
    except OSError as error:
        raise EnvironmentFault(
            f"{what}: {error.strerror}", hint="is another resolver running here?"
        ) from error
