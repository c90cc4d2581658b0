"""What policies name and the cluster does not have is doubted."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from acns.policy.cluster import Cluster
from acns.policy.objects import CIDRGroup, EndpointSlice, NamedPort, Pod, Service, SliceEndpoint
from acns.policy.resolve import problems

from .doubting import TO_WEB, codes, found
from .policy_world import N1, WEB, clusterwide, manifest, objects, pod

# --- selectors, groups, Services, entities -----------------------------------------------------------------


def test_a_policy_that_selects_no_pod_is_doubted_where_it_begins() -> None:
    (problem,) = found(manifest(TO_WEB, selector="{matchLabels: {app: wbe}}"))
    assert (problem.code, problem.line) == ("selects-nothing", 1)
    assert "'any:app=wbe,k8s:io.kubernetes.pod.namespace=default'" in problem.message


POD_NAME = "statefulset.kubernetes.io/pod-name"


@pytest.mark.parametrize("as_peer", [False, True])
def test_a_label_that_is_no_part_of_identities_is_told(as_peer: bool) -> None:
    selector = f"{{matchLabels: {{{POD_NAME}: db-0}}}}"
    text = manifest(f"- toEndpoints: [{selector}]") if as_peer else manifest(TO_WEB, selector=selector)
    (problem,) = found(text, more=(pod("db-0", IPv4Address("10.244.0.9"), labels={POD_NAME: "db-0"}),))
    assert problem.message.startswith(f"no pod as Cilium sees it matches 'any:{POD_NAME}=db-0,")
    assert problem.hint == f"default/db-0 has {POD_NAME}, which is no part of identities"
    (problem,) = found(text)
    assert problem.message.startswith("no pod matches ")


@pytest.mark.parametrize("as_peer", [False, True])
@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (
            pod("agent", N1, host_network=True),
            "it is on its node's network, and the entities host and remote-node mean such pods",
        ),
        (pod("agent", IPv4Address("10.244.0.9"), phase="Failed"), "it has finished (phase Failed)"),
        (pod("agent", None, phase="Pending"), "it waits for one"),
    ],
    ids=["hostNetwork", "finished", "pending"],
)
def test_pods_without_an_address_of_their_own_are_told_with_the_reason(
    as_peer: bool, agent: Pod, reason: str
) -> None:
    selector = "{matchLabels: {app: agent}}"
    text = manifest(f"- toEndpoints: [{selector}]") if as_peer else manifest(TO_WEB, selector=selector)
    (problem,) = found(text, more=(agent,))
    assert problem.message.startswith("no pod with an address of its own matches 'any:app=agent,")
    assert problem.hint == f"default/agent has none: {reason}"


@pytest.mark.parametrize("section", ["egress", "egressDeny"])
def test_a_peer_that_selects_no_pod_is_doubted_at_its_rule(section: str) -> None:
    text = manifest("- toEndpoints: [{matchLabels: {app: wbe}}]").replace("egress:", f"{section}:")
    (problem,) = found(text)
    assert (problem.code, problem.line) == ("selects-nothing", 10)


def test_the_hint_says_which_namespaces_such_a_peer_means() -> None:
    nobody = "- toEndpoints: [{matchLabels: {app: wbe%s}}]"
    there = ", k8s:io.kubernetes.pod.namespace: other"
    own, compare = "the policy's own namespace alone is meant", "compare it with the labels of the pods"
    for text, hint in (
        (manifest(nobody % ""), f"{own}: name another one by k8s:io.kubernetes.pod.namespace"),
        (manifest(nobody % there), compare),
        (manifest(nobody % there.replace("other", "default")), compare),
        (clusterwide(nobody % ""), compare),
        (clusterwide(nobody % there), compare),
        (
            network_policy("podSelector: {matchLabels: {app: wbe}}"),
            f"{own}: name others by namespaceSelector",
        ),
        (network_policy("{podSelector: {matchLabels: {app: wbe}}, namespaceSelector: {}}"), compare),
    ):
        assert [problem.hint for problem in found(text)] == [hint]


def network_policy(peer: str) -> str:
    return f"""apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p, namespace: default}}
spec:
  podSelector: {{matchLabels: {{app: frontend}}}}
  policyTypes: [Egress]
  egress:
  - to: [{peer}]
