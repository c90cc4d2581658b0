"""Which pods a selector selects: Cilium's identity labels and its EndpointSelector.

Facts from Cilium: a pod's identity carries its own labels, its namespace, its namespace's labels, its
service account and the cluster's name, all with source `k8s`; what a pod says about itself under
`io.cilium.k8s` does not count (pkg/k8s/utils SanitizePodLabels). A key without a source in a selector
means any source. A selector of a namespaced policy means pods of that namespace unless it speaks of
namespaces itself; of a clusterwide one, pods of any (pkg/k8s/apis/cilium.io/utils getEndpointSelector).
Label selectors never select anything but pods, except by `reserved:` labels (cilium/cilium#46996).
"""

from __future__ import annotations

from typing import Any

from .cluster import Cluster, Manifest

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
CLUSTER = "io.cilium.k8s.policy.cluster"
OURS = "io.cilium.k8s."

Labels = dict[str, str]  # "source:key" → value


def of_pod(cluster: Cluster, pod: Manifest) -> Labels:
    """The labels of its identity."""
    meta = pod["metadata"]
    labels = {
        f"k8s:{key}": value for key, value in meta.get("labels", {}).items() if not key.startswith(OURS)
    }
    for namespace in cluster.kind("Namespace"):
        if namespace["metadata"]["name"] == meta["namespace"]:
            for key, value in namespace["metadata"].get("labels", {}).items():
                labels[f"k8s:{NAMESPACE_LABELS}{key}"] = value
    labels[f"k8s:{NAMESPACE}"] = meta["namespace"]
    if account := pod["spec"].get("serviceAccountName"):  # static pods have none
        labels[f"k8s:{SERVICE_ACCOUNT}"] = account
    labels[f"k8s:{CLUSTER}"] = "default"
    return labels


def values(labels: Labels, key: str) -> list[str]:
    """The values that a key of a selector finds."""
    source, _, name = key.rpartition(":")
    if source in ("", "any"):
        return [value for label, value in labels.items() if label.split(":", 1)[1] == name]
    return [labels[key]] if key in labels else []


def matches(selector: dict[str, Any], labels: Labels) -> bool:
    """matchLabels and matchExpressions, all of them."""
    return all(
        value in values(labels, key) for key, value in selector.get("matchLabels", {}).items()
    ) and all(_expression(expression, labels) for expression in selector.get("matchExpressions", []))


def _expression(expression: dict[str, Any], labels: Labels) -> bool:
    found = values(labels, expression["key"])
    match expression["operator"]:
        case "In":
            return any(value in expression["values"] for value in found)
        case "NotIn":  # Kubernetes: a label that is not there is in no set
            return not any(value in expression["values"] for value in found)
        case "Exists":
            return bool(found)
        case "DoesNotExist":
            return not found
    raise AssertionError(expression)


def keys(selector: dict[str, Any]) -> list[str]:
    """Every key that the selector speaks of."""
    return [*selector.get("matchLabels", {}), *(one["key"] for one in selector.get("matchExpressions", []))]


def names_a_namespace(selector: dict[str, Any]) -> bool:
    """Whether the author chose namespaces, so that the policy's own is not meant."""
    bare = [key.removeprefix("k8s:").removeprefix("any:") for key in keys(selector)]
    return any(key == NAMESPACE or key.startswith(NAMESPACE_LABELS) for key in bare)


def is_reserved(selector: dict[str, Any]) -> bool:
    return any(key.startswith("reserved:") for key in keys(selector))
