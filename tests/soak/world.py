"""Where the soak takes place: one node, four pods with policies of their own, one without, and their names.

Every pod may always ask for what is one label below its own zone. What comes and goes with the edits: the
zone EXTRA, which several pods may have at once, and the exact names KEPT.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

import yaml

from lab.spec.topology import InternetName, Topology

PODS = ("alpha", "beta", "gamma", "delta")
FREE = "free"
"""No policy selects it."""
ROOT = "soak.example"
EXTRA = f"*.extra.{ROOT}"
KEPT = tuple(f"kept{number}.names.{ROOT}" for number in range(4))
DENIED, STRAY = f"denied.{ROOT}", f"stray.{ROOT}"
"""What is below these no policy ever allows; STRAY is asked of a server that nobody may ask."""
INTERNET_DNS = "203.0.113.53"
CLUSTER_DNS = "10.96.0.10"
PORT, OTHER_PORT = 80, 443
"""The names' policies are about the first alone."""
KNOWN_COUNT, ADDRESSES_EACH = 6, 4
TTL_S = 4
GC_S, GRACE_S = 1.0, 30.0
"""`fqdn_gc_interval_s`, `agent_down_grace_s` of the shim."""
_FIRST_KNOWN = int(IPv4Address("198.51.100.1"))


def zone(pod: str) -> str:
    return f"{pod}.{ROOT}"


def own(pod: str) -> str:
    """The selector that a pod has always."""
    return f"*.{zone(pod)}"


def known(pod: str) -> list[str]:
    """Names that are asked for again and again, with addresses that take turns."""
    return [f"known{number}.{zone(pod)}" for number in range(KNOWN_COUNT)]


def lasting_names() -> dict[str, InternetName]:
    """The names that exist all the time, each with addresses of its own."""
    names = [*(name for pod in (*PODS, FREE) for name in known(pod)), *KEPT]
    return {
        name: InternetName(
            a=tuple(
                IPv4Address(_FIRST_KNOWN + number * ADDRESSES_EACH + turn) for turn in range(ADDRESSES_EACH)
            ),
            ttl_s=TTL_S,
            rotate=True,
        )
        for number, name in enumerate(names)
    }


def base_file(pod: str) -> str:
    return f"{pod}.yaml"


def extra_file(pod: str) -> str:
    return f"{pod}-extra.yaml"


def policy_text(pod: str, selectors: Iterable[str], name: str = "") -> str:
    """A CiliumNetworkPolicy that lets the pod ask for names, and connect to them on PORT."""
    wanted = [{"matchPattern" if "*" in one else "matchName": one} for one in selectors]
    servers = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}
    dns_port = {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": wanted}}
    egress = [
        {"toEndpoints": [servers], "toPorts": [dns_port]},
        {"toFQDNs": wanted, "toPorts": [{"ports": [{"port": str(PORT), "protocol": "TCP"}]}]},
    ]
    return yaml.safe_dump(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name or pod, "namespace": "default"},
            "spec": {"endpointSelector": {"matchLabels": {"app": pod}}, "egress": egress},
        },
        sort_keys=False,
    )


def topology() -> Topology:
    clients = [{"name": pod, "node": "node1", "labels": {"app": pod}} for pod in (*PODS, FREE)]
    dns = {
        "name": "kube-dns",
        "namespace": "kube-system",
        "node": "node1",
        "labels": {"k8s-app": "kube-dns"},
        "program": {"kind": "dnsmasq"},
    }
    service = {
        "name": "kube-dns",
        "namespace": "kube-system",
        "cluster_ip": CLUSTER_DNS,
        "selector": {"k8s-app": "kube-dns"},
        "ports": [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")],
    }
    settings = {"fqdn_gc_interval_s": GC_S, "agent_down_grace_s": GRACE_S, "settle_ms": 20}
    return Topology.model_validate(
        {
            "name": "soak",
            "nodes": [{"name": "node1", "shim": settings, "resolver": {"upstream_timeout_ms": 3000}}],
            "pods": [*clients, dns],
            "services": [service],
            "internet": {
                "dns": INTERNET_DNS,
                "names": {name: value.model_dump(mode="json") for name, value in lasting_names().items()},
            },
        }
    )
