"""Manifests as people write them, completed as a cluster would."""

from __future__ import annotations

from ipaddress import IPv4Address

from acns.policy.objects import EndpointSlice, NamedPort, Object, Pod, Service, ServicePort
from lab.policy_tools import completing

WEB = Service(
    "default", "web", (IPv4Address("10.96.0.1"),), (ServicePort("http", "TCP", 80, "http"),), {"app": "web"}
)


def web(name: str, port: int, address: str | None = None) -> Pod:
    named = (NamedPort("http", "TCP", port),)
    place = None if address is None else IPv4Address(address)
    return Pod("default", name, {"app": "web"}, pod_ip=place, named_ports=named)


def slices(*objects: Object) -> set[tuple[str, int]]:
    return {
        (str(address), port.port)
        for each in completing.completed(objects)
        if isinstance(each, EndpointSlice)
        for port in each.ports
        for endpoint in each.endpoints
        for address in endpoint.addresses
    }


def test_a_pod_without_an_address_gets_one_that_is_nobodys() -> None:
    found = [
        each.pod_ip for each in completing.completed([web("a", 1), web("b", 1)]) if isinstance(each, Pod)
    ]
    assert found == [IPv4Address("240.0.0.1"), IPv4Address("240.0.0.2")]
    assert completing.made_up([web("a", 1), web("b", 1, "10.0.0.1")]) == ["default/a"]


def test_pods_that_have_an_address_or_need_none_stay_as_they_are() -> None:
    pods: list[Object] = [
        web("a", 1, "10.0.0.1"),
        Pod("default", "host", host_network=True),
        Pod("default", "done", phase="Failed"),
    ]
    assert completing.completed(pods) == pods


def test_a_pod_without_a_service_account_has_the_namespaces_default_one() -> None:
    address = IPv4Address("10.0.0.1")
    accounts = ("", "build")
    pods = [Pod("default", f"p{name}", pod_ip=address, service_account=name) for name in accounts]
    found = [each.service_account for each in completing.completed(pods) if isinstance(each, Pod)]
    assert found == ["default", "build"]


def test_a_service_gets_the_backends_that_its_selector_finds_each_at_its_own_port() -> None:
    others = Pod("other", "web", {"app": "web"}, pod_ip=IPv4Address("10.0.0.9"))
    found = slices(WEB, web("a", 8080, "10.0.0.1"), web("b", 9090, "10.0.0.2"), others)
    assert found == {("10.0.0.1", 8080), ("10.0.0.2", 9090)}


def test_a_pod_without_the_named_port_is_no_backend() -> None:
    assert slices(WEB, Pod("default", "bare", {"app": "web"}, pod_ip=IPv4Address("10.0.0.1"))) == set()


def test_slices_that_are_there_are_left_alone() -> None:
    there = EndpointSlice("default", "web-x", "web")
    assert slices(WEB, there, web("a", 8080, "10.0.0.1")) == set()
