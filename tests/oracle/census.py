"""Which constructs of the policy language some manifests use: so that a test can show that it met them
all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .cluster import Cluster

PEERS = ("Endpoints", "CIDR", "CIDRSet", "Entities")
CONSTRUCTS = frozenset({
    "kind CiliumNetworkPolicy", "kind CiliumClusterwideNetworkPolicy", "kind NetworkPolicy",
    *(f"{prefix}{kind}" for prefix in ("to", "from") for kind in PEERS),
    *(f"{prefix}{kind} empty" for prefix in ("to", "from") for kind in PEERS),
    "toServices", "toFQDNs", "k8sService", "k8sServiceSelector", "matchName", "matchPattern",
    "egress", "ingress", "egressDeny", "ingressDeny", "empty rule", "empty section", "specs",
    "enableDefaultDeny on", "enableDefaultDeny off",
    "toPorts", "toPorts empty", "icmps", "icmps empty", "dns", "endPort", "named port", "port 0", "family",
    "protocol TCP", "protocol UDP", "protocol SCTP", "protocol ANY", "protocol absent",
    "In", "NotIn", "Exists", "DoesNotExist", "matchLabels", "selector empty", "reserved source", "k8s source",
    "any source", "no source", "namespace label", "labels of the namespace", "service account",
    "except", "cidrGroupRef", "cidrGroupSelector", "podSelector", "namespaceSelector", "ipBlock",
    "policyTypes",
    "enforcement default", "enforcement always", "enforcement never",
    *(f"entity {name}" for name in (
        "all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node", "kube-apiserver",
        "health", "init", "unmanaged", "ingress", "none",
    )),
})  # fmt: skip


def constructs(cluster: Cluster) -> set[str]:
    found = {f"enforcement {cluster.enforcement}"}
    for policy in cluster.policies():
        found.add(f"kind {policy['kind']}")
        body = {key: value for key, value in policy.items() if key in ("spec", "specs")}
        found |= set(_walk(body))
    return found & CONSTRUCTS


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _walk(each)
    if not isinstance(value, dict):
        return
    for key, inside in value.items():
        yield from _of(key, inside)
        yield from _walk(inside)


def _of(key: str, inside: Any) -> Iterator[str]:
    yield key
    match key, inside:
        case "egress" | "ingress" | "egressDeny" | "ingressDeny", list():
            yield "empty section" if not inside else key
            if {} in inside:
                yield "empty rule"
        case _, []:
            yield f"{key} empty"
        case "enableDefaultDeny", _:
            yield from (f"enableDefaultDeny {'on' if each else 'off'}" for each in inside.values())
        case "toEntities" | "fromEntities", _:
            yield from (f"entity {name}" for name in inside)
        case "operator", _:
            yield str(inside)
        case "ports", _:
            for port in inside:
                yield from _port(port)
        case (("toEndpoints" | "fromEndpoints"), _):
            if {} in inside:
                yield "selector empty"
        case "matchLabels", _:
            for label in inside:
                yield from _label(label)
        case "key", _:
            yield from _label(inside)


def _port(port: dict[str, Any]) -> Iterator[str]:
    yield f"protocol {port.get('protocol', 'absent')}"
    text = str(port.get("port", ""))
    if text and not text.isdigit():
        yield "named port"
    if text == "0":
        yield "port 0"


def _label(label: str) -> Iterator[str]:
    source, _, name = label.rpartition(":")
    yield f"{source or 'no'} source"
    if name == "io.kubernetes.pod.namespace":
        yield "namespace label"
    if name.startswith("io.cilium.k8s.namespace.labels."):
        yield "labels of the namespace"
    if name == "io.cilium.k8s.policy.serviceaccount":
        yield "service account"
