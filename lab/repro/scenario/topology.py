"""The lab that a scenario is run in: its nodes, its pods, its DNS servers; nobody who acts by itself.

DNS servers and whoever is connected to are the runner's own: what they say stands in the steps. Both ways of
running begin here, so that pods, addresses and policies are the same in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, Final

from acns.errors import InputError
from acns.policy import manifests
from acns.policy.cluster import Cluster
from acns.policy.objects import Object
from acns.policy.profiles import Profile
from lab.repro.scenario import packets
from lab.repro.scenario.model import Scenario, Server, endpoint
from lab.spec.plan import PODS, SERVICES, Addressing
from lab.spec.topology import Topology
from lab.world.manifests import manifest_files

DNS_PORT: Final = 53
_INTERNET_DNS: Final = ("203.0.113.53", "203.0.113.253")
"""The lab's own server on the Internet, which nobody here asks."""


def topology(scenario: Scenario) -> Topology:
    """Policies are left out: `policy_texts`."""
    inside = [server for server in scenario.servers if server.labels]
    pods = [
        {
            "name": pod.name,
            "namespace": pod.namespace,
            "node": scenario.node_of(pod),
            "labels": pod.labels,
            **({"address": str(pod.address)} if pod.address else {}),
        }
        for pod in scenario.pods
    ]
    places = outside(scenario)
    own = next(one for one in _INTERNET_DNS if IPv4Address(one) not in places)
    names = {"elsewhere.example.net": {"a": sorted(map(str, places))}} if places else {}
    value: dict[str, Any] = {
        "name": scenario.scenario[:40].rstrip("-"),
        "nodes": [
            {"name": name, "shim": scenario.shim, "resolver": scenario.resolver} for name in scenario.nodes
        ],
        "pods": [*pods, *(_server_pod(server, scenario.nodes[0]) for server in inside)],
        "services": list(map(_service, inside)),
        "internet": {"dns": own, "names": names},
    }
    return Topology.model_validate(value)


def policy_texts(scenario: Scenario) -> dict[str, str]:
    """File name → text, as they are at the start."""
    return {policy.name: policy.text for policy in scenario.policies}


def cluster(scenario: Scenario, policies: dict[str, str]) -> Cluster:
    """What the shim reads with these policies in its folder. Raises InputError where they have errors."""
    made = topology(scenario)
    texts = {**manifest_files(made, Addressing.of(made)), **policies}
    profile = Profile(scenario.shim.get("profile", Profile.ACNS))
    objects: list[Object] = []
    problems = []
    for name, text in texts.items():
        parsed = manifests.parse(text, name, profile)
        objects += parsed.objects
        problems += [problem for problem in parsed.problems if not problem.warning]
    if problems:
        raise InputError(problems)
    return Cluster.of(objects)


def outside(scenario: Scenario) -> set[IPv4Address]:
    """Addresses that the Internet has to own."""
    return set(_outside(scenario))


def _outside(scenario: Scenario) -> Iterator[IPv4Address]:
    yield from (server.address for server in scenario.servers if not server.labels)
    for step in scenario.steps:
        if step.connect is not None and not is_inside(address := endpoint(step.connect)[0]):
            yield address
        for text in step.wire:
            address = IPv4Address(packets.destination(packets.parse(text)))
            if is_outside(address):
                yield address


def is_outside(address: IPv4Address) -> bool:
    """Whether the Internet can own it."""
    special = address.is_loopback or address.is_multicast or address.is_link_local or address.is_reserved
    return not (special or address.is_unspecified or is_inside(address))


def is_inside(address: IPv4Address) -> bool:
    """Whether it can be a pod's or a Service's."""
    return address in PODS or address in SERVICES


def _server_pod(server: Server, node: str) -> dict[str, Any]:
    return {"name": server.name, "namespace": server.namespace, "node": node, "labels": server.labels}


def _service(server: Server) -> dict[str, Any]:
    return {
        "name": server.name,
        "namespace": server.namespace,
        "cluster_ip": str(server.address),
        "selector": server.labels,
        "ports": [
            {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
        ],
    }
