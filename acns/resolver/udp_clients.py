"""Redirected UDP queries: in through one socket, out again from the address that was asked."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from typing import Final

from acns.resolver import intercept
from acns.resolver.intercept import Address, ReplySockets, Server
from acns.resolver.metrics import UDP
from acns.resolver.proxy import Proxy
from acns.resolver.query import Asked
from acns.resolver.transparent import Transparency, TransparentUDP
from acns.resolver.udp_upstream import UDPUpstream
from acns.telemetry.journal import Event

BURST: Final = 64  # queries read before answers get their turn


class UDPClients:
    """All pods that ask over UDP."""

    def __init__(
        self,
        listener: socket.socket,
        proxy: Proxy,
        upstream: UDPUpstream,
        replies: ReplySockets,
        transparency: Transparency,
        as_pods: TransparentUDP,
    ) -> None:
        self._listener = listener
        self._own: Server = (socket.inet_aton(listener.getsockname()[0]), listener.getsockname()[1])
        self._proxy = proxy
        self._upstream = upstream
        self._replies = replies
        self._rates = proxy.rates
        self._transparency = transparency
        self._as_pods = as_pods

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._readable)

    def stop(self) -> None:
        """Take no more queries; answers still leave. May be called twice."""
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()

    def _readable(self) -> None:
        self._rates.pressed = intercept.is_filling(self._listener)
        for _ in range(BURST):
            try:
                received = intercept.receive(self._listener)
            except BlockingIOError:
                return
            if received is None or received[2] == self._own:
                # Sent to our own port, not redirected; to answer from there would shadow this very socket.
                self._proxy.metrics.queries.add(UDP, "direct")
                continue
            self._query(*received)

    def _query(self, packet: bytes, source: Address, server: Server) -> None:
        def reply(answer: bytes | None) -> None:
            if answer is not None:
                self._send(server, answer, source)

        if not self._rates.take(source[0], time.monotonic()):
            reply(self._proxy.over_rate(packet, source[0], UDP))
            return
        asked = Asked(packet, socket.inet_aton(source[0]), server, UDP)
        if self._transparency.applies(server):
            self._proxy.receive(asked, lambda flight: self._as_pods.send(flight, source), reply)
        else:
            self._proxy.receive(asked, self._upstream.send, reply)

    def _send(self, server: Server, answer: bytes, to: Address) -> None:
        try:
            self._replies.send(server, answer, to)
        except OSError as error:  # a full buffer too: the pod asks again
            self._proxy.metrics.answers.add(UDP, "send-error")
            if self._proxy.journal.on:
                code = errno.errorcode.get(error.errno or 0, "?")
                self._proxy.journal.record(Event.DNS_ANSWER, outcome="send-error", source=to[0], reason=code)
