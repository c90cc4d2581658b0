"""What the API server says of the cluster itself, and a shim that does not serve where it may not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from acns.policy.profiles import Profile
from acns.shim import preflight
from acns.shim.preflight import NodeFacts
from tests.e2e.kubernetes.standin_apiserver import StandInAPIServer
from tests.unit.shim_sources.observing import lists, observing, pod


def node(name: str, *cidrs: str) -> dict[str, Any]:
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]},
    }


async def test_the_version_and_the_nodes_own_ranges_are_asked_for(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    server.put(node("worker", "10.244.1.0/24", "fd00:10:244:1::/64"))
    server.put(node("other", "10.244.0.0/24"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        facts = await seen.source.cluster_facts("worker")
    assert facts is not None
    assert facts.version == "v1.36.2"
    assert facts.pod_cidrs == (IPv4Network("10.244.1.0/24"), IPv6Network("fd00:10:244:1::/64"))
    (found,) = preflight.judge(NodeFacts(), facts, Profile.ACNS)
    assert "IPv6 pod addresses" in found.message


async def test_where_nodes_have_no_ranges_pods_there_show_the_families(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    """A CNI that hands addresses out itself leaves `spec.podCIDRs` empty."""
    bare = node("worker", "10.244.1.0/24")
    bare["spec"] = {}
    server.put(bare)
    elsewhere = pod("elsewhere", "10.0.0.8")
    elsewhere["spec"]["nodeName"] = "other"
    elsewhere["status"]["podIPs"].append({"ip": "fd00::8"})
    server.put(elsewhere)
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        facts = await seen.source.cluster_facts("worker")
        assert facts is not None
        assert preflight.judge(NodeFacts(), facts, Profile.ACNS) == []
        here = pod("here", "10.0.0.9")
        here["status"]["podIPs"].append({"ip": "fd00::9"})
        server.put(here)
        facts = await seen.source.cluster_facts("worker")
    assert facts is not None
    (found,) = preflight.judge(NodeFacts(), facts, Profile.ACNS)
    assert "IPv6 pod addresses (fd00::9)" in found.message
    assert not found.warning


def on_the_host(name: str, *addresses: str) -> dict[str, Any]:
    value = pod(name, addresses[0])
    value["spec"]["hostNetwork"] = True
    value["status"]["podIPs"] = [{"ip": each} for each in addresses]
    return value


async def test_pods_in_the_nodes_own_network_do_not_show_the_families(
    server: StandInAPIServer, tmp_path: Path
) -> None:
    """A node with two families, as clouds have them, may hold pods with one."""
    server.put({**node("worker", "10.244.1.0/24"), "spec": {}})
    for number in range(45):
        server.put(on_the_host(f"agent-{number:02}", "172.18.0.2", "fd00::2"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        facts = await seen.source.cluster_facts("worker")
        assert facts is not None
        assert facts.pod_addresses == ()
        server.put(pod("web", "10.0.0.9"))
        facts = await seen.source.cluster_facts("worker")
    assert facts is not None
    assert facts.pod_addresses == (IPv4Address("10.0.0.9"),)


@pytest.mark.parametrize("odd", [{"ip": "010.0.0.1"}, {}, {"ip": None}, {"ip": ""}])
async def test_what_is_no_address_in_a_pods_status_is_left_out(
    server: StandInAPIServer, tmp_path: Path, odd: dict[str, Any]
) -> None:
    web = pod("web", "10.0.0.9")
    web["status"]["podIPs"].insert(0, odd)
    server.put(node("worker", "10.244.1.0/24"))
    server.put(web)
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        facts = await seen.source.cluster_facts("worker")
    assert facts is not None
    assert facts.pod_addresses == (IPv4Address("10.0.0.9"),)


async def test_ranges_that_are_none_are_no_answer(server: StandInAPIServer, tmp_path: Path) -> None:
    server.put(node("worker", "010.244.1.0/24"))
    async with observing(server, tmp_path) as seen:
        await seen.until(lambda: bool(lists(server, "nodes")))
        assert await seen.source.cluster_facts("worker") is None


async def test_a_server_that_does_not_say_is_asked_again_later(
    server: StandInAPIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.put(node("worker", "10.244.1.0/24"))
    async with observing(server, tmp_path) as seen:
        await seen.begun()
        server.change(busy=1)
        assert await seen.source.cluster_facts("worker") is None
        server.change(busy=0, version="v1.28.4")
        facts = await seen.source.cluster_facts("worker")
    assert facts is not None
    (found,) = preflight.judge(NodeFacts(), facts, Profile.ACNS)
    assert "older than 1.29" in found.message
