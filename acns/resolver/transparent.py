"""Queries that leave with the pod's own address and port, as in Cilium's transparent mode.

Only to servers that are known to stand before no Service translation: an answer that comes back through it
would be addressed to the pod by connection tracking, and pass the gate by. Which they are the settings say;
all others are asked from the resolver's own address, counted, and named once in the log.

A pod's port may also be one that a program of the node has, for whatever address. The kernel gives it to
nobody else, so that pod is asked for from the node's address too. The resolver's own ports are no such: it
shares them with itself. And so it is where descriptors are short: each pod's port takes one, and the last are
left to what all pods need, the sockets that answer them and their connections.

An answer is addressed to the pod. The ruleset diverts it here by the very socket that asked, which it knows
by its mark; one that finds no socket of ours belongs to no rule of the pod's, and is dropped. So a socket
stays for a while after its last query: what comes late or twice is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from acns.datapath.constants import MARK_AS_POD
from acns.dns.message import with_id
from acns.resolver import icmp
from acns.resolver.flight import ID_BYTES, Ended, Flight, restored
from acns.resolver.intercept import IP_TRANSPARENT, MAX_MESSAGE_BYTES, Address, Server
from acns.resolver.metrics import DESCRIPTORS, PORT, SERVICE, ResolverMetrics
from acns.telemetry import log as logs

log = logs.named(__name__)

MANY_SERVERS: Final = 4_096
SWEEP_INTERVAL_S: Final = 0.1
LINGER_S: Final = 3.0
"""A socket stays open for so long after its last query."""
MOST_LINGERING: Final = 512
SPARE_DESCRIPTORS: Final = 128
"""Not taken for datagrams, which the node's own sockets can carry as well."""
_NO_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE))
_BURST: Final = 16

_Key = tuple[Address, Server]


class Transparency:
    """Which servers see the pod's address, and the sockets to ask them with."""

    def __init__(self, servers: Iterable[IPv4Network], metrics: ResolverMetrics) -> None:
        """No `servers`: off."""
        self._servers = tuple(servers)
        self._metrics = metrics
        self._known: dict[bytes, bool] = {}

    @property
    def is_on(self) -> bool:
        """Whether there may be such servers."""
        return bool(self._servers)

    def applies(self, server: Server) -> bool:
        """Whether to ask this server as the pod; where not, that is said."""
        if not self._servers:
            return False
        known = self._known.get(server[0])
        if known is None:
            known = self._find(server[0])
        if not known:
            self._metrics.not_transparent.add(SERVICE)
        return known

    def pod_socket(self, kind: int, pod: Address) -> socket.socket | None:
        """A socket that speaks as the pod; None where a program of the node has its port. Raises OSError."""
        try:
            return _speaking_as(kind, pod)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self._metrics.not_transparent.add(PORT)
            return None

    def udp_socket(self, pod: Address) -> socket.socket | None:
        """The same for datagrams. Raises OSError, EMFILE already where only `SPARE_DESCRIPTORS` are left."""
        made = self.pod_socket(socket.SOCK_DGRAM, pod)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The kernel gives the lowest number that is free: all below are taken.
        if made is not None and made.fileno() >= limit - SPARE_DESCRIPTORS:
            made.close()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return made

    def _find(self, address: bytes) -> bool:
        if len(self._known) >= MANY_SERVERS:
            self._known.clear()
        found = any(IPv4Address(address) in network for network in self._servers)
        self._known[address] = found
        if not found:
            log.warning("asked from the node's address, not the pod's", server=socket.inet_ntoa(address))
        return found


def _speaking_as(kind: int, pod: Address) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_AS_POD)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one port, several servers
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # or one that we have for all addresses
        made.bind(pod)
    except OSError:
        made.close()
        raise
    return made


@dataclass(slots=True)
class _Asking:
    """A socket, what waits on it by ID, oldest first, and how what waited has ended."""

    socket: socket.socket
    waiting: dict[int, tuple[Flight, float]] = field(default_factory=dict)
    ended: Ended = field(default_factory=Ended)


