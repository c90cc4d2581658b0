"""What the resolver counts. Names are Cilium's where the meaning is; no label holds a pod's words.

`docs/metrics.md` has them all; a test compares.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from acns.telemetry.metrics import BareTally, Tally, Times, new_registry

UDP: Final = "udp"
TCP: Final = "tcp"
SERVICE, PORT, DESCRIPTORS = "service", "port", "descriptors"
"""Why a query was not asked as its pod."""
IGNORED: Final = (
    *("unknown_id", "wrong_server", "wrong_port", "other-question", "not-an-answer", "malformed"),
    *("late", "duplicate", "no_room"),
)
"""Kinds of packets at upstream sockets that are no answer; late: the query was given up before; no_room: too
many of its pod's were not looked at yet."""

MAPPED: Final = (
    *("committed", "refused", "failed", "taken_over"),
    *("queued", "replayed", "expired", "overflowed"),
)
"""What becomes of mappings: when they are told first, and when they had to wait."""


class ResolverMetrics:
    """All of them, on a registry of their own."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = new_registry()
        self._about_queries(self.registry)
        self._about_tcp(self.registry)
        self._about_waiting(self.registry)
        self._about_the_agent(self.registry)
        self.bugs = Tally(
            "acns_unexpected_errors", "Errors that only a bug of ours explains.", registry=self.registry
        )

    def _about_queries(self, registry: CollectorRegistry) -> None:
        self.queries = Tally(
            "acns_dns_queries",
            "Queries of pods by transport and verdict: forward, or why they were not.",
            ("transport", "verdict"),
            registry=registry,
        )
        self.answers = Tally(
            "acns_dns_answers",
            "Answers to pods by transport and outcome (learned, taken-over, plain, servfail, …).",
            ("transport", "outcome"),
            registry=registry,
        )
        self.ignored = Tally(
            "acns_dns_answers_ignored",
            "Packets at upstream sockets that answer no query of ours, by kind.",
            ("kind",),
            registry=registry,
            known=tuple((kind,) for kind in IGNORED),
        )
        self.over_budget = Tally(
            "acns_dns_over_budget",
            "Queries and connections past a pod's budget, by transport and kind of budget.",
            ("transport", "kind"),
            registry=registry,
            known=(
                *((UDP, kind) for kind in ("rate", "pressed", "new_names", "in_flight")),
                *((TCP, kind) for kind in ("rate", "new_names", "in_flight", "connections")),
            ),
        )
        self.not_transparent = Tally(
            "acns_dns_not_transparent",
            "Queries over UDP, and connections, asked from the node's address, as a Service may stand before "
            "their server, a program of the node has the pod's port, or (UDP) descriptors are short.",
            ("reason",),
            registry=registry,
            known=((SERVICE,), (PORT,), (DESCRIPTORS,)),
        )

    def _about_tcp(self, registry: CollectorRegistry) -> None:
        self.tcp_refused = Tally(
            "acns_dns_tcp_refused",
            "TCP connections closed at once, or at what cannot be a query, by reason.",
            ("reason",),
            registry=registry,
            known=(("limit",), ("direct",), ("garbage",), ("descriptors",)),
        )
        self.tcp_timeouts = Tally(
            "acns_dns_tcp_timeouts",
            "TCP connections closed for idling.",
            ("reason",),
            registry=registry,
            known=(("idle",), ("stuck",)),
        )

    def _about_waiting(self, registry: CollectorRegistry) -> None:
        self.upstream_reply_s = Times(
            "cilium_proxy_upstream_reply_seconds",
            "Seconds waited for the DNS server (upstreamTime) or the shim's commit (dataplaneTime).",
            ("error", "protocol_l7", "scope"),
            registry=registry,
        )
        self.upstream_time = self.upstream_reply_s.labels("allow", "dns", "upstreamTime")
        self.upstream_timeout = self.upstream_reply_s.labels("timeout", "dns", "upstreamTime")
        self.upstream_error = self.upstream_reply_s.labels("proxyErr", "dns", "upstreamTime")
        self.commit_time = self.upstream_reply_s.labels("allow", "dns", "dataplaneTime")
        self.update_timeout = Tally(
            "cilium_proxy_datapath_update_timeout",
            "Commits of the shim that took too long: the answer leaves, or takeover commits.",
            registry=registry,
        )

    def _about_the_agent(self, registry: CollectorRegistry) -> None:
        self.mapping_errors = BareTally(
            "standalone_dns_proxy_fqdn_mapping_sync_errors",
            "Mappings that the agent refused or confirmed too late (request), or no connection.",
            ("error",),
            registry=registry,
            known=(("mapping_sync_request",), ("mapping_sync_connection",)),
        )
        self.agent_errors = BareTally(
            "standalone_dns_proxy_cilium_agent_connection_errors",
            "Connections to the agent that brought no policy.",
            ("error",),
            registry=registry,
            known=(("open_policy_stream",),),
        )
        self.stream_errors = BareTally(
            "standalone_dns_proxy_retrieve_dns_rules_errors",
            "Policy streams that ended, after at least one snapshot.",
            ("error",),
            registry=registry,
            known=(("policy_stream_recv",),),
        )
        self.mappings = Tally(
            "acns_mappings",
            "Mappings by what became of them (committed, refused, queued, taken_over, failed, replayed, …).",
            ("outcome",),
            registry=registry,
            known=tuple((outcome,) for outcome in MAPPED),
        )
        self.snapshots = Tally(
            "acns_policy_snapshots",
            "Policy snapshots received.",
            ("outcome",),
            registry=registry,
            known=(("applied",), ("refused",), ("restored",)),
        )
