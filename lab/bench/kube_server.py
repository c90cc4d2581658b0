"""`python -m lab.bench.kube_server`: a synthetic API server for measurements; it knows one cluster by heart.

It answers lists in pages and watches with a steady stream of pod events, on loopback, and says on stdout when
it told which beacon. It is a process of its own, so that what it costs is not the shim's. It validates
nothing: `tests/e2e/kubernetes/standin_apiserver.py` is the one that behaves like a real server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

from aiohttp import web

from lab.bench.kube_cluster import KubeCluster, KubeScale, as_json

_FIRST_VERSION = 1_000
_TICK_S = 0.02
_KINDS = {
    "namespaces": ("Namespace", "v1"),
    "nodes": ("Node", "v1"),
    "pods": ("Pod", "v1"),
    "services": ("Service", "v1"),
    "endpointslices": ("EndpointSlice", "discovery.k8s.io/v1"),
    "networkpolicies": ("NetworkPolicy", "networking.k8s.io/v1"),
    "ciliumnetworkpolicies": ("CiliumNetworkPolicy", "cilium.io/v2"),
    "ciliumclusterwidenetworkpolicies": ("CiliumClusterwideNetworkPolicy", "cilium.io/v2"),
    "ciliumcidrgroups": ("CiliumCIDRGroup", "cilium.io/v2"),
}


class KubeServer:
    """`start` begins the stream; before, watches get bookmarks only."""

    def __init__(self, scale: KubeScale) -> None:
        self._scale = scale
        self._cluster = KubeCluster(scale)
        self._lists = {
            plural: [as_json(value, _FIRST_VERSION) for value in values]
            for plural, values in self._cluster.lists().items()
        }
        self._started = asyncio.Event()
        self._version = _FIRST_VERSION

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/start", self._start)
        application.router.add_get("/{path:.*}", self._answer)
        return application

    async def _start(self, request: web.Request) -> web.Response:
        self._started.set()
        return web.Response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        plural = request.path.rpartition("/")[2]
        if plural not in _KINDS:
            return web.Response(status=404, text="404 page not found\n")
        if request.query.get("watch"):
            return await self._watch(request, plural)
        return self._page(plural, int(request.query.get("continue", "0")), int(request.query["limit"]))

    def _page(self, plural: str, first: int, limit: int) -> web.Response:
        kind, api_version = _KINDS[plural]
        items = self._lists[plural]
        metadata: dict[str, Any] = {"resourceVersion": str(self._version)}
        if first + limit < len(items):
            metadata["continue"] = str(first + limit)
        head = json.dumps({"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata})
        body = head[:-1].encode() + b',"items":[' + b",".join(items[first : first + limit]) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):  # the shim is stopped first
            if plural == "pods":
                await self._started.wait()
                await self._stream(answer)
            while True:
                await asyncio.sleep(30)
                await answer.write(self._line("BOOKMARK", plural, {"metadata": {}}))
        return answer

    async def _stream(self, answer: web.StreamResponse) -> None:
        """Events at the rate, in ticks."""
        stream, began, sent = self._cluster.stream(), time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self._scale.events_per_s)
            for _ in range(due - sent):
                told = next(stream)
                self._version += 1
                await answer.write(self._line(told.type, "pods", told.value))
                if told.beacon:
                    print(json.dumps({"beacon": self._version, "at": time.time()}), flush=True)
            sent = due
            await asyncio.sleep(_TICK_S)

    def _line(self, type: str, plural: str, value: dict[str, Any]) -> bytes:
        kind, api_version = _KINDS[plural]
        item = as_json(value, self._version, kind, api_version)
        return b'{"type":"' + type.encode() + b'","object":' + item + b"}\n"


async def _serve(scale: KubeScale) -> None:
    runner = web.AppRunner(KubeServer(scale).application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(KubeScale(**json.loads(sys.argv[1]))))
