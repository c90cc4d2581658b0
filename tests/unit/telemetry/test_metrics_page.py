"""`docs/metrics.md` names every metric of both agents, with type, labels and meaning, and no other."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from acns.fqdn.cache import NameCache
from acns.resolver.privileged import Privileged
from acns.resolver.service import Service
from acns.resolver.settings import ResolverSettings
from acns.shim import readiness
from acns.shim.metrics import ShimMetrics
from acns.shim.sources.kubernetes.feeds import Feed
from acns.shim.sources.kubernetes.metrics import KubernetesMetrics
from acns.shim.sources.kubernetes.resources import PODS
from acns.telemetry.metrics import Tally

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `([a-z_0-9]+)` \| (\w+) \| ([^|]*) \| (.*) \|$", re.M)


class Row(NamedTuple):
    """A line of the page's tables. `labels` is empty for a metric without any."""

    name: str
    type: str
    labels: str
    meaning: str


def on_the_page(section: str) -> list[Row]:
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [Row(*row) for row in ROW.findall(text)]


def in_the_registry(registry: CollectorRegistry) -> list[Row]:
    """As it is scraped; of the metrics every process has, nothing."""
    rows = []
    for family in registry.collect():
        if family.name.startswith("process_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        kind = "untyped" if family.type == "unknown" else family.type
        rows.append(Row(name, kind, ", ".join(f"`{one}`" for one in labels), family.documentation))
    return sorted(rows)


def touch(metrics: object) -> None:
    """Have every counter say which labels it has."""
    for one in vars(metrics).values():
        if isinstance(one, Tally):
            one.add(*["x"] * len(one.labels))


async def test_the_page_has_every_metric_of_the_resolver_and_no_other() -> None:
    service = Service(ResolverSettings(http_socket=""), Privileged(socket.socket(), None))
    touch(service.metrics)
    assert on_the_page("Resolver") == in_the_registry(service.metrics.registry)


def test_the_page_has_every_metric_of_the_shim_and_no_other() -> None:
    metrics = ShimMetrics()
    learned: Any = SimpleNamespace(cache=NameCache(), clock=lambda: 0.0, in_kernel=(), names_collected=0)
    reconciler: Any = SimpleNamespace(
        outcome=SimpleNamespace(policy=SimpleNamespace(endpoints=[endpoint()])),
        parts=SimpleNamespace(enforcer=SimpleNamespace(drifts=0)),
    )
    service: Any = SimpleNamespace(streams=0, streams_behind=0)
    readiness.register(metrics.registry, learned, reconciler, service)
    touch(metrics)
    assert on_the_page("Shim") == in_the_registry(metrics.registry)


def test_the_page_has_every_metric_of_the_kubernetes_source_and_no_other() -> None:
    counted = KubernetesMetrics(CollectorRegistry())
    counted.register([Feed(PODS)])
    touch(counted)
    assert sorted(on_the_page("The shim, where its objects come from an API server")) == in_the_registry(
        counted.registry
    )


def endpoint() -> Any:
    direction = SimpleNamespace(enforced=True)
    return SimpleNamespace(egress=direction, ingress=direction, dns=())


def test_every_metric_of_the_page_has_a_name_of_ours_or_of_ciliums() -> None:
    rows = [*on_the_page("Resolver"), *on_the_page("Shim")]
    assert len(rows) > 25
    assert all(row.name.startswith(("acns_", "cilium_", "standalone_dns_proxy_")) for row in rows)
