"""`/healthz`, `/readyz` and `/metrics` of an agent (and views of its own), on a unix socket or on a port.

Health means the event loop turns (the answer itself proves it); readiness is the agent's own judgement, with
the reasons where it is not ready, as JSON; 503 then. Asked rarely, it may compute its answer when asked.

One request a connection, read and answered by h11: a web framework would be the larger half of what an agent
loads at its start (ADR 21). A client that is slow, or many, takes nobody's place: an exchange has an end, and
where there are too many the oldest gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import h11
from prometheus_client import CollectorRegistry

from acns.errors import EnvironmentFault
from acns.telemetry import log as logs
from acns.telemetry import metrics, page_address, sockets

log = logs.named(__name__)

MAX_HEAD_BYTES: Final = 16 << 10
MAX_CONNECTIONS: Final = 32
EXCHANGE_S: Final = 10.0
"""From the connection to the last octet taken."""
_LAST_EXCHANGES_S: Final = 1.0
_READ_BYTES: Final = 4 << 10
_HOST: Final = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
"""Of a target in absolute form, which servers must accept (RFC 9112 §3.2.2)."""
_JSON: Final = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready when there is no reason not to be. `details` is shown either way."""

    reasons: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return not self.reasons


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    content_type: str = _JSON
    status: HTTPStatus = HTTPStatus.OK

    def events(self, *, with_body: bool) -> list[h11.Event]:
        headers = [("Content-Type", self.content_type), ("Content-Length", str(len(self.body)))]
        headers.append(("Connection", "close"))
        head = h11.Response(status_code=self.status, reason=self.status.phrase, headers=headers)
        return [head, *([h11.Data(self.body)] if with_body else []), h11.EndOfMessage()]


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
        self._address = address
        self._readiness = readiness
        self._pages: dict[str, Callable[[], _Answer]] = {
            "/healthz": lambda: _json({"healthy": True}),
            "/readyz": self._readyz,
            "/metrics": lambda: _Answer(metrics.exposition(registry), metrics.CONTENT_TYPE),
        }
        for path, view in (views or {}).items():
            self._pages[path] = functools.partial(_shown, view)
        self._server: asyncio.Server | None = None
        self._generation: sockets.Generation | None = None
        self._exchanges: dict[asyncio.Task[None], None] = {}

    @property
    def is_lost(self) -> bool:
        """Whether nobody finds these pages any more, nor another's in their place."""
        return self._generation is not None and self._generation.is_lost

    async def start(self) -> None:
        """Raises InputError for an address that is none, EnvironmentFault where it cannot be had."""
        await self.listen()
        self.switch()

    async def listen(self) -> None:
        """All of `start` that may fail. At a path nobody finds this server yet, but still the one before."""
        if not self._address:
            return
        self._server = await (self._at_path() if page_address.is_path(self._address) else self._at_port())

    def switch(self) -> None:
        """The rest of it."""
        if self._generation:
            self._generation.switch()

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        if self._exchanges:
            _, late = await asyncio.wait(self._exchanges, timeout=_LAST_EXCHANGES_S)
            for exchange in late:
                exchange.cancel()
        if self._generation:
            self._generation.remove()
            self._generation = None

    async def _at_path(self) -> asyncio.Server:
        self._generation = sockets.Generation(self._address.removeprefix("unix:"))
        self._generation.clear()
        listener = sockets.listen(self._generation.own)
        self._generation.prepare()
        return await asyncio.start_unix_server(self._serve, sock=listener)

    async def _at_port(self) -> asyncio.Server:
        host, port = page_address.split_host_port(self._address)
        try:
            return await asyncio.start_server(self._serve, host, port)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {self._address}: {error.strerror}", hint="see http_socket"
            ) from error

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._exchanges) >= MAX_CONNECTIONS:
            oldest = next(iter(self._exchanges))
            del self._exchanges[oldest]
            oldest.cancel()
        exchange = asyncio.get_running_loop().create_task(self._exchange(reader, writer))
        self._exchanges[exchange] = None
        # Not in the exchange itself: one that is cancelled before its first step never gets there.
        exchange.add_done_callback(lambda done: self._ended(done, writer))

    def _ended(self, exchange: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._exchanges.pop(exchange, None)
        writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        with contextlib.suppress(OSError, EOFError):  # a TimeoutError is an OSError
            async with asyncio.timeout(EXCHANGE_S):
                try:
                    request = await _request(connection, reader)
                    answer, with_body = self._answer(request), request.method != b"HEAD"
                except h11.RemoteProtocolError as error:
                    answer, with_body = _refusal(HTTPStatus(error.error_status_hint)), True
                for event in answer.events(with_body=with_body):
                    writer.write(connection.send(event) or b"")
                writer.close()
                await writer.wait_closed()

    def _answer(self, request: h11.Request) -> _Answer:
        if request.method not in (b"GET", b"HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        return self._page(_path(request.target.decode()))

    def _page(self, path: str) -> _Answer:
        page = self._pages.get(path)
        if page is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        try:
            return page()
        except Exception as error:  # noqa: BLE001 - a bug in what is shown must not end what shows it
            log.failure("a page failed", error, page=path)
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _readyz(self) -> _Answer:
        state = self._readiness()
        body = {"ready": state.ready, "reasons": list(state.reasons), **state.details}
        return _json(body, HTTPStatus.OK if state.ready else HTTPStatus.SERVICE_UNAVAILABLE)


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    """Raises h11.RemoteProtocolError for one that is none, EOFError where none comes."""
    while not isinstance(event := connection.next_event(), h11.Request):
        if event is not h11.NEED_DATA:
            raise EOFError
        connection.receive_data(await reader.read(_READ_BYTES))
    return event


def _path(target: str) -> str:
    return _HOST.sub("", target, count=1).partition("?")[0]


def _shown(view: Callable[[], object]) -> _Answer:
    return _json(view())


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> _Answer:
    return _Answer(json.dumps(value).encode(), status=status)


def _refusal(status: HTTPStatus) -> _Answer:
    return _Answer(f"{status.value}: {status.phrase}\n".encode(), "text/plain", status)
