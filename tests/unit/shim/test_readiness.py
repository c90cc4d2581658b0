"""What the shim says of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from acns.shim import readiness

STATUS = "cilium_policy_endpoint_enforcement_status"


def pod(egress: bool, ingress: bool) -> Any:
    return SimpleNamespace(
        egress=SimpleNamespace(enforced=egress), ingress=SimpleNamespace(enforced=ingress), dns=()
    )


@pytest.mark.parametrize(
    ("pods", "counts"),
    [
        ([], {"none": 0, "egress": 0, "ingress": 0, "both": 0}),
        (
            [pod(True, False), pod(True, True), pod(True, False)],
            {"none": 0, "egress": 2, "ingress": 0, "both": 1},
        ),
        ([pod(False, False), pod(False, True)], {"none": 1, "egress": 0, "ingress": 1, "both": 0}),
    ],
    ids=["no pod", "egress", "the others"],
)
def test_directions_that_no_pod_has_enforced_are_zero_and_not_missing(
    pods: list[Any], counts: dict[str, int]
) -> None:
    registry = CollectorRegistry()
    policy = SimpleNamespace(endpoints=pods)
    reconciler: Any = SimpleNamespace(
        outcome=SimpleNamespace(policy=policy), parts=SimpleNamespace(enforcer=SimpleNamespace(drifts=0))
    )
    learned: Any = SimpleNamespace(
        cache=SimpleNamespace(census=lambda now: SimpleNamespace(names=0, addresses=0, kept=0)),
        clock=lambda: 0.0,
        in_kernel=(),
        names_collected=0,
    )
    service: Any = SimpleNamespace(streams=0, streams_behind=0)
    readiness.register(registry, learned, reconciler, service)
    shown = {one: registry.get_sample_value(STATUS, {"enforcement": one}) for one in counts}
    assert shown == counts
