"""Clusters and packets for hypothesis: small alphabets, so that labels, ports and addresses often meet.

Everything generated is valid for Cilium's language; a manifest that the product refuses is a finding. What is
drawn is plain manifests, so a counterexample can be reduced to a small file that can be applied as it stands.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .choices import Chooser, choosers
from .cluster import Cluster, Manifest, Packet
from .policy_strategies import dns_policy, policy
from .services import services

NODES = ("n1", "n2")
NAMESPACES = ("one", "two")
PORT_NAMES = ("web", "dns")
PORT_NUMBERS = (53, 80, 443, 444, 5353, 8080)
OUTSIDE = ("203.0.113.1", "203.0.113.5", "203.0.113.66", "198.51.100.1")
UNUSED = "10.0.1.77"  # inside a pod CIDR, nobody's
NAMES = ("a.example.com", "b.example.com", "a.b.example.com", "example.com", "a.test")


def node_address(node: str) -> str:
    return f"172.18.0.{11 + NODES.index(node)}"


def external_address(node: str) -> str:
    return f"192.0.2.{11 + NODES.index(node)}"


def gateway(node: str) -> str:
    return f"10.0.{1 + NODES.index(node)}.1"


def _node(name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDRs": [f"10.0.{1 + NODES.index(name)}.0/24"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": node_address(name)},
                {"type": "ExternalIP", "address": external_address(name)},
                {"type": "Hostname", "address": name},
            ]
        },
    }


def _namespace(name: str, team: str) -> Manifest:
    labels = {"kubernetes.io/metadata.name": name, **({"team": team} if team else {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _pod(choose: Chooser, index: int) -> Manifest:
    node = choose.one("n1", "n1", "n2")
    labels = {"app": choose.one("a", "b")}
    if choose.chance(2):
        labels["tier"] = choose.one("a", "b")
    if choose.chance(10):  # what a pod says about itself there does not count
        labels["io.cilium.k8s.namespace.labels.team"] = "x"
    container: dict[str, Any] = {"name": "main", "image": "pause"}
    if ports := _container_ports(choose):
        container["ports"] = ports
    spec: dict[str, Any] = {"nodeName": node, "containers": [container]}
    if account := choose.one("default", "default", "default", "builder", ""):
        spec["serviceAccountName"] = account
    phase = "Succeeded" if choose.chance(10) else "Running"
    address = f"10.0.{1 + NODES.index(node)}.{10 + index}"
    if choose.chance(40):  # it shares the node's address and is no endpoint
        spec["hostNetwork"], address = True, node_address(node)
    meta = {"name": f"p{index}", "namespace": choose.one("one", "one", "two"), "labels": labels}
    status = {"phase": phase, "podIP": address}
    if choose.chance(40):
        status = {"phase": "Pending"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def _container_ports(choose: Chooser) -> list[dict[str, Any]]:
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(choose.number(0, 3)):
        name, protocol = choose.one(*PORT_NAMES), choose.one("TCP", "UDP")
        port = {"name": name, "containerPort": choose.one(*PORT_NUMBERS)}
        made.setdefault((name, protocol), port if protocol == "TCP" else port | {"protocol": protocol})
    return list(made.values())


def _share_addresses(choose: Chooser, pods: list[Manifest]) -> None:
    """A finished pod's address is given out again; seldom two live pods claim one."""
    plain = [pod for pod in pods if not pod["spec"].get("hostNetwork") and "podIP" in pod["status"]]
    for old in plain:
        for new in plain:
            fitting = old["spec"]["nodeName"] == new["spec"]["nodeName"]
            if fitting and old["status"]["phase"] == "Succeeded" and new["status"]["phase"] == "Running":
                new["status"]["podIP"] = old["status"]["podIP"]
                return
    if len(plain) > 2 and choose.chance(8):
        plain[0]["status"]["podIP"] = plain[1]["status"]["podIP"]


GROUPS: tuple[Manifest, ...] = (
    {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "g1", "labels": {"grade": "a"}},
        "spec": {"externalCIDRs": ["203.0.113.0/29", "198.51.100.0/24"]},
    },
    {
        "apiVersion": "cilium.io/v2alpha1",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "g2", "labels": {"grade": "b"}},
        "spec": {"externalCIDRs": ["203.0.113.64/26", "10.0.0.0/8"]},
    },
)


