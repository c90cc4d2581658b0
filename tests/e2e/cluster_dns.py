"""The cluster's DNS in topologies that tests write: its pod, and the Service before it."""

from __future__ import annotations

from typing import Any, Final

SERVICE: Final[dict[str, Any]] = {
    "name": "kube-dns",
    "namespace": "kube-system",
    "cluster_ip": "10.96.0.10",
    "selector": {"k8s-app": "kube-dns"},
    "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ],
}
DNSMASQ: Final = {"kind": "dnsmasq"}


def pod(node: str = "node1", **more: Any) -> dict[str, Any]:
    """`more`: its `address`; its `program`, without which the test itself answers."""
    labels = {"k8s-app": "kube-dns"}
    return {"name": "kube-dns", "namespace": "kube-system", "node": node, "labels": labels, **more}
