"""`/healthz`, `/readyz` and `/metrics` of an agent (and views of its own), on a unix socket or on a port.

Health means the event loop turns (the answer itself proves it); readiness is the agent's own judgement, with
the reasons where it is not ready, as JSON; 503 then. Asked rarely, it may compute its answer when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry

from acns.errors import EnvironmentFault, InputError
from acns.telemetry import metrics, sockets


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
        self._runner: web.AppRunner | None = None
        self._generation: sockets.Generation | None = None

    async def start(self) -> None:
        """Raises InputError for an address that is none, EnvironmentFault where it cannot be had."""
        if not self._address:
            return
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        try:
            await self._site(self._runner).start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        if self._generation:
            self._generation.remove()
            self._generation = None

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        for path in self._views:
            application.router.add_get(path, self._view)
        return application

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        if is_path(self._address):
            self._generation = sockets.Generation(_path(self._address))
            self._generation.clear()
            listener = sockets.listen(self._generation.own)
            self._generation.switch()
            return web.SockSite(runner, listener)
        host, port = split_host_port(self._address)
        return _Port(runner, host, port)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        state = self._readiness()
        body = {"ready": state.ready, "reasons": list(state.reasons), **state.details}
        return web.json_response(body, status=200 if state.ready else 503)

    async def _view(self, request: web.Request) -> web.Response:
        return web.json_response(self._views[request.path]())

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(self._registry), headers={"Content-Type": metrics.CONTENT_TYPE}
        )


class _Port(web.TCPSite):
    """A TCP site whose failure to bind says so in our words."""

    async def start(self) -> None:
        try:
            await super().start()
        except OSError as error:
            raise EnvironmentFault(
                f"cannot listen on {self.name}: {error.strerror}", hint="see http_socket"
            ) from error


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
