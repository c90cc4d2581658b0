"""Services and their EndpointSlices, as Kubernetes' controllers would write them for some pods."""

from __future__ import annotations

from typing import Any

from .choices import Chooser
from .cluster import Manifest

Port = dict[str, Any]


def services(
    choose: Chooser, pods: list[Manifest], outside: tuple[str, ...], nodes: list[str]
) -> list[Manifest]:
    """A web server and a DNS server before pods, one before what is outside, and that of the API."""
    made: list[Manifest] = []
    if choose.chance(2):
        ports = [{"name": "http", "port": choose.one(80, 443), "targetPort": choose.one(8080, 80, "web")}]
        namespace = choose.one("one", "one", "two")
        made += _before_pods(choose, "web", namespace, "10.96.0.20", {"app": "a"}, ports, pods)
    if not choose.chance(3):
        target = choose.one(53, 5353, "dns")
        ports = [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": target},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": target},
        ]
        chosen = dict(choose.one((("app", "b"),), (("tier", "a"),), (("app", "b"), ("tier", "b"))))
        made += _before_pods(
            choose, "dns", choose.one("one", "one", "two"), "10.96.0.10", chosen, ports, pods
        )
    if choose.chance(3):
        addresses = choose.several(1, 2, *outside)
        made += _before_addresses(
            "outer", "one", "10.96.0.30", addresses, {"name": "", "port": 443, "targetPort": 443}
        )
        made[-1]["endpoints"][0]["conditions"]["ready"] = not choose.chance(6)
    if choose.chance(3):
        address = choose.one(*nodes, outside[-1])
        port = {"name": "https", "port": 443, "targetPort": 8080}
        made += _before_addresses("kubernetes", "default", "10.96.0.1", [address], port)
    return made


def _before_pods(
    choose: Chooser,
    name: str,
    namespace: str,
    address: str,
    selector: dict[str, str],
    ports: list[Port],
    pods: list[Manifest],
) -> list[Manifest]:
    made = [_service(name, namespace, address, ports, selector)]
    for pod in pods:
        meta, spec, status = pod["metadata"], pod["spec"], pod["status"]
        selected = meta["namespace"] == namespace and selector.items() <= meta["labels"].items()
        if selected and status["phase"] == "Running" and not spec.get("hostNetwork"):
            numbers = [_slice_port(port, number) for port in ports if (number := _number(pod, port))]
            if numbers:
                ready = not choose.chance(12)
                made.append(_slice(name, namespace, meta["name"], [status["podIP"]], numbers, ready))
    return made


def _number(pod: Manifest, port: Port) -> int:
    """What `targetPort` means in this pod; 0: nothing."""
    target = port["targetPort"]
    if isinstance(target, int):
        return target
    for one in pod["spec"]["containers"][0].get("ports", []):
        if one["name"] == target and one.get("protocol", "TCP") == port.get("protocol", "TCP"):
            return int(one["containerPort"])
    return 0


def _before_addresses(
    name: str, namespace: str, address: str, addresses: list[str], port: Port
) -> list[Manifest]:
    numbers = [_slice_port(port, port["targetPort"])]
    return [
        _service(name, namespace, address, [port], {}),
        _slice(name, namespace, "1", addresses, numbers),
    ]


def _slice_port(port: Port, number: int) -> Port:
    return {"name": port["name"], "port": number, "protocol": port.get("protocol", "TCP")}


def _service(
    name: str, namespace: str, address: str, ports: list[Port], selector: dict[str, str]
) -> Manifest:
    spec: dict[str, Any] = {"clusterIP": address, "ports": ports}
    if selector:
        spec["selector"] = selector
    meta = {"name": name, "namespace": namespace, "labels": {"kind": "inner" if selector else "outer"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def _slice(
    service: str, namespace: str, name: str, addresses: list[str], ports: list[Port], ready: bool = True
) -> Manifest:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{name}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": addresses, "conditions": {"ready": ready}}],
        "ports": ports,
    }
