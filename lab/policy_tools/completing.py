"""What a cluster's controllers would have filled into manifests that a person wrote by hand.

Pods get an address from a range that is nobody's and the service account `default`, Services get the
EndpointSlices that the endpoint controller would make of their selectors. What is there is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

from acns.policy.objects import EndpointSlice, Object, Pod, Service, ServicePort, SliceEndpoint, SlicePort

_FIRST = int(IPv4Address("240.0.0.1"))
"""Class E: nobody has such an address."""


def completed(objects: Iterable[Object]) -> list[Object]:
    """The objects, and what follows from them."""
    found = [_with_account(each) if isinstance(each, Pod) else each for each in _placed(objects)]
    pods = [each for each in found if isinstance(each, Pod) and each.is_endpoint]
    sliced = {(each.namespace, each.service) for each in found if isinstance(each, EndpointSlice)}
    bare = [
        each
        for each in found
        if isinstance(each, Service) and each.selector and (each.namespace, each.name) not in sliced
    ]
    return [*found, *(one for service in bare for one in _slices(service, pods))]


def made_up(objects: Iterable[Object]) -> list[str]:
    """The pods that `completed` gives an address."""
    return [each.key for each in objects if isinstance(each, Pod) and _lacks_address(each)]


def _placed(objects: Iterable[Object]) -> Iterator[Object]:
    given = 0
    for each in objects:
        if isinstance(each, Pod) and _lacks_address(each):
            yield replace(each, pod_ip=IPv4Address(_FIRST + given))
            given += 1
        else:
            yield each


def _with_account(pod: Pod) -> Pod:
    """As the API server admits it."""
    return pod if pod.service_account else replace(pod, service_account="default")


def _lacks_address(pod: Pod) -> bool:
    return pod.pod_ip is None and not pod.host_network and pod.phase not in ("Succeeded", "Failed")


def _slices(service: Service, pods: Iterable[Pod]) -> Iterator[EndpointSlice]:
    """One for each set of numbers that the target ports come to: named ones differ from pod to pod."""
    selected = (
        pod
        for pod in pods
        if pod.namespace == service.namespace and service.selector.items() <= pod.labels.items()
    )
    by_ports: dict[tuple[SlicePort, ...], list[Pod]] = {}
    for pod in selected:
        by_ports.setdefault(tuple(_ports(service, pod)), []).append(pod)
    for number, (ports, members) in enumerate(by_ports.items()):
        endpoints = tuple(
            SliceEndpoint((pod.pod_ip,), node_name=pod.node_name) for pod in members if pod.pod_ip
        )
        yield EndpointSlice(
            service.namespace, f"{service.name}-{number}", service.name, endpoints, ports, service.place
        )


def _ports(service: Service, pod: Pod) -> Iterator[SlicePort]:
    for port in service.ports:
        if (number := _number(port, pod)) is not None:
            yield SlicePort(port.name, port.protocol, number)


def _number(port: ServicePort, pod: Pod) -> int | None:
    """None: the pod has no port of that name, so it is no backend of this one."""
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    named = (
        one.port for one in pod.named_ports if (one.name, one.protocol) == (port.target_port, port.protocol)
    )
    return next(named, None)
