"""The cluster of the shim's contract tests, and its policies as a test changes them."""

from __future__ import annotations

from typing import Any

import yaml

from lab.runtime.lab import Lab

from .. import cluster_dns
from .peers import until

DNS_SERVICE, DNS_POD, INTERNET_DNS = "10.96.0.10", "10.244.0.53", "203.0.113.53"
POLICY_FILE = "inline-1.yaml"

KUBE_DNS = [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}}]


def dns_ports(*patterns: dict[str, str]) -> list[dict[str, Any]]:
    ports: dict[str, Any] = {"ports": [{"port": "53", "protocol": "ANY"}]}
    return [{**ports, "rules": {"dns": list(patterns)}}] if patterns else [ports]


def cnp(app: str, *egress: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, "egress": list(egress)},
    }


def client_policy(*names: str) -> dict[str, Any]:
    """May ask the cluster's DNS for these names and all under example.net, and go where they lead."""
    patterns = [*({"matchName": name} for name in names), {"matchPattern": "*.example.net"}]
    return cnp("client", {"toEndpoints": KUBE_DNS, "toPorts": dns_ports(*patterns)}, {"toFQDNs": patterns})


POLICIES = [
    client_policy("api.example.com"),
    # A plain rule to the same servers opens every name; the queries are still looked at.
    cnp(
        "open",
        {"toEndpoints": KUBE_DNS, "toPorts": dns_ports({"matchName": "api.example.com"})},
        {"toEndpoints": KUBE_DNS, "toPorts": dns_ports()},
    ),
    cnp("cidr", {"toCIDR": [f"{INTERNET_DNS}/32"], "toPorts": dns_ports({"matchName": "one.example.com"})}),
    cnp("world", {"toEntities": ["world"], "toPorts": dns_ports({"matchName": "all.example.com"})}),
]

TOPOLOGY: dict[str, Any] = {
    "name": "contract",
    "nodes": [
        {"name": "n1", "shim": {"profile": "cilium", "tcp_listen": "127.0.0.1:10095"}},
        {"name": "n2", "shim": {"profile": "cilium"}},
    ],
    "pods": [
        {"name": "a", "node": "n1", "labels": {"app": "client"}, "address": "10.244.0.2"},
        {"name": "b", "node": "n1", "labels": {"app": "client"}, "address": "10.244.0.3"},
        {"name": "open", "node": "n1", "labels": {"app": "open"}, "address": "10.244.0.4"},
        {"name": "cidr", "node": "n1", "labels": {"app": "cidr"}, "address": "10.244.0.5"},
        {"name": "world", "node": "n1", "labels": {"app": "world"}, "address": "10.244.0.6"},
        {"name": "free", "node": "n1", "labels": {"app": "free"}, "address": "10.244.0.7"},
        cluster_dns.pod("n1", address=DNS_POD),
    ],
    "services": [cluster_dns.SERVICE],
    "policies": [{"inline": yaml.safe_dump_all(POLICIES)}],
}


class Desk:
    """Writes policies for the node's shim and waits until they are in the kernel and published."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def write(self, *policies: dict[str, Any]) -> None:
        self._lab.write_manifest(POLICY_FILE, yaml.safe_dump_all(policies))
        until(self._is_read, "the shim has read its manifests")

    def remove(self) -> None:
        self._lab.remove_manifest(POLICY_FILE)
        until(self._is_read, "the shim has read its manifests")

    def restore(self) -> None:
        self.write(*POLICIES)

    def _is_read(self) -> bool:
        node = self._lab.node("n1")
        state = node.shim.http_get("/readyz").json()
        on_disk = {path.name: str(path.stat().st_mtime_ns) for path in node.manifests.glob("[!.]*.yaml")}
        return bool(state.get("manifests") == on_disk)
