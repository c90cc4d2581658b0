"""What a resolver keeps from one cluster to the next: all that has not changed, as the same objects."""

from __future__ import annotations

import copy
import gc
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from acns.policy.cluster import Cluster
from acns.policy.model import EndpointPolicy, NodePolicy
from acns.policy.objects import CIDRGroup, EndpointSlice, Node, Object, SliceEndpoint
from acns.policy.resolve import Resolver, resolve

from .policy_world import (
    BASE,
    DNS,
    DNS_LABELS,
    KUBE_DNS,
    N1,
    N2,
    TO_KUBE_DNS,
    WEB,
    cluster,
    dns_rule,
    manifest,
    objects,
    pod,
    slice_of,
)

NEW = IPv4Address("10.244.0.9")
POLICIES = (
    manifest(dns_rule("a.io") + "- toEndpoints: [{matchLabels: {app: web}}]"),
    manifest("- toEntities: [host]", selector="{matchLabels: {app: web}}", name="q"),
)


def endpoint(node: NodePolicy, name: str) -> EndpointPolicy:
    return next(each for each in node.endpoints if each.endpoint.pod == name)


def after(*edits: Object, texts: tuple[str, ...] = POLICIES) -> tuple[NodePolicy, NodePolicy]:
    """The same resolver before and after these objects are put."""
    resolver = Resolver("n1")
    before = resolver.resolve(cluster(*POLICIES))
    newer = cluster(*texts, more=edits)
    found = resolver.resolve(newer)
    assert found == resolve(newer, "n1")
    return before, found


def test_a_cluster_that_says_the_same_gives_the_same_object() -> None:
    resolver = Resolver("n1")
    everything = [*BASE, *objects(*POLICIES)]
    first = resolver.resolve(Cluster.of(everything))
    assert resolver.resolve(Cluster.of(everything)) is first
    assert resolver.resolve(Cluster.of(copy.deepcopy(everything))) is first


def test_a_new_pod_changes_the_groups_it_is_in_and_no_other_endpoint() -> None:
    before, found = after(pod("web-9", NEW, labels={"app": "web"}))
    for name in ("frontend", "legacy", "web"):
        assert endpoint(found, name) is endpoint(before, name)
    ((key, members),) = [(key, each) for key, each in found.groups.items() if each is not before.groups[key]]
    assert "app=web" in key
    assert members == before.groups[key] | {NEW}


def test_pods_of_equal_labels_share_their_policy() -> None:
    _, found = after(pod("web-9", NEW, labels={"app": "web"}))
    assert endpoint(found, "web-9").egress is endpoint(found, "web").egress


def test_a_relabelled_pod_changes_itself_and_its_groups() -> None:
    before, found = after(pod("web", WEB, labels={"app": "frontend"}))
    assert endpoint(found, "web") is not endpoint(before, "web")
    assert endpoint(found, "web").egress is endpoint(found, "frontend").egress
    assert endpoint(found, "frontend") is endpoint(before, "frontend")


def test_a_label_that_is_no_part_of_the_identity_changes_nothing() -> None:
    before, found = after(pod("web", WEB, labels={"app": "web", "pod-template-hash": "7f9c"}))
    assert found is before


def test_an_edited_policy_changes_only_the_endpoints_it_selects() -> None:
    edited = POLICIES[1].replace("host", "world")
    before, found = after(texts=(POLICIES[0], edited))
    assert endpoint(found, "frontend") is endpoint(before, "frontend")
    assert endpoint(found, "web") is not endpoint(before, "web")


def test_an_edit_that_moves_no_rule_and_means_the_same_changes_nothing() -> None:
    reworded = POLICIES[1].replace(
        "{matchLabels: {app: web}}", "{matchExpressions: [{key: app, operator: In, values: [web]}]}"
    )
    before, found = after(texts=(POLICIES[0], reworded))
    assert found is before


def test_one_more_dns_server_changes_those_who_may_ask_it() -> None:
    second = pod("dns-2", NEW, "n2", namespace="kube-system", labels=DNS_LABELS, service_account="coredns")
    before, found = after(second, slice_of(KUBE_DNS, [DNS, NEW]))
    assert endpoint(found, "frontend").dns != endpoint(before, "frontend").dns
    assert endpoint(found, "frontend").egress is endpoint(before, "frontend").egress
    assert endpoint(found, "web") is endpoint(before, "web")


def test_a_nodes_new_address_is_in_the_groups_of_nodes() -> None:
    text = manifest("- toEntities: [remote-node]\n- toEntities: [cluster]")
    before, found = Resolver("n1"), Node("n2", (N2, NEW))
    assert before.resolve(cluster(text)).groups["entity:remote-node"] == {N2}
    after = before.resolve(cluster(text, more=(found,)))
    assert after.groups["entity:remote-node"] == {N2, NEW}
    assert NEW in after.groups["entity:cluster"]


def test_new_addresses_of_the_api_servers_are_in_their_group() -> None:
    text = manifest("- toEntities: [kube-apiserver]")
    resolver = Resolver("n1")
    resolver.resolve(cluster(text))
    api = EndpointSlice("default", "kubernetes", "kubernetes", (SliceEndpoint((NEW,)),))
    assert resolver.resolve(cluster(text, more=(api,))).groups == {"entity:kube-apiserver": {NEW}}


TO_SERVICE = "- toServices: [{k8sService: {serviceName: kube-dns, namespace: kube-system}}]"
WITH_SELECTOR = replace(KUBE_DNS, selector=DNS_LABELS)


