"""The lab in which policies turn over: who is in it, what is always open, what is edited, who tries whom."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Literal

import yaml

from lab.runtime.lab import Lab
from lab.spec.topology import Topology

from .. import cluster_dns
from .turnover import Flow, Label, Material, Permit, Place, Policy, State

STEADY_PORT, EDITED_PORT, SHUT_PORT = 7001, 7002, 8001
"""What the kept policies are about; what edits are about; what no policy ever opens."""
STEADY_COPIES = 7
"""Connections of each flow that is always allowed: they come to two hundred."""
ZONE = "shop.example"
KEPT_NAMES = tuple(f"kept{number}.{ZONE}" for number in range(4))
OTHER_NAMES = tuple(f"other{number}.{ZONE}" for number in range(4))
ADDRESSES = {name: f"198.51.100.{10 + number}" for number, name in enumerate(KEPT_NAMES + OTHER_NAMES)}
NAMELESS = "203.0.113.40"
CLIENTS = ("c0", "c1", "c2", "c3", "c4")
LATE = "late"
"""A client that is no pod of the cluster at first."""
SERVERS = ("s0", "s1", "s2")
GATED: Label = ("gated", "yes")
SERVER: Label = ("role", "server")
TEAMS, COLORS = ("red", "blue"), ("green", "black")
PROTOCOLS: tuple[Literal["TCP"], Literal["UDP"]] = ("TCP", "UDP")

LABELS: Mapping[str, frozenset[Label]] = {
    **{pod: frozenset({GATED, ("app", pod), ("team", TEAMS[n % 2])}) for n, pod in enumerate(CLIENTS)},
    **{pod: frozenset({SERVER, ("app", pod), ("color", COLORS[n % 2])}) for n, pod in enumerate(SERVERS)},
}
COMERS: Mapping[str, frozenset[Label]] = {
    LATE: frozenset({GATED, ("app", LATE), ("team", "blue")}),
    "s2": LABELS["s2"],
}


def kept(name: str, *permits: Permit) -> Policy:
    return Policy(name, GATED, "egress", permits)


def to_name(name: str) -> Permit:
    return Permit("name", name, STEADY_PORT, STEADY_PORT)


TO_SERVERS = Permit("pods", "role=server", STEADY_PORT, STEADY_PORT)
KEPT_FORMS = (
    (kept("kept", *map(to_name, KEPT_NAMES), TO_SERVERS),),
    (kept("kept", TO_SERVERS, Permit("pattern", f"kept*.{ZONE}", STEADY_PORT, STEADY_PORT)),),
    (kept("kept-names", *map(to_name, reversed(KEPT_NAMES))), kept("kept-servers", TO_SERVERS)),
    (
        kept("kept-servers", TO_SERVERS),
        kept("kept-tcp", *(Permit("name", name, 7000, STEADY_PORT, "TCP") for name in KEPT_NAMES)),
        kept("kept-udp", *(Permit("name", name, 6990, STEADY_PORT, "UDP") for name in KEPT_NAMES)),
    ),
)
GUARD = Policy("guard", SERVER, "ingress", (Permit("pods", "gated=yes", STEADY_PORT, STEADY_PORT),))
FIRST = State({one.name: one for one in (*KEPT_FORMS[0], GUARD)}, LABELS)

DNS = f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: dns, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{gated: "yes"}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{"k8s:io.kubernetes.pod.namespace": kube-system, k8s-app: kube-dns}}
    toPorts:
    - ports: [{{port: "53", protocol: ANY}}]
      rules: {{dns: [{{matchPattern: "*.{ZONE}"}}]}}
"""
"""In force all the time: gated pods are restricted in every state."""

MATERIAL = Material(
    subjects=(GATED, ("team", "red"), ("team", "blue"), ("app", "c0")),
    egress_peers=(
        *(("name", name) for name in OTHER_NAMES),
        ("pattern", f"*.{ZONE}"),
        ("cidr", f"{NAMELESS}/32"),
        ("cidr", "203.0.113.32/27"),
        ("pods", "color=green"),
        ("pods", "color=black"),
        ("pods", "role=server"),
    ),
    ingress_subjects=(SERVER, ("color", "green"), ("color", "black")),
    ingress_peers=(("pods", "team=red"), ("pods", "team=blue"), ("pods", "app=c1"), ("pods", "gated=yes")),
    denied_peers=(
        ("cidr", f"{ADDRESSES[OTHER_NAMES[0]]}/32"),
        ("pods", "color=black"),
        ("cidr", "0.0.0.0/0"),
    ),
    port=EDITED_PORT,
    teams=TEAMS,
    colors=COLORS,
    clients=CLIENTS,
    servers=SERVERS,
    comers=COMERS,
    kept=KEPT_FORMS,
)


def topology() -> Topology:
    idle = [
        {"name": pod, "node": "node1", "labels": dict(labels)}
        for pod, labels in sorted({**LABELS, **COMERS}.items())
    ]
    names = {name: {"a": [address], "ttl_s": 3600} for name, address in ADDRESSES.items()}
    return Topology.model_validate(
        {
            "name": "turnover",
            "nodes": [{"name": "node1", "shim": {"settle_ms": 20}}],
            "pods": [*idle, cluster_dns.pod(program=cluster_dns.DNSMASQ)],
            "services": [cluster_dns.SERVICE],
            "internet": {"names": {**names, f"nameless.{ZONE}": {"a": [NAMELESS]}}},
            "policies": [{"inline": DNS}],
        }
    )


def flows(lab: Lab) -> list[Flow]:
    """Whoever may at some time reach somebody."""
    return [
        Flow(client, place, port, protocol)
        for client in (*CLIENTS, LATE)
        for place in places(lab)
        for port in (STEADY_PORT, EDITED_PORT)
        for protocol in PROTOCOLS
    ]


def shut_flows(lab: Lab) -> list[Flow]:
    """What no state allows: pods that are always restricted, to a port that no policy names."""
    return [
        Flow(client, place, SHUT_PORT, protocol)
        for client in CLIENTS
        for place in places(lab)
        for protocol in PROTOCOLS
    ]


def places(lab: Lab) -> list[Place]:
    outside = [Place(IPv4Address(address), name=name) for name, address in ADDRESSES.items()]
    pods = [Place(lab.pod(pod).address, pod=pod) for pod in SERVERS]
    return [*outside, Place(IPv4Address(NAMELESS)), *pods]


def copies(flow: Flow) -> int:
    """As many connections of a flow. Those that are always allowed are what two hundred are made of."""
    steady = flow.client in CLIENTS and flow.port == STEADY_PORT and flow.place.pod not in COMERS
    always = flow.place.name in KEPT_NAMES or flow.place.pod
    return STEADY_COPIES if steady and always and flow.protocol == "TCP" else 1


def pods_text(lab: Lab, state: State) -> str:
    """The lab's pods as this state has them: those that exist, with its labels."""
    pods = []
    for pod in yaml.safe_load_all(lab.order.manifests["pods.yaml"]):
        name = pod["metadata"]["name"]
        if name in state.labels:
            pods.append({**pod, "metadata": {**pod["metadata"], "labels": dict(state.labels[name])}})
        elif name not in LABELS and name not in COMERS:
            pods.append(pod)
    return yaml.safe_dump_all(pods, sort_keys=False)
