"""What `/readyz` and `/metrics` say of the shim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry

from acns.fqdn.cache import Census
from acns.policy.model import EndpointPolicy
from acns.shim.learned import Learned
from acns.shim.reconciler import Outcome, Reconciler
from acns.shim.service import FQDNDataService
from acns.shim.snapshot import identity_number
from acns.shim.sources import Source
from acns.telemetry import http, metrics


class Readiness:
    """Ready: the newest objects are in the kernel, and every pod of the node has its interface."""

    def __init__(self, reconciler: Reconciler, service: FQDNDataService, source: Source) -> None:
        self.reconciler = reconciler
        self.service = service
        self.source = source

    def __call__(self) -> http.Readiness:
        outcome = self.reconciler.outcome
        details: dict[str, object] = {
            "policy_streams": self.service.streams,
            "policy_streams_behind": self.service.streams_behind,
            "source": self.source.described(),
        }
        if outcome is None:
            nothing = self.reconciler.failure or "no policy committed yet"
            return http.Readiness((nothing, *self.source.obstacles), details)
        findings = self.reconciler.parts.findings
        details["manifests"] = dict(outcome.versions)
        details["problems"] = [str(problem) for problem in findings.problems]
        details["errors"] = sum(not problem.warning for problem in findings.problems)
        details["problems_pending"] = findings.pending
        details["endpoints"] = dict(self._endpoints(outcome))
        reasons = [f"pod {key} has no interface yet" for key in outcome.waiting]
        if self.reconciler.failure:
            reasons.append(self.reconciler.failure)
        return http.Readiness(tuple(reasons), details)

    def _endpoints(self, outcome: Outcome) -> Iterator[tuple[str, Mapping[str, object]]]:
        for one in outcome.policy.endpoints:
            yield (
                one.endpoint.key,
                {
                    "address": str(one.endpoint.address),
                    "id": self.reconciler.parts.ledger.endpoints.number(one.endpoint.key),
                    "identity": identity_number(one.endpoint.identity, self.reconciler.parts.ledger),
                    "enforced": enforced(one),
                },
            )


def enforced(policy: EndpointPolicy) -> str:
    """The directions that are enforced: `none`, `egress`, `ingress` or `both`."""
    match policy.egress.enforced, policy.ingress.enforced:
        case True, True:
            return "both"
        case True, False:
            return "egress"
        case False, True:
            return "ingress"
    return "none"


def enforcement(policies: Iterable[EndpointPolicy]) -> Mapping[str, int]:
    """How many pods have which directions enforced; 0 for what none has, or its last value would stay."""
    none_yet = dict.fromkeys(("none", "egress", "ingress", "both"), 0)
    return none_yet | Counter(map(enforced, policies))


def register(
    registry: CollectorRegistry, learned: Learned, reconciler: Reconciler, service: FQDNDataService
) -> None:
    """Gauges and counts, under Cilium's names where the meaning is Cilium's; all are in `docs/metrics.md`."""
    cache, enforcer = learned.cache, reconciler.parts.enforcer

    def policies() -> Sequence[EndpointPolicy]:
        return reconciler.outcome.policy.endpoints if reconciler.outcome else ()

    def census() -> Census:
        return cache.census(learned.clock())

    for name, documentation, read in (
        ("cilium_fqdn_active_names", "Names with an address whose TTL runs.", lambda: census().names),
        ("cilium_fqdn_active_ips", "Addresses of names whose TTL runs.", lambda: census().addresses),
        (
            "cilium_fqdn_alive_zombie_connections",
            "Addresses past their TTL that stay for a live connection to their name.",
            lambda: census().kept,
        ),
        ("cilium_fqdn_selectors", "FQDN selectors in use.", lambda: len(learned.in_kernel)),
        ("cilium_endpoint", "Pods of this node.", lambda: len(policies())),
        ("acns_policy_streams", "Policy streams served now.", lambda: service.streams),
        (
            "acns_policy_streams_behind",
            "Policy streams that have not acknowledged the newest snapshot.",
            lambda: service.streams_behind,
        ),
    ):
        metrics.Reading(name, documentation, read, registry=registry)
    for name, documentation, read in (
        ("cilium_fqdn_gc_deletions", "Names gone at collections.", lambda: learned.names_collected),
        ("acns_kernel_drifts", "Changes of the table by somebody else, undone.", lambda: enforcer.drifts),
    ):
        metrics.CountReading(name, documentation, read, registry=registry)
    metrics.LabelledReading(
        "cilium_policy_endpoint_enforcement_status",
        "Pods by the directions in which policy is enforced: none, egress, ingress, both.",
        "enforcement",
        lambda: enforcement(policies()),
        registry=registry,
    )
    metrics.LabelledReading(
        "cilium_proxy_redirects",
        "Pods some of whose queries are redirected.",
        "protocol",
        lambda: {"dns": sum(bool(one.dns) for one in policies())},
        registry=registry,
    )
