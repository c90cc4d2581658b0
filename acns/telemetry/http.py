"""`/healthz`, `/readyz` and `/metrics` of an agent (and views of its own), on a unix socket or on a port.

Health means the event loop turns (the answer itself proves it); readiness is the agent's own judgement, with
the reasons where it is not ready, as JSON; 503 then. Asked rarely, it may compute its answer when asked.
One request a connection is all that is spoken: a web framework was a quarter of an agent's start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry

from acns.errors import EnvironmentFault, InputError
from acns.telemetry import metrics, sockets

_MAX_HEAD_BYTES: Final = 16 << 10
_PATIENCE_S: Final = 5.0
_JSON: Final = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready when there is no reason not to be. `details` is shown either way."""

    reasons: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return not self.reasons


class HealthServer:
    """Serves one agent's state at `address`: a path (or `unix:PATH`), `host:port`, or empty for off."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        readiness: Callable[[], Readiness],
        views: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        """`views`: more to look at, as JSON: path → what is computed when it is asked for."""
        self._views = dict(views or {})
        self._address = address
        self._registry = registry
        self._readiness = readiness
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._generation: sockets.Generation | None = None

    async def start(self) -> None:
        """Raises InputError for an address that is none, EnvironmentFault where it cannot be had."""
        if not self._address:
            return
        if is_path(self._address):
            self._generation = sockets.Generation(_path(self._address))
            self._generation.clear()
            listener = sockets.listen(self._generation.own)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_MAX_HEAD_BYTES)
            self._generation.switch()
            return
        host, port = split_host_port(self._address)
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=_MAX_HEAD_BYTES)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {self._address}: {error.strerror}", hint="see http_socket"
            ) from error

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for client in list(self._clients):
            client.close()
        if self._generation:
            self._generation.remove()
            self._generation = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer. Whoever dawdles, or sends nonsense without end, is hung up on."""
        self._clients.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_PATIENCE_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        finally:
            self._clients.discard(writer)
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        if method not in ("GET", "HEAD"):
            return _response(405, b"only GET\n", "text/plain")
        status, body, kind = self._page(rest.partition(" ")[0].partition("?")[0])
        return _response(status, body, kind, is_head=method == "HEAD")

    def _page(self, path: str) -> tuple[int, bytes, str]:
        """Status, body and content type."""
        if path == "/metrics":
            return 200, metrics.exposition(self._registry), metrics.CONTENT_TYPE
        if path == "/healthz":
            return 200, _json({"healthy": True}), _JSON
        if path == "/readyz":
            state = self._readiness()
            body = {"ready": state.ready, "reasons": list(state.reasons), **state.details}
            return (200 if state.ready else 503), _json(body), _JSON
        if path in self._views:
            return 200, _json(self._views[path]()), _JSON
        return 404, b"no such page\n", "text/plain"


def _response(status: int, body: bytes, kind: str, *, is_head: bool = False) -> bytes:
    """The connection ends with it (RFC 9112 section 9.6)."""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def is_path(address: str) -> bool:
    """Whether `address` means a unix socket."""
    return address.startswith(("unix:", "/", "./"))


def split_host_port(address: str) -> tuple[str, int]:
    """`host:port` in its parts; InputError when it is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InputError(f"'{address}' is neither a path nor host:port", hint="for example 127.0.0.1:9091")
    return host.strip("[]"), int(port)


def _path(address: str) -> str:
    return address.removeprefix("unix:")