def cluster_of(choose: Chooser) -> Cluster:
    """Two to six pods on one or two nodes, Services, CIDR groups, policies, learned names."""
    pods = [_pod(choose, index) for index in range(choose.number(2, 6))]
    _share_addresses(choose, pods)
    manifests = [_node(name) for name in NODES]
    manifests += [_namespace(name, choose.one("", "x", "y")) for name in NAMESPACES]
    manifests += [*pods, *services(choose, pods, OUTSIDE, [node_address(one) for one in NODES])]
    manifests += GROUPS[: choose.number(0, 2)]
    manifests += [policy(choose, index) for index in range(choose.number(1, 3))]
    if choose.chance(2):
        manifests.append(dns_policy(choose, 3))
    # A name may answer with the address of a pod or a node: that never opens anything.
    answers = (*OUTSIDE, node_address("n1"), "10.0.1.10")
    names = choose.several(0, 3, *NAMES)
    learned = {name: tuple(choose.several(1, 2, *answers)) for name in names}
    enforcement = choose.one(*("default",) * 18, "always", "never")
    return Cluster(tuple(manifests), enforcement, learned)


def packets(choose: Chooser, cluster: Cluster, node: str, number: int = 15) -> list[Packet]:
    """Packets that this node sees: from its pods to anywhere, from anywhere to its pods."""
    mine = tuple(sorted({pod["status"]["podIP"] for pod in _on(cluster, node)}))
    pods = sorted({pod["status"]["podIP"] for pod in cluster.kind("Pod") if "podIP" in pod["status"]})
    # Pods stand twice: most of what is generated is about them.
    nodes = (address(node) for node in NODES for address in (node_address, external_address, gateway))
    everywhere = (*pods, *pods, *OUTSIDE, *nodes, UNUSED)
    services = tuple(
        (address, port.get("protocol", "TCP"), port["port"], backend)
        for address, service, port in cluster.service_ports()
        for backend in cluster.backends(service, port)
    )
    found: dict[Packet, None] = {}
    for _ in range(number + 5):
        one = _packet(choose, mine, everywhere, services)
        if one.source != one.destination:  # to itself: it never leaves the pod
            found[one] = None
        if len(found) == number:
            break
    return list(found)


def _on(cluster: Cluster, node: str) -> list[Manifest]:
    return [pod for pod in cluster.endpoints() if pod["spec"]["nodeName"] == node]


ServicePort = tuple[str, str, int, tuple[str, int]]


def _packet(
    choose: Chooser, mine: tuple[str, ...], everywhere: tuple[str, ...], services: tuple[ServicePort, ...]
) -> Packet:
    local = choose.one(*mine)
    kind = choose.one("out", "in", "out", "in", "query", "query", *(("service",) * 3 if services else ()))
    if kind == "service":
        address, protocol, port, backend = choose.one(*services)
        if choose.chance(10):  # a port that the Service does not have: nobody translates it
            return Packet(local, address, protocol, port + 1)
        return Packet(local, address, protocol, port, backend, _asked(choose, backend[1]))
    other = choose.one(*everywhere)
    source, destination = (other, local) if kind == "in" else (local, other)
    if kind == "query":
        protocol, port = choose.one("UDP", "TCP"), choose.one(53, 53, 5353)
    else:
        protocol, port = _traffic(choose)
    return Packet(source, destination, protocol, port, None, _asked(choose, port))


def _traffic(choose: Chooser) -> tuple[str, int]:
    protocol = choose.one("TCP", "TCP", "TCP", "UDP", "UDP", "SCTP", "ICMP", "ICMP", "GRE")
    if protocol == "ICMP":
        return protocol, choose.one(8, 13)
    return protocol, 0 if protocol == "GRE" else choose.one(*PORT_NUMBERS, 8081, 65535)


def _asked(choose: Chooser, port: int) -> str:
    return choose.one(*NAMES) if port in (53, 5353) else ""


def cases(
    nodes: tuple[str, ...] = ("n1", "n1", "n2"),
) -> st.SearchStrategy[tuple[Cluster, str, list[Packet]]]:
    """A cluster, one of its nodes that has pods, and packets for it."""

    def case(choose: Chooser) -> tuple[Cluster, str, list[Packet]]:
        cluster = cluster_of(choose)
        inhabited = [node for node in nodes if _on(cluster, node)]
        if not inhabited:
            return cluster, nodes[0], []
        node = choose.one(*inhabited)
        return cluster, node, packets(choose, cluster, node)

    return choosers.map(case)