def test_a_service_with_another_selector_is_another_group() -> None:
    resolver = Resolver("n1")
    before = resolver.resolve(cluster(manifest(TO_SERVICE), more=(WITH_SELECTOR,)))
    edited = replace(WITH_SELECTOR, selector={"app": "other"})
    after = resolver.resolve(cluster(manifest(TO_SERVICE), more=(edited,)))
    key = "service:kube-system/kube-dns"
    assert (before.groups[key], after.groups[key]) == ({DNS}, frozenset())
    assert endpoint(after, "frontend") is endpoint(before, "frontend")


def test_a_service_that_no_longer_selects_a_server_no_longer_opens_its_names() -> None:
    plain = TO_SERVICE + '\n  toPorts: [{ports: [{port: "53"}]}]'
    text = manifest(dns_rule("a.io") + plain)
    resolver = Resolver("n1")
    before = resolver.resolve(cluster(text, more=(WITH_SELECTOR,)))
    edited = replace(WITH_SELECTOR, selector={"app": "other"})
    after = resolver.resolve(cluster(text, more=(edited,)))
    assert [allow.redirects for allow in endpoint(before, "frontend").dns] == [True, False]
    assert [allow.redirects for allow in endpoint(after, "frontend").dns] == [True]


ANY_SERVER = '- toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]\n'
WORLD_SERVER = ANY_SERVER.replace("- toPorts", "- toEntities: [world]\n  toPorts")
HOST_SERVER = ANY_SERVER.replace("- toPorts", "- toEntities: [host]\n  toPorts")
PLAIN = f'{TO_KUBE_DNS}  toPorts: [{{ports: [{{port: "53"}}]}}]\n'
OUTSIDE = IPv4Address("203.0.113.53")
STRANGER = pod("dns", DNS, "n2", namespace="kube-system", labels={"app": "stranger"})
RENAMED = pod("dns", DNS, "n2", namespace="kube-system", labels={**DNS_LABELS, "tier": "b"})


@pytest.mark.parametrize(
    ("rules", "edit"),
    [
        pytest.param(dns_rule("a.io"), STRANGER, id="a server is another pod now"),
        pytest.param(dns_rule("a.io"), RENAMED, id="a server has another identity now"),
        pytest.param(
            dns_rule("a.io"), slice_of(KUBE_DNS, [DNS, NEW]), id="a Service has a stranger behind it"
        ),
        pytest.param(dns_rule("a.io"), slice_of(KUBE_DNS, []), id="a Service has nobody behind it"),
        pytest.param(ANY_SERVER, STRANGER, id="any server: another pod is behind a Service"),
        pytest.param(ANY_SERVER, slice_of(KUBE_DNS, []), id="any server: nobody is behind a Service"),
        pytest.param(ANY_SERVER + PLAIN, STRANGER, id="any server: a plain rule opens nobody now"),
        pytest.param(WORLD_SERVER, slice_of(KUBE_DNS, [OUTSIDE]), id="a Service stands for a server outside"),
        pytest.param(HOST_SERVER, Node("n1", (NEW,)), id="the node has another address"),
        pytest.param(HOST_SERVER, slice_of(KUBE_DNS, [N1]), id="a Service stands for the node"),
        pytest.param(dns_rule("a.io") + PLAIN, STRANGER, id="what a plain rule opened is another pod now"),
    ],
)
def test_dns_servers_are_those_of_the_newest_cluster(rules: str, edit: Object) -> None:
    text = manifest(rules)
    resolver = Resolver("n1")
    before = resolver.resolve(cluster(text))
    newer = cluster(text, more=(edit,))
    assert resolver.resolve(newer) == resolve(newer, "n1") != before
    assert resolver.resolve(cluster(text)) == before


def test_a_deny_that_comes_to_mean_a_server_takes_it_away() -> None:
    deny = manifest("- toEndpoints: [{matchLabels: {tier: b, io.kubernetes.pod.namespace: kube-system}}]")
    texts = (
        manifest(dns_rule("a.io")),
        deny.replace("egress:", "egressDeny:").replace("name: p", "name: deny"),
    )
    resolver = Resolver("n1")
    assert endpoint(resolver.resolve(cluster(*texts)), "frontend").dns
    assert not endpoint(resolver.resolve(cluster(*texts, more=(RENAMED,))), "frontend").dns


def test_objects_that_no_rule_speaks_of_change_nothing() -> None:
    before, found = after(CIDRGroup("ours"), replace(KUBE_DNS, labels={"x": "y"}))
    assert found is before


def test_what_is_gone_is_forgotten() -> None:
    resolver = Resolver("n1")
    first = resolver.resolve(cluster(*POLICIES))
    assert resolver.resolve(cluster()).groups == {}
    assert resolver.resolve(Cluster()).endpoints == ()
    assert resolver.resolve(cluster(*POLICIES)) == first


def test_a_resolver_does_not_grow_with_what_came_and_went() -> None:
    resolver = Resolver("n1")
    guests = [f"{{matchLabels: {{n: 'x{n}'}}}}" for n in range(20)]
    texts = [manifest(f"- toEndpoints: [{guest}]", selector=guest) for guest in guests]
    resolver.resolve(cluster())
    before = Counter(_alive())
    for n, text in enumerate(texts):
        visited = cluster(text, more=(pod(f"guest-{n}", NEW, labels={"n": f"x{n}"}),))
        resolver.resolve(visited)
        resolver.resolve(copy.deepcopy(visited))
    resolver.resolve(cluster())
    after = Counter(_alive())
    assert after["Labels"] <= before["Labels"] + 1
    assert after["Meaning"] <= before["Meaning"] + 1
    assert after["Rule"] <= before["Rule"] + 1
    assert after["Pods"] <= 4  # groups are looked through now and then
    assert after["Selector"] <= before["Selector"] + 4


def _alive() -> list[str]:
    gc.collect()
    return [type(each).__name__ for each in gc.get_objects()]
