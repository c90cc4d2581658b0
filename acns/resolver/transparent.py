"""Queries that leave with the pod's own address and port, as in Cilium's transparent mode.

Only to servers that are known to stand before no Service translation: an answer that comes back through it
would be addressed to the pod by connection tracking, and pass the gate by. Which they are the settings say;
all others are asked from the resolver's own address, counted, and named once in the log.

A pod's port may also be one that a program of the node has, for whatever address. The kernel gives it to
nobody else, so that pod is asked for from the node's address too. The resolver's own ports are no such: it
shares them with itself.

An answer is addressed to the pod. The ruleset diverts it here by the very socket that asked, which it knows
by its mark; one that finds no socket of ours belongs to no rule of the pod's, and is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from acns.datapath.constants import MARK_AS_POD
from acns.dns.message import with_id
from acns.resolver.flight import ID_BYTES, Ended, Flight, restored
from acns.resolver.intercept import IP_TRANSPARENT, MAX_MESSAGE_BYTES, Address, Server
from acns.resolver.metrics import PORT, SERVICE, ResolverMetrics
from acns.telemetry import log as logs
from acns.telemetry.metrics import Tally

log = logs.named(__name__)

MANY_SERVERS: Final = 4_096
SWEEP_INTERVAL_S: Final = 0.1
_BURST: Final = 16


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
    """Queries over UDP as their pods. A pod's port and server have a socket, open while an answer is owed."""

    def __init__(self, transparency: Transparency, timeout_s: float, ignored: Tally) -> None:
        self._loop = asyncio.get_running_loop()
        self._transparency = transparency
        self._timeout_s = timeout_s
        self._ignored = ignored
        self._asking: dict[tuple[Address, Server], _Asking] = {}
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
            self._close_idle(key)
            return True
        asking.waiting[identifier] = flight, self._loop.time() + self._timeout_s
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)
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

    def close(self) -> None:
        for key, asking in list(self._asking.items()):
            waiting, asking.waiting = asking.waiting, {}
            for flight, _ in waiting.values():
                flight.abandoned()
            self._close_idle(key)
        if self._sweeper:
            self._sweeper.cancel()

    def _open(self, key: tuple[Address, Server]) -> _Asking | None:
        pod, server = key
        made = self._transparency.pod_socket(socket.SOCK_DGRAM, pod)
        if made is None:
            return None
        try:
            made.connect((socket.inet_ntoa(server[0]), server[1]))
        except OSError:
            made.close()
            raise
        asking = self._asking[key] = _Asking(made)
        self._loop.add_reader(made, self._readable, key, asking)
        return asking

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
        except ConnectionRefusedError:
            sender.send(packet)

    # --- answers --------------------------------------------------------------------------------------

    def _readable(self, key: tuple[Address, Server], asking: _Asking) -> None:
        for _ in range(_BURST):
            try:
                packet = asking.socket.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                self._fail(asking, errno.errorcode.get(error.errno or 0, "unreachable"))
                break
            self._answer(asking, packet)
        self._close_idle(key)

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

    def _fail(self, asking: _Asking, reason: str) -> None:
        """The server is not there, for none of them."""
        waiting, asking.waiting = asking.waiting, {}
        for flight, _ in waiting.values():
            flight.failed(reason)

    # --- the end --------------------------------------------------------------------------------------

    def _close_idle(self, key: tuple[Address, Server]) -> None:
        asking = self._asking.get(key)
        if asking is not None and not asking.waiting:
            del self._asking[key]
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
            self._close_idle(key)
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep) if self._asking else None
