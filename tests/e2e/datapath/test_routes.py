"""Finding a pod's interface, the routing rule on the mark, and the sysctls that would break both."""

from __future__ import annotations

import select
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from acns.datapath import routes
from acns.datapath.routes import Routes

pytestmark = pytest.mark.root

POD, REMOTE, ABSENT = IPv4Address("10.244.1.3"), IPv4Address("10.244.2.3"), IPv4Address("10.244.1.99")


@pytest.fixture
def table(alone: Any) -> Iterator[Routes]:
    made: Routes = alone.do(Routes)
    yield made
    made.close()


def test_a_pods_interface_is_the_one_its_own_route_names(alone: Any, table: Routes) -> None:
    alone.shell(
        "ip link add veth83ab05c1 type veth peer name x && ip link set veth83ab05c1 up && ip link set x up\n"
        f"ip route add {POD} dev veth83ab05c1 scope host\n"
        "ip addr add 172.18.0.2/24 dev x\n"
        f"ip route add {REMOTE} via 172.18.0.1 && ip route add 10.244.1.0/24 dev x\n"
        f"ip route add {ABSENT} dev x scope host table 77\n"
    )
    assert table.links().interfaces == {POD: "veth83ab05c1"}


def test_a_pod_at_the_first_address_of_a_network_is_not_taken_for_the_network(
    alone: Any, table: Routes
) -> None:
    alone.shell(
        "ip link add veth1 type veth peer name x && ip link set veth1 up && ip link set x up\n"
        "ip addr add 172.18.0.2/24 dev x\n"
        f"ip route add {POD} dev veth1 scope host\n"
        "ip route add 10.244.1.2/31 via 172.18.0.1 && ip route add 10.244.1.4/30 via 172.18.0.1\n"
        "ip route add 10.244.1.4 dev veth1 scope host\n"
    )
    assert table.links().interfaces == {POD: "veth1", IPv4Address("10.244.1.4"): "veth1"}


@pytest.mark.parametrize(("first", "expected"), [("veth1", "veth1"), ("y", "y"), ("", None)])
def test_of_several_routes_to_a_pod_the_one_that_packets_take_counts(
    alone: Any, table: Routes, first: str, expected: str | None
) -> None:
    """The kernel takes the one of the lowest metric; "" is through a gateway."""
    alone.shell(
        "for end in x y; do ip link add veth-$end type veth peer name peer-$end; done\n"
        "ip link set veth-x name veth1 && ip link set veth-y name y\n"
        "for link in veth1 y peer-x; do ip link set $link up; done\n"
        "ip addr add 172.18.0.2/24 dev peer-x\n"
        f"ip route add {POD} dev veth1 scope host metric {10 if first == 'veth1' else 20}\n"
        f"ip route add {POD} dev y scope host metric {10 if first == 'y' else 30}\n"
        f"ip route add {POD} via 172.18.0.1 metric {10 if not first else 40}\n"
    )
    assert table.links().interfaces.get(POD) == expected


def test_a_new_route_is_noticed(alone: Any, table: Routes) -> None:
    table.drain()
    assert not table.drain()
    alone.shell(f"ip route add {POD} dev lo scope host")
    assert select.select([table], [], [], 10)[0]
    assert table.drain()
    assert not select.select([table], [], [], 0)[0]


def test_the_route_to_the_resolver_is_made_once(alone: Any, table: Routes) -> None:
    assert table.ensure_proxy_route()
    assert not table.ensure_proxy_route()
    assert "fwmark 0x200/0xf00 lookup 2005" in alone.run("ip", "rule")
    assert alone.run("ip", "rule").startswith("0:\tfrom all lookup local\n9:\t")
    assert alone.run("ip", "route", "show", "table", "2005").startswith("local default dev lo")
    assert "dev lo" in alone.run("ip", "route", "get", "192.0.2.1", "mark", "0x200")


def test_half_of_it_is_completed(alone: Any, table: Routes) -> None:
    table.ensure_proxy_route()
    alone.run("ip", "rule", "del", "pref", "9")
    assert table.ensure_proxy_route()
    alone.run("ip", "route", "flush", "table", "2005")
    assert table.ensure_proxy_route()
    assert not table.ensure_proxy_route()


def test_sysctls_that_break_the_data_path_are_reported_with_the_remedy(alone: Any) -> None:
    alone.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    assert alone.do(routes.sysctl_problems) == []
    alone.run("sysctl", "-qw", "net.ipv4.conf.all.src_valid_mark=1", "net.ipv4.ip_forward=0")
    valid_mark, forward = alone.do(routes.sysctl_problems)
    assert "src_valid_mark=0" in valid_mark.hint
    assert not valid_mark.warning
    assert "ip_forward" in forward.message
