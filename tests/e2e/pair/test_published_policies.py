"""Policies as the published guides of ACNS and Cilium have them do what those guides say.

Each file in `policies/` is one of them, with the lab's names, and says itself what comes of it: its truth
table (`# expect:`) and, where a profile cannot have it, the refusal (`# refused by PROFILE at LINE:COL: …`).
All are in force at once, on one lab, on a pod of their own each, written while the lab runs. Each of the
lab's two nodes has a profile: what the node `acns` refuses it reports and leaves out, while everything else
stays enforced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from scapy.layers.inet import IP

from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab
from lab.spec.expect import Row
from lab.spec.topology import Topology

from .. import cluster_dns
from .wire import fresh_label, holding, seeded, tapped, until, wait_for

pytestmark = pytest.mark.root

POLICIES = Path(__file__).with_name("policies")
EVERYBODY = "intercept-all-dns.yaml"
"""The one that selects every pod, and so has to wait until the others have been tried."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which profile refuses a file, where in it, and how."""

    profile: str
    position: str
    message: str


@dataclass(frozen=True, slots=True)
class Published:
    """One policy file."""

    name: str
    text: str

    @property
    def statements(self) -> list[str]:
        return re.findall(r"^# expect: (.+)$", self.text, re.MULTILINE)

    @property
    def refusals(self) -> list[Refusal]:
        found = re.findall(r"^# refused by (\w+) at (\d+:\d+): (.+)$", self.text, re.MULTILINE)
        return [Refusal(*groups) for groups in found]


PUBLISHED = [Published(path.name, path.read_text()) for path in sorted(POLICIES.glob("*.yaml"))]
TRIED = [(file, statement) for file in PUBLISHED for statement in file.statements]
REFUSED = [(file, refusal) for file in PUBLISHED for refusal in file.refusals if file.name != EVERYBODY]

TO_ACNS_NODE = ("demo-container", "alpine", "wildcards", "alliance", "my-service", "restricted")
LABELS = {
    "demo-container": {"app": "demo-container"},
    "alpine": {"app": "alpine"},
    "wildcards": {"app": "wildcards"},
    "alliance": {"org": "alliance"},
    "my-service": {"app": "my-service"},
    "restricted": {"role": "restricted"},
    "double-star": {"app": "double-star"},
    "mediabot-name": {"org": "empire", "class": "mediabot-name"},
    "mediabot-pattern": {"org": "empire", "class": "mediabot-pattern"},
    "mediabot-port": {"org": "empire", "class": "mediabot-port"},
    "outsider": {"role": "outsider"},
    "neighbour": {"role": "neighbour"},
    "shopper": {"app": "shopper"},
    "browser": {"app": "browser"},
    "bystander": {"app": "bystander"},
}
UNSELECTED = {"browser", "bystander"}


def topology() -> Topology:
    """A node of each profile; the DNS server on one of them, a web pod on both, a pod for each policy."""
    web = {"kind": "web", "http_port": 8080, "https_port": 8443}
    return Topology.model_validate(
        {
            "name": "guides",
            "nodes": [{"name": "acns"}, {"name": "cilium", "shim": {"profile": "cilium"}}],
            "pods": [
                *(
                    {"name": name, "labels": labels, "node": "acns" if name in TO_ACNS_NODE else "cilium"}
                    for name, labels in LABELS.items()
                ),
                {"name": "guest", "namespace": "tenant", "node": "acns"},
                *(
                    {
                        "name": f"web-{node}",
                        "node": node,
                        "labels": {"app": "web"},
                        "address": f"10.244.{number}.20",
                        "program": web,
                    }
                    for number, node in enumerate(("acns", "cilium"))
                ),
                cluster_dns.pod("acns", program=cluster_dns.DNSMASQ),
            ],
            "services": [
                cluster_dns.SERVICE,
                {
                    "name": "web",
                    "cluster_ip": "10.96.20.20",
                    "selector": {"app": "web"},
                    "ports": [{"name": "http", "port": 80, "target_port": 8080}],
                },
            ],
            "internet": {"names": {name: {"a": [address]} for name, address in NAMES.items()}},
        }
    )


