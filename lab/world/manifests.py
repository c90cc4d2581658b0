"""The lab as Kubernetes objects: what `kubectl get -o yaml` would print of it.

The shims read this folder as the only truth about the cluster, so it says what an API server would say
and nothing that only a lab knows: IPv4 alone (the pods' IPv6 addresses exist to be refused), Services
with their ClusterIPs, the endpoints that the endpoint controller would work out. One file per kind, one
for each policy under its own name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from acns import located, scalars, textfile
from lab.spec import inline
from lab.spec.plan import Addressing, NodePlan, PodPlan
from lab.spec.topology import DNSProgram, Pod, Service, ServicePort, Topology, WebProgram
from lab.world import pod_files
from lab.world.services import Backends, backends, namespaces, target_port

Manifest = dict[str, Any]
Place = tuple[str, str, str]
"""An object's kind, namespace ("" where the kind has none) and name."""
CREATED = "2026-01-01T00:00:00Z"
"""One moment for everything: manifests must not change when nothing did."""

_Dumper: Any = scalars.as_kubernetes_is_told(getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def manifest_files(topology: Topology, addressing: Addressing) -> dict[str, str]:
    """File name → YAML text for a shim's manifests folder, policies included; the same on every node."""
    planned = zip(topology.pods, addressing.pods, strict=True)
    services = backends(topology, addressing)
    objects = {
        "namespaces.yaml": _text(_namespace(name) for name in namespaces(topology)),
        "nodes.yaml": _text(_node(node) for node in addressing.nodes),
        "pods.yaml": _text(_pod(pod, plan, addressing.node(pod.node)) for pod, plan in planned),
        "services.yaml": _text(_service(service) for service in topology.services),
        "endpointslices.yaml": _text(_slice(item) for item in services),
    }
    # The shim reports an empty file as a mistake, and of a person's it may be one.
    return {name: text for name, text in objects.items() if text} | policy_files(topology)


def policy_files(topology: Topology) -> dict[str, str]:
    """The topology's policies, byte for byte, so that a line number means the author's file."""
    files = {}
    for index, policy in enumerate(topology.policies):
        if policy.file is not None:
            files[Path(policy.file).name] = textfile.read(Path(policy.file))
        elif policy.inline is not None:
            files[inline.file_name(index)] = policy.inline
    return files


def places(text: str) -> frozenset[Place]:
    """Of the objects in a file that is YAML; none of one that is not."""
    try:
        found = list(yaml.load_all(text, Loader=located.Loader))
    except yaml.YAMLError:
        return frozenset()
    return frozenset(place(one) for one in found if _is_object(one))


def _is_object(value: object) -> bool:
    match value:
        case {"kind": str(), "metadata": {"name": str()}}:
            return True
    return False


def place(item: Mapping[str, Any]) -> Place:
    """As an API server takes a manifest."""
    kind, metadata = item["kind"], item["metadata"]
    namespace = "" if "Clusterwide" in kind else metadata.get("namespace") or "default"
    return kind, namespace, metadata["name"]


def _text(manifests: Iterable[Manifest]) -> str:
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, explicit_start=True)


def _object(kind: str, name: str, namespace: str | None, labels: dict[str, str], **parts: Any) -> Manifest:
    metadata: Manifest = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata["creationTimestamp"] = CREATED
    if labels:
        metadata["labels"] = dict(labels)
    version = "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}


def _namespace(name: str) -> Manifest:
    labels = {"kubernetes.io/metadata.name": name}
    return _object("Namespace", name, None, labels, status={"phase": "Active"})


def _node(node: NodePlan) -> Manifest:
    labels = {"kubernetes.io/arch": "amd64", "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"}
    addresses = [
        {"type": "InternalIP", "address": str(node.address)},
        {"type": "Hostname", "address": node.name},
    ]
    spec = {"podCIDR": str(node.pod_cidr), "podCIDRs": [str(node.pod_cidr)]}
    return _object("Node", node.name, None, labels, spec=spec, status={"addresses": addresses})


def _pod(pod: Pod, plan: PodPlan, node: NodePlan) -> Manifest:
    address, host = str(plan.address), str(node.address)
    container: Manifest = {"name": "app", "image": f"lab/{pod.program.kind if pod.program else 'idle'}"}
    if ports := _container_ports(pod):
        container["ports"] = ports
    spec: Manifest = {
        "containers": [container],
        "dnsPolicy": pod_files.dns_policy(pod),
        "nodeName": pod.node,
        "serviceAccountName": pod.service_account,
    }
    if config := pod_files.dns_config(pod):
        spec["dnsConfig"] = config
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": CREATED,
    }
    return _object("Pod", pod.name, pod.namespace, pod.labels, spec=spec, status=status)


def _container_ports(pod: Pod) -> list[Manifest]:
    if isinstance(pod.program, WebProgram):
        listed = (("http", pod.program.http_port, "TCP"), ("https", pod.program.https_port, "TCP"))
    elif isinstance(pod.program, DNSProgram):
        listed = (("dns", pod.program.port, "UDP"), ("dns-tcp", pod.program.port, "TCP"))
    else:
        return []
    return [{"name": name, "containerPort": port, "protocol": protocol} for name, port, protocol in listed]


def _service(service: Service) -> Manifest:
    address = str(service.cluster_ip)
    ports = [
        {"name": p.name, "protocol": p.protocol, "port": p.port, "targetPort": target_port(p)}
        for p in service.ports
    ]
    spec = {
        "clusterIP": address,
        "clusterIPs": [address],
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": ports,
        "selector": dict(service.selector),
        "sessionAffinity": "None",
        "type": "ClusterIP",
    }
    status: Manifest = {"loadBalancer": {}}
    return _object("Service", service.name, service.namespace, {}, spec=spec, status=status)


def _slice(item: Backends) -> Manifest:
    service = item.service
    labels = {
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": service.name,
    }
    return _object(
        "EndpointSlice",
        f"{service.name}-{hashlib.sha256(item.key.encode()).hexdigest()[:5]}",
        service.namespace,
        labels,
        addressType="IPv4",
        endpoints=[_endpoint(pod) for pod in item.pods],
        ports=[_slice_port(port) for port in service.ports],
    )


def _endpoint(pod: PodPlan) -> Manifest:
    return {
        "addresses": [str(pod.address)],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": pod.node,
        "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace},
    }


def _slice_port(port: ServicePort) -> Manifest:
    return {"name": port.name, "port": target_port(port), "protocol": port.protocol}
