"""A Kubernetes source at work against the stand-in API server, and what has been observed of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from acns.policy.profiles import Profile
from acns.shim.sources import Observed
from acns.shim.sources.kubernetes import api
from acns.shim.sources.kubernetes.metrics import KubernetesMetrics
from acns.shim.sources.kubernetes.source import KubernetesSource
from tests.e2e.kubernetes.standin_apiserver import Request, StandInAPIServer

PATIENCE_S = 40.0
Value = dict[str, Any]


def pod(name: str, address: str = "10.244.1.9", **labels: str) -> Value:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name, **labels}},
        "spec": {"nodeName": "worker", "serviceAccountName": "default", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def policy(name: str = "web", host: str = "api.example.com", **more: Any) -> Value:
    return {
        "kind": "CiliumNetworkPolicy",
        "apiVersion": "cilium.io/v2",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "web"}},
            "egress": [{"toFQDNs": [{"matchName": host}], **more}],
        },
    }


def refused_policy(name: str = "web") -> Value:
    """An API server takes it; the profile acns does not."""
    http = [{"ports": [{"port": "80"}], "rules": {"http": [{"path": "/"}]}}]
    return policy(name, toPorts=http)


class Observing:
    """The observations so far."""

    def __init__(self, source: KubernetesSource, metrics: KubernetesMetrics) -> None:
        self.source = source
        self.metrics = metrics
        self.seen: list[Observed] = []
        self._news = asyncio.Event()

    async def collect(self) -> None:
        async for observed in self.source.watch():
            self.seen.append(observed)
            self._news.set()

    @property
    def now(self) -> Observed:
        return self.seen[-1]

    def names(self, kind: str) -> set[str]:
        return {one.name for one in self.now.objects if one.ref[0] == kind} if self.seen else set()

    def one(self, kind: str, name: str) -> Any:
        return next(each for each in self.now.objects if each.ref[0] == kind and each.name == name)

    def feed(self, plural: str) -> Any:
        return next(each.feed for each in self.source.watched if each.feed.resource.plural == plural)

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Waits for a condition on what was observed, or on how the feeds are doing."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted():
                await asyncio.sleep(0.01)

    async def begun(self) -> None:
        await self.until(lambda: bool(self.seen) and all(
            each.feed.state in ("followed", "absent") for each in self.source.watched
        ))  # fmt: skip


@contextlib.asynccontextmanager
async def observing(
    server: StandInAPIServer,
    tmp_path: Path,
    *,
    silence_s: float = 30.0,
    adopting: bool = False,
    profile: Profile = Profile.ACNS,
    authority: Path | None = None,
    token_file: Path | None = None,
    report_as: str = "",
) -> AsyncIterator[Observing]:
    path = server.kubeconfig(tmp_path / "kubeconfig", authority=authority, token_file=token_file)
    config = api.configuration(str(path), "")
    counted = KubernetesMetrics(CollectorRegistry())
    source = KubernetesSource(
        api.API(config, silence_s),
        profile,
        tmp_path / "kubernetes.log",
        counted,
        adopting=adopting,
        report_as=report_as,
    )
    made = Observing(source, counted)
    work = asyncio.create_task(made.collect())
    try:
        yield made
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def watches(server: StandInAPIServer, plural: str) -> list[Request]:
    return server.asked(lambda one: one.is_watch and one.path.endswith(plural))


def lists(server: StandInAPIServer, plural: str) -> list[Request]:
    return server.asked(lambda one: not one.is_watch and one.path.endswith(plural) and one.method == "GET")
