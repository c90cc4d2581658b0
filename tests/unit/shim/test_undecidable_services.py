"""A Service about which no rule can decide answers no query: the policy stream says so too, whatever else the
endpoint may ask those who are like it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from acns.api import codec
from acns.api.ledger_file import Terms
from acns.dns import name as names
from acns.policy.model import Enforcement
from acns.policy.objects import NamedPort, Object, ServicePort
from acns.policy.resolve import resolve
from acns.policy.verdict import name_verdict
from acns.shim.ledger import Ledger
from acns.shim.snapshot import Snapshots

from ..policy.policy_world import (
    DNS,
    DNS_IP,
    DNS_LABELS,
    FRONTEND,
    KUBE_DNS,
    UDP,
    cluster,
    dns_rule,
    manifest,
    pod,
    service,
    slice_of,
)

SECOND, EXTERNAL = IPv4Address("10.244.0.8"), IPv4Address("198.51.100.9")
ANY_SERVER = '- toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]\n'


def second(**fields: object) -> tuple[Object, ...]:
    """One more DNS server behind the ClusterIP."""
    one = pod("dns-2", SECOND, namespace="kube-system", service_account="coredns", **fields)
    return one, slice_of(KUBE_DNS, [DNS, SECOND])


def denying(rule: str) -> str:
    return manifest(rule, name="deny").replace("egress:", "egressDeny:")


def is_open(server: IPv4Address, *texts: str, more: tuple[Object, ...]) -> bool:
    """Whether the resolver lets the pod ask that server for a.io; the model has to say the same."""
    node = resolve(cluster(*texts, more=more), "n1", Enforcement.DEFAULT)
    made = Snapshots(Ledger(Path("/nonexistent/ledger"), Terms(min_ttl_s=0, margin_s=60)))
    made.prepare(node)
    table, name = codec.policy_table(made.state()), names.from_text("a.io")
    endpoint = table.endpoint_of(FRONTEND.packed)
    assert endpoint is not None
    found = table.allowed(endpoint, server.packed, 53, UDP, name)
    (policy,) = (one for one in node.endpoints if one.endpoint.address == FRONTEND)
    by_policy = name_verdict(policy, node, server, UDP, 53, name)
    assert by_policy.redirects
    assert found is (by_policy.allow is not None)
    return found


@pytest.mark.parametrize("rule", [dns_rule("a.io"), ANY_SERVER])
def test_a_denied_backend_is_not_asked_through_the_service_that_it_shares_with_its_like(rule: str) -> None:
    more = second(labels=DNS_LABELS, named_ports=(NamedPort("odd", "UDP", 53),))
    deny = denying("- toPorts: [{ports: [{port: odd}]}]")
    assert not is_open(DNS_IP, manifest(rule), deny, more=more)
    assert is_open(DNS, manifest(rule), deny, more=more)


def test_a_denied_stranger_is_not_asked_through_a_service_where_any_server_may_be() -> None:
    more = second(labels={"app": "stranger"})
    deny = denying(
        "- toEndpoints: [{matchLabels: {app: stranger, io.kubernetes.pod.namespace: kube-system}}]"
    )
    assert not is_open(DNS_IP, manifest(ANY_SERVER), deny, more=more)
    for other in (DNS, EXTERNAL):
        assert is_open(other, manifest(ANY_SERVER), deny, more=more)


def test_any_server_at_a_port_is_none_behind_a_service_with_another_backend_port() -> None:
    elsewhere = replace(KUBE_DNS, ports=(ServicePort("dns", "UDP", 53, 5353),))
    more = (pod("dns-2", SECOND, namespace="kube-system"), slice_of(elsewhere, [SECOND], "kube-dns-2"))
    assert not is_open(DNS_IP, manifest(ANY_SERVER), more=more)


def test_what_is_undecidable_for_one_endpoint_is_open_to_another_whose_rules_decide() -> None:
    more = second(labels={"app": "stranger"})
    decides = (
        "- toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system}}]\n  " + ANY_SERVER[2:]
    )
    other = manifest(dns_rule("a.io"), selector="{matchLabels: {app: legacy}}", name="other")
    assert is_open(DNS_IP, manifest(decides), other, more=more)


def test_a_service_before_one_outside_address_does_not_open_its_names_on_all_of_the_world() -> None:
    dns = service("outer", IPv4Address("10.96.0.99"), ServicePort("dns", "UDP", 53, 53))
    rules = ANY_SERVER.replace("- ", f"- toCIDR: [{EXTERNAL}/32]\n  ", 1)
    rules += ANY_SERVER.replace("- ", "- toEntities: [world]\n  ", 1).replace("a.io", "b.io")
    more = (dns, slice_of(dns, [EXTERNAL]))
    assert not is_open(IPv4Address("8.8.8.8"), manifest(rules), more=more)
    for one in (EXTERNAL, *dns.cluster_ips):
        assert is_open(one, manifest(rules), more=more)
