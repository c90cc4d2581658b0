"""Why a selector matches no pod although one seems to: policy sees not all labels, and not all pods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from acns.policy.cluster import Cluster
from acns.policy.objects import Pod
from acns.policy.selectors import K8S, Labels, Selector, is_identity_label, pod_labels


@dataclass(frozen=True, slots=True)
class Miss:
    """What sort of pod does not match, and what to do about it."""

    what: str
    hint: str


class Unseen:
    """What policy does not see of a cluster's pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._namespaces = {each.name: each.labels for each in cluster.namespaces}

    def miss(self, selector: Selector, hint: str) -> Miss:
        """Of a selector that matches no pod; `hint`: where none looks as if it did."""
        for pod, labels in self._without_address:
            if selector.matches(labels):
                return Miss("pod with an address of its own", f"{pod.key} has none: {_why_not(pod)}")
        names = dict.fromkeys(each.key.name for each in selector.requirements)
        asked = [name for name in names if not is_identity_label(name)]
        for pod in self._cluster.pods if asked else ():
            left_out = [name for name in asked if name in pod.labels]
            if left_out and selector.matches(self._labels(pod, with_left_out=True)):
                hint = f"{pod.key} has {' and '.join(left_out)}, which is no part of identities"
                return Miss("pod as Cilium sees it", hint)
        return Miss("pod", hint)

    @cached_property
    def _without_address(self) -> list[tuple[Pod, Labels]]:
        return [(pod, self._labels(pod)) for pod in self._cluster.pods if not pod.is_endpoint]

    def _labels(self, pod: Pod, *, with_left_out: bool = False) -> Labels:
        inherited = {
            "kubernetes.io/metadata.name": pod.namespace,
            **self._namespaces.get(pod.namespace, {}),
        }
        labels = pod_labels(pod.labels, pod.namespace, pod.service_account, inherited)
        if not with_left_out:
            return labels
        own = ((K8S, key, value) for key, value in pod.labels.items())
        return Labels.of([*own, *labels.triples])


def _why_not(pod: Pod) -> str:
    if pod.host_network:
        return "it is on its node's network, and the entities host and remote-node mean such pods"
    return "it waits for one" if pod.pod_ip is None else f"it has finished (phase {pod.phase})"