NAMES = {
    "example.com": "198.51.100.1",
    "www.example.com": "198.51.100.2",
    "api.example.com": "198.51.100.3",
    "support.example.com": "198.51.100.4",
    "deep.api.example.com": "198.51.100.5",
    "app.example.com": "198.51.100.6",
    "app1.example.com": "198.51.100.7",
    "www.example.org": "198.51.100.8",
    "example.net": "198.51.100.10",
    "sub.example.net": "198.51.100.11",
    "another.example.net": "198.51.100.12",
    "service1.api.example.net": "198.51.100.13",
    "special-service.api.example.net": "198.51.100.14",
    "other.api.example.net": "198.51.100.15",
    "www.example.com.attacker.org": "198.51.100.20",
    "one.partner.example.org": "203.0.113.77",
    "two.partner.example.org": "203.0.113.78",
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The lab, with every policy in force but the one for everybody."""
    running = Lab.up(topology(), name=f"t{os.getpid()}-guides")
    try:
        for file in PUBLISHED:
            if file.name != EVERYBODY:
                running.write_manifest(file.name, file.text)
        until(lambda: all(enforced(running, pod) for pod in selected(running)), "all policies are in force")
        yield running
    finally:
        running.down()


@pytest.fixture(scope="module")
def table(lab: Lab) -> dict[str, Row]:
    """What came of every statement of every file, all tried at once."""
    statements = list(dict.fromkeys(statement for _, statement in TRIED))
    return dict(zip(statements, tried(lab, *statements), strict=True))


def tried(lab: Lab, *statements: str) -> list[Row]:
    """The truth table of these statements, instead of the topology's own."""
    instead = lab.topology.model_copy(update={"expect": statements})
    return Lab(lab.folder, lab.record, replace(lab.order, topology=instead)).check()


def holds(lab: Lab, *statements: str) -> bool:
    return all(row.ok for row in tried(lab, *statements))


def selected(lab: Lab) -> list[str]:
    """The pods that a policy selects."""
    clients = [name for name in LABELS if name not in UNSELECTED]
    return [*(f"default/{name}" for name in clients), "tenant/guest"]


def enforced(lab: Lab, pod: str) -> bool:
    """Whether the pod's node says that it is under policy."""
    return bool(readiness(lab.node(lab.pod(pod).node))["endpoints"][pod]["enforced"] != "none")


def readiness(node: NodeHandle) -> dict[str, dict[str, dict[str, object]]]:
    answer: dict[str, dict[str, dict[str, object]]] = node.shim.http_get("/readyz").json()
    return answer


def problems(node: NodeHandle) -> list[str]:
    """What the node's shim finds wrong, without the folder's path."""
    return [str(problem).removeprefix(f"{node.manifests}/") for problem in readiness(node)["problems"]]


@pytest.mark.parametrize(
    ("file", "statement"), TRIED, ids=[f"{file.name}: {statement}" for file, statement in TRIED]
)
def test_it_is_as_the_guide_says(table: dict[str, Row], file: Published, statement: str) -> None:
    assert table[statement].ok, table[statement]


@pytest.mark.parametrize(
    ("file", "refusal"), REFUSED, ids=[f"{file.name} by {refusal.profile}" for file, refusal in REFUSED]
)
def test_what_a_profile_cannot_have_is_refused_at_its_place_in_the_file(
    lab: Lab, file: Published, refusal: Refusal
) -> None:
    (problem,) = [text for text in problems(lab.node(refusal.profile)) if text.startswith(file.name)]
    assert problem.startswith(f"{file.name}:{refusal.position}: {refusal.message}")


def test_nothing_else_is_refused_on_either_node(lab: Lab) -> None:
    errors = [(node, text) for node in lab.nodes for text in problems(node) if " warning: " not in text]
    found = {(text.partition(":")[0], node.name) for node, text in errors}
    assert found == {(file.name, refusal.profile) for file, refusal in REFUSED}


def test_a_policy_spoilt_by_an_edit_is_reported_and_stays_in_force_as_it_was(lab: Lab) -> None:
    file = next(file for file in PUBLISHED if file.name == "acns-how-to.yaml")
    spoilt = file.text.replace("toFQDNs", "toFQDN")
    where = next(n for n, line in enumerate(spoilt.splitlines(), 1) if "toFQDN:" in line)
    lab.write_manifest(file.name, spoilt)
    try:
        expected = f"{file.name}:{where}:7: unknown field 'toFQDN' (did you mean 'toFQDNs'?)"
        until(lambda: expected in [t[: len(expected)] for t in problems(lab.node("acns"))], "it is reported")
        statements = ("demo-container connects www.example.com:80", "demo-container refused www.example.org")
        assert holds(lab, *statements)
    finally:
        lab.write_manifest(file.name, file.text)
        until(
            lambda: not any(t.startswith(file.name) for t in problems(lab.node("acns"))), "it is right again"
        )


def test_taking_a_policy_away_frees_its_pod_and_bringing_it_back_binds_it_again(lab: Lab) -> None:
    file = next(file for file in PUBLISHED if file.name == "acns-how-to.yaml")
    lab.remove_manifest(file.name)
    until(lambda: holds(lab, "demo-container connects www.example.org:80"), "the pod is free")
    lab.write_manifest(file.name, file.text)
    until(lambda: holds(lab, "demo-container refused www.example.org"), "the pod is bound")


def test_intercepting_all_dns_takes_every_query_through_the_resolver_and_denies_nothing(lab: Lab) -> None:
    """A proxied query reaches the DNS server from the node, not from the pod."""
    file = next(file for file in PUBLISHED if file.name == EVERYBODY)
    node, pod = lab.node("cilium"), lab.pod("bystander")
    assert asked_from(lab, "bystander") == str(pod.address)
    lab.write_manifest(file.name, file.text)
    try:
        until(lambda: asked_from(lab, "bystander") == str(node.address), "the query is intercepted")
        assert holds(lab, "bystander connects www.example.org:443", "bystander connects 10.96.20.20:80")
        (problem,) = [text for text in problems(lab.node("acns")) if text.startswith(file.name)]
        assert problem.startswith(f"{file.name}:{file.refusals[0].position}: {file.refusals[0].message}")
    finally:
        lab.remove_manifest(file.name)
    until(lambda: asked_from(lab, "bystander") == str(pod.address), "the query passes by the resolver")


def asked_from(lab: Lab, pod: str) -> str:
    """From which address a query of this pod reaches the cluster's DNS server."""
    label = fresh_label(seeded())
    with tapped(lab.pod("kube-dns")) as server:
        answer = lab.pod(pod).run(["dig", "+tries=1", "+time=2", f"{label}.example.org"])
        assert "status: REFUSED" not in answer.stdout, "its policy is under way"
        return str(wait_for(server, holding(label))[IP].src)
