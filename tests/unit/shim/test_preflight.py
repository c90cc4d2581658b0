"""On which nodes the shim does not start, and why: by the facts of a recorded node and of others."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault
from acns.policy.profiles import Profile
from acns.shim import preflight
from acns.shim.preflight import ClusterFacts, Link, NodeFacts

DATA = Path(__file__).parents[2] / "data" / "kind-node"
PODS = IPv4Network("10.244.1.0/24")
CLUSTER = ClusterFacts("v1.36.2", (PODS,))


def recorded(rules: str = "kube-proxy-nftables.txt") -> NodeFacts:
    """The worker of a kind cluster as `ip` and `nft` (or iptables-save) showed it."""
    shown = json.loads((DATA / "links.json").read_text())
    on_link = [route for route in shown["routes"] if route["dst"] != "default" and "gateway" not in route]
    links = tuple(
        Link(
            one["ifname"],
            frozenset(
                a for info in one["addr_info"] if isinstance(a := ip_address(info["local"]), IPv4Address)
            ),
            networks=frozenset(IPv4Network(r["dst"]) for r in on_link if r["dev"] == one["ifname"]),
        )
        for one in shown["links"]
    )
    return NodeFacts(links, tables_of((DATA / rules).read_text()))


def tables_of(text: str) -> dict[str, Collection[str]]:
    found: dict[str, set[str]] = {}
    table = ""
    for line in text.splitlines():
        if head := re.match(r"table \w+ (\S+) \{|\*(\w+)$", line):
            table = head[1] or head[2]
            found.setdefault(table, set())
        elif chain := re.match(r"\tchain (\S+) \{|:(\S+) ", line):
            found[table].add(chain[1] or chain[2])
    return dict(found)


@pytest.mark.parametrize("rules", ["kube-proxy-nftables.txt", "kube-proxy-iptables.txt"])
@pytest.mark.parametrize("profile", list(Profile))
def test_a_kind_node_is_suitable_with_kube_proxy_in_either_mode(rules: str, profile: Profile) -> None:
    facts = recorded(rules)
    assert len(facts.links) == 8
    assert any("KUBE" in chain or "service" in chain for chains in facts.tables.values() for chain in chains)
    assert preflight.judge(facts, CLUSTER, profile) == []


def with_link(link: Link) -> NodeFacts:
    return replace(recorded(), links=(*recorded().links, link))


def with_table(name: str, *chains: str, kindnet_pods: bool = False) -> NodeFacts:
    tables = dict(recorded().tables)
    tables[name] = {*tables.get(name, ()), *chains}
    return replace(recorded(), tables=tables, kindnet_pods=kindnet_pods)


UNSUITABLE = {
    "Cilium's link": (with_link(Link("cilium_host")), "Cilium enforces policy.*cilium_host"),
    "Cilium's chains": (with_table("filter", "CILIUM_FORWARD"), "Cilium enforces policy"),
    "Calico's chains": (with_table("filter", "cali-FORWARD"), "Calico enforces"),
    "Calico with nftables": (with_table("calico"), "Calico enforces"),
    "kube-router": (with_table("filter", "KUBE-POD-FW-ABCDEF"), "kube-router enforces"),
    "Azure NPM": (with_table("filter", "AZURE-NPM"), "Azure NPM enforces"),
    "kindnet with work to do": (with_table(preflight.KINDNET, kindnet_pods=True), "kindnet enforces"),
    "a bridge": (with_link(Link("cni0", bridge=True, networks=frozenset({PODS}))), "behind the bridge cni0"),
    "node-local DNS": (
        with_link(Link("nodelocaldns", frozenset({preflight.NODE_LOCAL_DNS}))),
        "node-local DNS runs",
    ),
}


@pytest.mark.parametrize("case", sorted(UNSUITABLE))
def test_a_node_where_policy_would_only_seem_enforced_is_refused_with_the_reason(case: str) -> None:
    facts, reason = UNSUITABLE[case]
    found = preflight.judge(facts, CLUSTER, Profile.CILIUM)
    with pytest.raises(EnvironmentFault, match=reason) as raised:
        preflight.tolerated(found, "refuse")
    assert raised.value.hint
    assert raised.value.exit_code == 3
    assert preflight.tolerated(found, "warn") == found


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        (ClusterFacts("v1.28.9", (PODS,)), "older than 1.29"),
        (ClusterFacts("v1.36.2", (PODS, IPv6Network("fd00:10:244::/64"))), "IPv6 pod addresses"),
    ],
)
def test_what_acns_does_not_support_is_refused_by_its_profile_and_warned_of_by_the_other(
    cluster: ClusterFacts, reason: str
) -> None:
    with pytest.raises(EnvironmentFault, match=reason):
        preflight.tolerated(preflight.judge(recorded(), cluster, Profile.ACNS), "refuse")
    (found,) = preflight.tolerated(preflight.judge(recorded(), cluster, Profile.CILIUM), "refuse")
    assert found.warning


@pytest.mark.parametrize("version", ["v1.29.0", "v1.29.0-rc.1", "1.30+", "v2.0.0", "v1.100.1-gke.5"])
def test_newer_versions_are_taken_however_they_are_written(version: str) -> None:
    assert preflight.judge(recorded(), ClusterFacts(version, (PODS,)), Profile.ACNS) == []


def test_a_version_that_nobody_understands_is_warned_of() -> None:
    (found,) = preflight.judge(recorded(), ClusterFacts("mainline", (PODS,)), Profile.ACNS)
    assert found.warning


def test_a_bridge_of_something_else_is_no_obstacle_and_idle_kindnet_is_a_warning() -> None:
    docker = Link("docker0", bridge=True, networks=frozenset({ip_network("172.17.0.0/16")}))  # type: ignore[arg-type]
    assert preflight.judge(with_link(docker), CLUSTER, Profile.ACNS) == []
    (found,) = preflight.judge(with_table(preflight.KINDNET), CLUSTER, Profile.ACNS)
    assert found.warning
    assert preflight.judge(with_link(Link("cni0", bridge=True)), None, Profile.ACNS)


def test_all_that_is_in_the_way_is_said_at_once() -> None:
    facts = replace(with_link(Link("cilium_net")), tables=with_table("x", "cali-y").tables)
    with pytest.raises(EnvironmentFault, match=r"Cilium.*Calico"):
        preflight.tolerated(preflight.judge(facts, None, Profile.ACNS), "refuse")
