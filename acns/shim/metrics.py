"""What the shim counts as it happens; what it looks up when it is asked is in `readiness`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from acns.telemetry.metrics import Tally, new_registry


class ShimMetrics:
    """All of them, on a registry of their own."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = new_registry()
        self.acknowledgements = Tally(
            "acns_policy_acknowledgements",
            "Acknowledgements of policy snapshots: applied, refused, or about none that waits for one.",
            ("outcome",),
            registry=self.registry,
            known=(("applied",), ("refused",), ("unasked",)),
        )
        self.reports = Tally(
            "acns_mapping_reports",
            "Mappings and queries that resolvers reported, by the ResponseCode of the answer.",
            ("response",),
            registry=self.registry,
            known=(("NO_ERROR",), ("SERVER_FAILURE",), ("ERROR_ENDPOINT_NOT_FOUND",)),
        )
