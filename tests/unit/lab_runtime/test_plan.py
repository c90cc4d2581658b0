"""Addresses worked out from a topology."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from acns.errors import InputError
from lab.spec import plan
from lab.spec.plan import Addressing
from lab.spec.topology import Topology


def addressing(pods: list[dict[str, Any]], nodes: tuple[str, ...] = ("n1", "n2"), **more: Any) -> Addressing:
    value = {"name": "t", "nodes": [{"name": name} for name in nodes], "pods": pods, **more}
    return Addressing.of(Topology.model_validate(value))


def test_nodes_count_from_2_on_the_underlay_and_own_the_pod_network_of_their_number() -> None:
    first, second = addressing([]).nodes
    assert (first.address, str(first.pod_cidr), str(first.pod_gateway)) == (
        IPv4Address("172.18.0.2"),
        "10.244.0.0/24",
        "10.244.0.1",
    )
    assert (second.address, str(second.pod_cidr)) == (IPv4Address("172.18.0.3"), "10.244.1.0/24")
    assert (str(second.pod_cidr_v6), str(second.pod_gateway_v6)) == ("fd00:10:244:1::/64", "fd00:10:244:1::1")


def test_pods_get_addresses_from_2_up_in_the_files_order_around_those_that_are_given() -> None:
    found = addressing(
        [
            {"name": "a", "node": "n1"},
            {"name": "b", "node": "n1", "address": "10.244.0.3"},
            {"name": "c", "node": "n1"},
            {"name": "d", "node": "n2"},
        ]
    )
    assert [str(pod.address) for pod in found.pods] == [
        "10.244.0.2",
        "10.244.0.3",
        "10.244.0.4",
        "10.244.1.2",
    ]


def test_a_pods_two_addresses_end_alike() -> None:
    pod = addressing([{"name": "a", "node": "n2", "address": "10.244.1.30"}]).pod("a")
    assert pod.address_v6 == IPv6Address("fd00:10:244:1::1e")


def test_a_veths_name_depends_on_the_pods_name_alone_and_fits_the_kernels_15_bytes() -> None:
    name = plan.veth_name("default", "frontend")
    assert name == plan.veth_name("default", "frontend") != plan.veth_name("other", "frontend")
    assert name.startswith("veth")
    assert len(name) == 12


def test_a_pod_is_found_by_name_and_by_namespace_and_name() -> None:
    found = addressing([{"name": "a", "node": "n1"}, {"name": "a", "node": "n1", "namespace": "other"}])
    assert found.pod("other/a").namespace == "other"
    with pytest.raises(KeyError):  # ambiguous
        found.pod("a")
    with pytest.raises(KeyError):
        found.pod("b")


def test_the_internet_owns_every_address_of_its_names_once_and_its_dns_servers() -> None:
    names = {
        "a.example.com": {"a": ["198.51.100.1", "198.51.100.2"], "aaaa": ["2001:db8::1"]},
        "b.example.com": {"a": ["198.51.100.2"]},
    }
    found = addressing([], internet={"dns": "203.0.113.53", "names": names})
    assert [str(address) for address in found.internet] == ["203.0.113.53", "198.51.100.1", "198.51.100.2"]
    assert [str(address) for address in found.internet_v6] == ["2001:db8::1"]


def test_a_full_node_is_an_input_error_that_names_pod_and_node() -> None:
    pods = [{"name": f"p{number}", "node": "n1"} for number in range(254)]
    with pytest.raises(InputError, match=r"p253: node n1 has no address left in 10\.244\.0\.0/24"):
        addressing(pods)
