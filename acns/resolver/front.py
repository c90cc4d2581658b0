"""All that faces pods and DNS servers: the listeners, both transports, the sockets that ask and answer.

It is opened once there is a policy, on listeners of its own or on those of a resolver before it, and it ends
by being closed or by giving everything up to the next one (`handover`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from acns.resolver import intercept
from acns.resolver.handover import Connection, Handover, Listeners
from acns.resolver.intercept import ReplySockets
from acns.resolver.proxy import Proxy
from acns.resolver.settings import ResolverSettings, transparent_servers
from acns.resolver.tcp_clients import TCPClients
from acns.resolver.transparent import Transparency, TransparentUDP
from acns.resolver.udp_clients import UDPClients
from acns.resolver.udp_loop import UDPLoop
from acns.resolver.udp_upstream import UDPUpstream


class Front:
    """Serves from when it is made until `close`."""

    def __init__(self, settings: ResolverSettings, proxy: Proxy, listeners: Listeners) -> None:
        self._proxy = proxy
        self._cleanup = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            timeout_s, metrics = settings.upstream_timeout_ms / 1000, proxy.metrics
            servers = transparent_servers(settings.transparent_servers) if settings.transparent else ()
            transparency = Transparency(servers, metrics)
            loop = UDPLoop(proxy.journal)
            opened.callback(loop.close)
            proxy.context.commits.let_through = loop.let_through
            upstream = UDPUpstream(timeout_s, metrics)
            opened.callback(upstream.close)
            as_pods = TransparentUDP(transparency, timeout_s, metrics)
            opened.callback(as_pods.close)
            replies = ReplySockets(settings.reply_sockets)
            opened.callback(replies.close)
            self._tcp = TCPClients(settings, proxy, transparency)
            opened.callback(self._tcp.close)
            self._udp = UDPClients(listeners.udp, proxy, upstream, replies, transparency, as_pods, loop)
            opened.callback(self._udp.stop)
            upstream.open(loop, self._udp)
            self._udp.start()
            self._tcp.serve(listeners.tcp)
            self._cleanup = opened.pop_all()

    def adopt(self, connection: Connection) -> None:
        """Go on with a pod's connection where another resolver has left off."""
        self._tcp.adopt(connection)

    async def hand_over(self, handover: Handover, kept: Callable[[], Awaitable[bytes | None]]) -> None:
        """Give everything to the successor; what is in flight is still answered from here. Raises
        SuccessorGone; then, and until `close`, `take_back` is possible.

        `kept` is awaited in between, when nobody reads: all that was judged was judged by what it returns.
        """
        listeners = Listeners(self._udp.give_up(), self._tcp.give_up_listener())
        await handover.give_listeners(listeners, await kept())
        await self._tcp.give_up(handover.give)

    def take_back(self) -> None:
        """Serve on, after `hand_over`: all but the connections that were given away."""
        self._udp.take_back()
        self._tcp.take_back()

    async def drain(self, within_s: float) -> None:
        """Take no more; let queries in flight get their answers, for so long at most."""
        self._udp.stop()
        self._tcp.stop_accepting()
        await self.answered(within_s)

    async def answered(self, within_s: float) -> None:
        """Wait until nothing is in flight, unsent, or untold of what has left, for so long at most."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while self._owes and loop.time() < deadline:
            await asyncio.sleep(0.01)

    @property
    def _owes(self) -> bool:
        owed_to_pods = self._udp.in_line or self._proxy.in_flight or self._tcp.owes
        return bool(owed_to_pods or self._proxy.context.commits.renewals)

    def close(self) -> None:
        """Whatever is still in flight gets no answer."""
        self._cleanup.close()


def own_listeners(settings: ResolverSettings, queries: socket.socket) -> Listeners:
    """Bound now: from here on redirected queries arrive. `queries`: from `intercept.open_udp`."""
    tcp = intercept.open_tcp(settings.listen_port)
    try:
        return Listeners(intercept.bind_udp(queries, settings.listen_port), tcp)
    except BaseException:
        tcp.close()
        raise
