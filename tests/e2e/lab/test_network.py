"""The lab's network is a kind cluster's: addresses, routes, reach; nothing of it in the root namespace."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Address
from typing import Any

import pytest

from lab.runtime.handles import Inside
from lab.runtime.lab import Lab


def routes(inside: Inside) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(inside.run(["ip", "-j", "route"]).stdout)
    return found


def reaches(inside: Inside, host: str, port: int = 80) -> str:
    """Who answers there by HTTP: the server's own words."""
    url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    return inside.run(["curl", "-sS", "-m", "3", "-g", url]).stdout


def test_a_pod_has_the_routes_that_the_ptp_plugin_gives_it(lab: Lab) -> None:
    assert routes(lab.pod("a")) == [
        {"dst": "default", "gateway": "10.244.0.1", "dev": "eth0", "flags": []},
        {
            "dst": "10.244.0.0/24",
            "gateway": "10.244.0.1",
            "dev": "eth0",
            "prefsrc": "10.244.0.2",
            "flags": [],
        },
        {"dst": "10.244.0.1", "dev": "eth0", "scope": "link", "prefsrc": "10.244.0.2", "flags": []},
    ]


def test_a_node_has_a_host_route_per_pod_and_one_to_the_other_nodes_pods(lab: Lab) -> None:
    found = routes(lab.node("n1"))
    pods = [lab.pod("a"), lab.pod("b")]
    for pod in pods:
        assert {"dst": str(pod.address), "dev": pod.node_iface, "scope": "host", "flags": []} in found
    assert {"dst": "10.244.1.0/24", "gateway": "172.18.0.3", "dev": "eth0", "flags": []} in found
    assert {"dst": "default", "gateway": "172.18.0.1", "dev": "eth0", "flags": []} in found


def test_pods_reach_each_other_across_nodes_with_their_own_addresses(lab: Lab) -> None:
    assert "client: 10.244.0.2:" in reaches(lab.pod("a"), str(lab.pod("web").address))


def test_pods_reach_a_service_by_its_cluster_address(lab: Lab) -> None:
    assert "server: 10.244.1.2:80" in reaches(lab.pod("a"), "10.96.0.20")


def test_a_pod_behind_a_service_reaches_itself_through_it(lab: Lab) -> None:
    assert "server: 10.244.1.2:80" in reaches(lab.pod("web"), "10.96.0.20")


def test_pods_reach_the_internet_behind_their_nodes_address(lab: Lab) -> None:
    assert "client: 172.18.0.2:" in reaches(lab.pod("a"), "198.51.100.10")


@pytest.mark.parametrize("target", ["2001:db8::10", "fd00:10:244:1::2"])
def test_ipv6_reaches_the_internet_and_other_pods_from_the_first_moment(lab: Lab, target: str) -> None:
    assert "client: [fd00:10:244::2]" in reaches(lab.pod("a"), target)


def test_a_pod_sees_its_own_names_files_and_interfaces(lab: Lab) -> None:
    pod = lab.pod("other/b")
    assert pod.run(["hostname"]).stdout == "b\n"
    assert "10.244.0.3\tb" in pod.run(["cat", "/etc/hosts"]).stdout
    assert "nameserver 203.0.113.53\n" in pod.run(["cat", "/etc/resolv.conf"]).stdout
    assert "hosts: files dns" in pod.run(["cat", "/etc/nsswitch.conf"]).stdout
    assert set(pod.run(["ls", "/sys/class/net"]).stdout.split()) >= {"eth0", "lo"}


def test_a_nodes_kernel_parameters_are_those_of_a_kind_node(lab: Lab) -> None:
    expected = {
        "net.ipv4.ip_forward": "1",
        "net.ipv4.conf.all.rp_filter": "1",
        "net.ipv4.conf.eth0.rp_filter": "0",
        f"net.ipv4.conf.{lab.pod('a').node_iface}.rp_filter": "1",
        "net.ipv4.conf.all.src_valid_mark": "0",
        "net.ipv4.conf.all.route_localnet": "1",
        "net.netfilter.nf_conntrack_tcp_be_liberal": "1",
    }
    found = lab.node("n1").run(["sysctl", *expected]).stdout
    assert dict(line.split(" = ") for line in found.splitlines()) == expected


def test_nothing_of_a_lab_is_seen_from_the_root_namespace(lab: Lab) -> None:
    def output(*argv: str) -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    assert "lab-kube-proxy" in lab.node("n1").ruleset()
    assert lab.pod("a").node_iface not in output("ip", "link")
    assert "underlay" not in output("ip", "link")
    assert "lab-kube-proxy" not in output("nft", "list", "ruleset")
    assert lab.name not in output("ip", "netns", "list")
    assert str(lab.folder.path) not in output("findmnt", "-rn")


def test_a_new_name_works_at_once_with_an_address_the_internet_did_not_have(lab: Lab) -> None:
    from lab.spec.topology import InternetName

    names = {**lab.topology.internet.names, "new.example.com": InternetName(a=("198.51.100.99",))}
    lab.set_names(names)
    assert "server: 198.51.100.99:80" in reaches(lab.pod("a"), "198.51.100.99")


def test_any_number_of_addresses_is_no_interfaces_list_and_each_works(lab: Lab) -> None:
    """The kernel walks that list for each more, and no other program runs on its CPU meanwhile."""
    from lab.spec.topology import InternetName

    many = [str(IPv4Address("198.18.0.1") + number) for number in range(3_000)]
    names = {f"n{number}.example.com": InternetName(a=(address,)) for number, address in enumerate(many)}
    lab.set_names({**lab.topology.internet.names, **names})
    listed = lab.internet.run(["ip", "-4", "-oneline", "address", "show", "dev", "lo"]).stdout
    assert len(listed.splitlines()) == 1
    for address in (many[0], many[-1]):
        assert f"server: {address}:80" in reaches(lab.pod("a"), address)