"""


def test_where_there_are_no_pods_no_selector_is_blamed() -> None:
    assert problems(Cluster.of(objects(manifest(TO_WEB)))) == []


def test_an_unknown_cidr_group_is_doubted() -> None:
    text = manifest("- toCIDRSet: [{cidrGroupRef: ours}]")
    assert codes(text) == ["unknown-cidr-group"]
    assert codes(text, more=(CIDRGroup("ours"),)) == []
    by_label = manifest("- toCIDRSet: [{cidrGroupSelector: {matchLabels: {a: b}}}]")
    assert codes(by_label, more=(CIDRGroup("ours"),)) == ["unknown-cidr-group"]


def test_an_unknown_service_is_doubted() -> None:
    rule = "- toServices: [{k8sService: {serviceName: %s, namespace: default}}]"
    assert codes(manifest(rule % "wbe")) == ["unknown-service"]
    assert codes(manifest(rule % "web")) == []
    by_label = "- toServices: [{k8sServiceSelector: {selector: {matchLabels: {a: b}}}}]"
    assert codes(manifest(by_label)) == ["unknown-service"]


def test_a_service_with_nobody_behind_it_is_doubted() -> None:
    rule = "- toServices: [{k8sService: {serviceName: %s, namespace: default}}]"
    lonely = Service("default", "lonely", (), (), {"app": "nobody"})
    external = Service("default", "external")
    for each in (lonely, external):
        (problem,) = found(manifest(rule % each.name), more=(each,))
        assert problem.code == "selects-nothing"
        assert f"nobody is behind Service default/{each.name}: this peer opens nothing" in problem.message
    slices = EndpointSlice(
        "default", "external-1", "external", (SliceEndpoint((IPv4Address("203.0.113.9"),)),)
    )
    assert codes(manifest(rule % "external"), more=(external, slices)) == []
    assert problems(Cluster.of([external, *objects(manifest(rule % "external"))])) == []


def test_of_several_services_one_with_pods_is_enough() -> None:
    by_label = "- toServices: [{k8sServiceSelector: {selector: {matchLabels: {a: b}}, namespace: default}}]"
    lonely = Service("default", "lonely", (), (), {"app": "nobody"}, {"a": "b"})
    crowded = Service("default", "crowded", (), (), {"app": "web"}, {"a": "b"})
    assert codes(manifest(by_label), more=(lonely,)) == ["selects-nothing"]
    assert codes(manifest(by_label), more=(lonely, crowded)) == []


def test_api_servers_of_unknown_address_are_doubted() -> None:
    text = manifest("- toEntities: [kube-apiserver]")
    assert codes(text) == ["entity-without-members"]
    known = EndpointSlice("default", "kubernetes", "kubernetes", (SliceEndpoint((N1,)),))
    assert codes(text, more=(known,)) == []


# --- named ports ---------------------------------------------------------------------------------------

HTTP = "\n  toPorts: [{ports: [{port: http}]}]"
WITH_PORT = pod("web", WEB, labels={"app": "web"}, named_ports=(NamedPort("http", "TCP", 80),))


@pytest.mark.parametrize("peer", ["toCIDR: [10.0.0.0/8]", "toEntities: [world]", "toEntities: [host]"])
def test_a_named_port_of_who_is_no_pod_is_doubted(peer: str) -> None:
    (problem,) = found(manifest(f"- {peer}{HTTP}"), more=(WITH_PORT,))
    assert problem.code == "named-port-without-pods"
    assert "has no named ports" in problem.message


def test_a_named_port_that_no_destination_has_is_doubted() -> None:
    assert codes(manifest(TO_WEB + HTTP)) == ["named-port-without-pods"]
    assert codes(manifest(TO_WEB + HTTP), more=(WITH_PORT,)) == []


def test_a_named_port_that_no_pod_of_the_policy_has_is_doubted() -> None:
    text = manifest(" []").replace("egress: []", "ingress: [{toPorts: [{ports: [{port: http}]}]}]")
    assert codes(text) == ["named-port-without-pods"]
    with_port = replace(
        WITH_PORT, name="frontend", labels={"app": "frontend"}, pod_ip=IPv4Address("10.244.0.2")
    )
    assert codes(text, more=(with_port,)) == []


def test_the_protocol_must_be_the_ports() -> None:
    other = HTTP.replace("port: http", "port: http, protocol: UDP")
    assert codes(manifest(TO_WEB + other), more=(WITH_PORT,)) == ["named-port-without-pods"]


def test_where_a_peer_selects_nothing_its_ports_are_not_doubted_too() -> None:
    assert codes(manifest("- toEndpoints: [{matchLabels: {app: wbe}}]" + HTTP)) == ["selects-nothing"]
