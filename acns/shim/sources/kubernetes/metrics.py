"""What the Kubernetes source counts, and what is looked up of it when asked."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from acns.shim.sources.kubernetes.feeds import Feed, State
from acns.telemetry import metrics
from acns.telemetry.metrics import Tally


class KubernetesMetrics:
    """On the shim's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.events = Tally(
            "acns_kubernetes_watch_events",
            "Events of watches, by resource and type.",
            ("resource", "type"),
            registry=registry,
        )
        self.failures = Tally(
            "acns_kubernetes_failures",
            "Lists, watches and writes that failed, by resource and kind of trouble.",
            ("resource", "trouble"),
            registry=registry,
        )
        self.writes = Tally(
            "acns_kubernetes_writes",
            "What was written to the API server: conditions and events about policies.",
            ("what",),
            registry=registry,
        )

    def register(self, feeds: Iterable[Feed]) -> None:
        """Gauges of these feeds."""
        known = tuple(feeds)
        metrics.LabelledReading(
            "acns_kubernetes_followed",
            "Whether a resource is followed (or known to be absent); 0: its last state is enforced.",
            "resource",
            lambda: {
                feed.resource.plural: int(feed.state in (State.FOLLOWED, State.ABSENT)) for feed in known
            },
            registry=self.registry,
        )
        metrics.LabelledReading(
            "acns_kubernetes_objects",
            "Objects known of a resource.",
            "resource",
            lambda: {feed.resource.plural: feed.objects for feed in known},
            registry=self.registry,
        )
        metrics.LabelledReading(
            "acns_kubernetes_heard_timestamp_seconds",
            "When the API server was last heard about a resource.",
            "resource",
            lambda: {feed.resource.plural: feed.heard_s for feed in known},
            registry=self.registry,
        )