class TransparentUDP:
    """Queries over UDP as their pods. A pod's port and server have a socket, open while an answer is owed and
    a little longer."""

    def __init__(self, transparency: Transparency, timeout_s: float, metrics: ResolverMetrics) -> None:
        self._loop = asyncio.get_running_loop()
        self._transparency = transparency
        self._timeout_s = timeout_s
        self._ignored = metrics.ignored
        self._not_transparent = metrics.not_transparent
        self._asking: dict[_Key, _Asking] = {}
        self._lingering: dict[_Key, float] = {}
        """Those of them that nothing waits on, and since when, oldest first."""
        self._sweeper: asyncio.TimerHandle | None = None

    def send(self, flight: Flight, pod: Address) -> bool:
        """Send the query; `flight` hears of the outcome, of a failure to send before this returns. False: as
        the pod it cannot be sent."""
        key = pod, flight.server
        try:
            asking = self._asking.get(key) or self._open(key)
            if asking is None:
                return False
            identifier = self._free_id(flight, asking)
            if identifier is None:
                flight.failed("another query has its ID")
                return True
            self._send(asking.socket, with_id(flight.packet, identifier))
        except OSError as error:
            flight.failed(errno.errorcode.get(error.errno or 0, "send failed"))
            self._linger(key)
            return True
        asking.waiting[identifier] = flight, self._loop.time() + self._timeout_s
        self._lingering.pop(key, None)
        return True

    def send_again(self, packet: bytes, server: Server, pod: Address) -> bool:
        """Send it once more, under the same ID; whether it is on its way here."""
        asking = self._asking.get((pod, server))
        if asking is None:
            return False
        for identifier, (flight, _) in asking.waiting.items():
            if flight.packet == packet:
                with contextlib.suppress(OSError):
                    self._send(asking.socket, with_id(packet, identifier))
                return True
        return False

    def give_up(self, packet: bytes, server: Server, pod: Address) -> bool:
        """Wait for it no more; whether it was on its way here. Its flight hears nothing."""
        key = pod, server
        asking = self._asking.get(key)
        if asking is None:
            return False
        for identifier, (flight, _) in asking.waiting.items():
            if flight.packet == packet:
                del asking.waiting[identifier]
                asking.ended.given_up(identifier)
                self._linger(key)
                return True
        return False

    def close(self) -> None:
        for key, asking in list(self._asking.items()):
            waiting, asking.waiting = asking.waiting, {}
            for flight, _ in waiting.values():
                flight.abandoned()
            self._close(key)
        if self._sweeper:
            self._sweeper.cancel()

    def _open(self, key: _Key) -> _Asking | None:
        pod, server = key
        made = self._pod_socket(pod)
        if made is None:
            return None
        try:
            icmp.queue_errors(made)
            made.connect((socket.inet_ntoa(server[0]), server[1]))
        except OSError:
            made.close()
            raise
        asking = self._asking[key] = _Asking(made)
        self._loop.add_reader(made, self._readable, key, asking)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)
        return asking

    def _pod_socket(self, pod: Address) -> socket.socket | None:
        """None: as the pod it cannot be asked now. Where descriptors are short, sockets that only linger go
        first. Raises OSError."""
        while True:
            try:
                return self._transparency.udp_socket(pod)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
            if not self._lingering:
                self._not_transparent.add(DESCRIPTORS)
                return None
            self._close(next(iter(self._lingering)))

    def _free_id(self, flight: Flight, asking: _Asking) -> int | None:
        if flight.kept_id is not None:
            return None if flight.kept_id in asking.waiting else flight.kept_id
        identifier = int.from_bytes(os.urandom(ID_BYTES))
        while identifier in asking.waiting:  # a pod's queries in flight are few: this ends soon
            identifier = int.from_bytes(os.urandom(ID_BYTES))
        return identifier

    def _send(self, sender: socket.socket, packet: bytes) -> None:
        """An ICMP error for an *earlier* query is reported by the next call, so try twice."""
        try:
            sender.send(packet)
        except BlockingIOError:
            raise
        except OSError:
            sender.send(packet)

    # --- answers --------------------------------------------------------------------------------------

    def _readable(self, key: _Key, asking: _Asking) -> None:
        for _ in range(_BURST):
            try:
                packet = asking.socket.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError:  # what it is about, the error queue says
                continue
            self._answer(asking, packet)
        for payload, _, reason in icmp.take_errors(asking.socket):
            self._fail(asking, payload[:ID_BYTES], reason)
        self._linger(key)

    def _answer(self, asking: _Asking, packet: bytes) -> None:
        if len(packet) < ID_BYTES:
            self._ignored.add("malformed")
            return
        identifier = int.from_bytes(packet[:ID_BYTES])
        found = asking.waiting.get(identifier)
        if found is None:
            self._ignored.add(asking.ended.kind(identifier))
        elif found[0].answered(restored(packet, found[0].packet)):
            asking.waiting.pop(identifier, None)
            asking.ended.answered(identifier)

    def _fail(self, asking: _Asking, quoted_id: bytes, reason: str) -> None:
        """The server is not there, for none of them: routers tell it of a few datagrams a second only. An ID
        that nobody waits for is of an earlier query, or forged; of some datagrams none is quoted."""
        if len(quoted_id) == ID_BYTES and int.from_bytes(quoted_id) not in asking.waiting:
            return
        waiting, asking.waiting = asking.waiting, {}
        for identifier, (flight, _) in waiting.items():
            asking.ended.given_up(identifier)
            flight.failed(reason)

    # --- the end --------------------------------------------------------------------------------------

    def _linger(self, key: _Key) -> None:
        """If nothing waits on the socket any more: for late answers, and the same ones again. It takes none
        of a successor's: of two sockets for the same port and server the kernel delivers to the newer."""
        asking = self._asking.get(key)
        if asking is not None and not asking.waiting and key not in self._lingering:
            self._lingering[key] = self._loop.time()
            self._let_go()

    def _let_go(self) -> None:
        """Of those that linger, the oldest: too many, or for too long."""
        due = self._loop.time() - LINGER_S
        while self._lingering:
            key, since = next(iter(self._lingering.items()))
            if since > due and len(self._lingering) <= MOST_LINGERING:
                return
            self._close(key)

    def _close(self, key: _Key) -> None:
        self._lingering.pop(key, None)
        asking = self._asking.pop(key)
        self._loop.remove_reader(asking.socket)
        asking.socket.close()

    def _sweep(self) -> None:
        now = self._loop.time()
        for key, asking in list(self._asking.items()):
            for identifier, (flight, deadline) in list(asking.waiting.items()):
                if deadline > now:
                    break
                del asking.waiting[identifier]
                asking.ended.given_up(identifier)
                flight.silent()
            self._linger(key)
        self._let_go()
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep) if self._asking else None
