"""Namespace, Node, Pod, Service and EndpointSlice: from manifest to value.

Real objects are large and grow with every release of Kubernetes: fields that decide nothing here pass unseen,
those that do are checked. Lists and mappings that the API server leaves `null` count as absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, TypeVar

from pydantic import AfterValidator

from acns.errors import Problem
from acns.located import Document, Path
from acns.policy import cidrs, profiles
from acns.policy.cidrs import CIDRText
from acns.policy.objects import (
    EndpointSlice,
    NamedPort,
    Namespace,
    Node,
    Place,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from acns.policy.profiles import Profile
from acns.policy.structure import Lenient, check, refuse

Item = TypeVar("Item")


def _is_address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        refuse(f"'{text}' is not an IP address")
    return text


Address = Annotated[str, AfterValidator(_is_address)]


class Metadata(Lenient):
    name: str
    namespace: str | None = None
    labels: dict[str, str] | None = None


class AnyObject(Lenient):
    metadata: Metadata


class _NodeAddress(Lenient):
    type: str = ""
    address: str


class _NodeStatus(Lenient):
    addresses: list[_NodeAddress] | None = None


class _NodeSpec(Lenient):
    podCIDR: CIDRText | None = None
    podCIDRs: list[CIDRText] | None = None


class _Node(AnyObject):
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


class _ContainerPort(Lenient):
    name: str | None = None
    containerPort: int
    protocol: str | None = None


class _Container(Lenient):
    ports: list[_ContainerPort] | None = None


class _PodSpec(Lenient):
    nodeName: str | None = None
    hostNetwork: bool | None = None
    serviceAccountName: str | None = None
    containers: list[_Container] | None = None


class _PodIP(Lenient):
    ip: Address


class _PodStatus(Lenient):
    podIP: Address | None = None
    podIPs: list[_PodIP] | None = None
    phase: str | None = None


class _Pod(AnyObject):
    spec: _PodSpec
    status: _PodStatus | None = None


class _ServicePort(Lenient):
    name: str | None = None
    protocol: str | None = None
    port: int
    targetPort: int | str | None = None


class _ServiceSpec(Lenient):
    clusterIP: str | None = None
    clusterIPs: list[str] | None = None
    ports: list[_ServicePort] | None = None
    selector: dict[str, str] | None = None


class _Service(AnyObject):
    spec: _ServiceSpec


class _Conditions(Lenient):
    ready: bool | None = None


class _Endpoint(Lenient):
    addresses: list[str] | None = None
    conditions: _Conditions | None = None
    nodeName: str | None = None


class _SlicePort(Lenient):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class _EndpointSlice(AnyObject):
    addressType: str
    endpoints: list[_Endpoint] | None = None
    ports: list[_SlicePort] | None = None


def read_namespace(document: Document, where: Path) -> tuple[Namespace | None, list[Problem]]:
    model, problems = check(AnyObject, document, where)
    if model is None:
        return None, problems
    return Namespace(model.metadata.name, model.metadata.labels or {}, place(document, where)), []


def read_node(document: Document, where: Path) -> tuple[Node | None, list[Problem]]:
    model, problems = check(_Node, document, where)
    if model is None:
        return None, problems
    texts = [each.address for each in _list((model.status or _NodeStatus()).addresses)]
    meta, spec = model.metadata, model.spec or _NodeSpec()
    # podCIDR is the first of podCIDRs, where an old object has only that.
    pod_cidrs = cidrs.ipv4(_list(spec.podCIDRs) or ([spec.podCIDR] if spec.podCIDR else []))
    return Node(meta.name, _ipv4(texts), meta.labels or {}, pod_cidrs, place(document, where)), []


def read_pod(document: Document, where: Path, profile: Profile) -> tuple[Pod | None, list[Problem]]:
    model, problems = check(_Pod, document, where)
    if model is None:
        return None, problems
    meta, spec, status = model.metadata, model.spec, model.status or _PodStatus()
    texts = [status.podIP] if status.podIP else []
    texts += [each.ip for each in status.podIPs or []]
    if _has_ipv6(texts) and (finding := profiles.dual_stack(profile, "Pod")):
        return None, [finding.problem(document, (*where, "status", "podIPs"))]
    return Pod(
        namespace=meta.namespace or "default",
        name=meta.name,
        labels=meta.labels or {},
        node_name=spec.nodeName or "",
        pod_ip=next(iter(_ipv4(texts)), None),
        phase=status.phase or "",
        host_network=bool(spec.hostNetwork),
        service_account=spec.serviceAccountName or "",
        named_ports=tuple(
            NamedPort(port.name, port.protocol or "TCP", port.containerPort)
            for container in _list(spec.containers)
            for port in _list(container.ports)
            if port.name
        ),
        place=place(document, where),
    ), []


def read_service(document: Document, where: Path, profile: Profile) -> tuple[Service | None, list[Problem]]:
    model, problems = check(_Service, document, where)
    if model is None:
        return None, problems
    meta, spec = model.metadata, model.spec
    texts = [*([spec.clusterIP] if spec.clusterIP else []), *_list(spec.clusterIPs)]
    texts = [text for text in texts if text not in ("", "None")]
    if bad := [text for text in texts if not _parses(text)]:
        return None, [document.problem((*where, "spec", "clusterIP"), f"'{bad[0]}' is not an IP address")]
    if _has_ipv6(texts) and (finding := profiles.dual_stack(profile, "Service")):
        return None, [finding.problem(document, (*where, "spec", "clusterIPs"))]
    ports = (
        ServicePort(port.name or "", port.protocol or "TCP", port.port, port.targetPort or port.port)
        for port in _list(spec.ports)
    )
    return Service(
        namespace=meta.namespace or "default",
        name=meta.name,
        cluster_ips=_ipv4(texts),
        ports=tuple(ports),
        selector=spec.selector or {},
        labels=meta.labels or {},
        place=place(document, where),
    ), []


def read_endpoint_slice(document: Document, where: Path) -> tuple[EndpointSlice | None, list[Problem]]:
    model, problems = check(_EndpointSlice, document, where)
    if model is None:
        return None, problems
    meta = model.metadata
    endpoints = [
        SliceEndpoint(
            _ipv4(_list(each.addresses)),
            # An absent condition means ready (EndpointConditions in discovery.k8s.io/v1).
            ready=each.conditions is None or each.conditions.ready is not False,
            node_name=each.nodeName or "",
        )
        for each in _list(model.endpoints)
    ]
    ports = (
        SlicePort(each.name or "", each.protocol or "TCP", each.port)
        for each in _list(model.ports)
        if each.port is not None
    )
    return EndpointSlice(
        namespace=meta.namespace or "default",
        name=meta.name,
        service=(meta.labels or {}).get("kubernetes.io/service-name", ""),
        # IPv4 only: slices of other address types have no endpoints here.
        endpoints=tuple(endpoints) if model.addressType == "IPv4" else (),
        ports=tuple(ports),
        place=place(document, where),
    ), []


def place(document: Document, where: Path) -> Place:
    at = document.position(where)
    return Place(at.path or document.path, at.line, at.column)


def _list(items: list[Item] | None) -> list[Item]:
    return items or []


def _parses(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _has_ipv6(texts: Iterable[str]) -> bool:
    return any(isinstance(_parses(text), IPv6Address) for text in texts)


def _ipv4(texts: Iterable[str]) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses among `texts`, each once, in order (a Node's addresses hold host names too)."""
    parsed = (_parses(text) for text in texts)
    return tuple(dict.fromkeys(address for address in parsed if isinstance(address, IPv4Address)))
