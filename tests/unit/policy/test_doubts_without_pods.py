"""Doubts about policies where there are no pods: by the words of selectors and rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from acns.policy.cluster import Cluster
from acns.policy.doubts.scene import Scene
from acns.policy.implications import Implied
from acns.policy.resolve import problems

from .doubting import FQDN, TO_WEB, plain, without_pods
from .policy_world import TO_KUBE_DNS, clusterwide, dns_rule, manifest, objects

# --- which policies go together ---------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [("app",), ("app", "k8s-app")], ids=["one label", "two labels"])
def test_many_selectors_are_not_compared_each_with_each(
    labels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0
    meets, includes = Implied.meets, Implied.includes

    def counted(compare: Callable[[Implied, Implied], bool]) -> Callable[[Implied, Implied], bool]:
        def count(one: Implied, other: Implied) -> bool:
            nonlocal compared
            compared += 1
            return compare(one, other)

        return count

    monkeypatch.setattr(Implied, "meets", counted(meets))
    monkeypatch.setattr(Implied, "includes", counted(includes))
    deny = "- toFQDNs: [{matchName: a.io}]\n" + dns_rule("a.io")
    texts = [
        manifest(deny, selector=f"{{matchLabels: {{{labels[n % len(labels)]}: a{n}}}}}", name=f"p{n}")
        + "  egressDeny: [{toEntities: [world]}]\n"
        for n in range(100)
    ]
    assert [each.code for each in without_pods(*texts)] == ["fqdn-denied"] * 100
    assert compared < 1000


@pytest.mark.parametrize("asked", ["a", "b"], ids=["its own names", "no names that it opens"])
def test_rules_that_perhaps_apply_are_looked_at_only_where_they_decide(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = 0
    meets = Implied.meets

    def count(one: Implied, other: Implied) -> bool:
        nonlocal met
        met += 1
        return meets(one, other)

    monkeypatch.setattr(Implied, "meets", count)
    texts = [
        manifest(
            f"- toFQDNs: [{{matchName: a{n}.io}}]\n" + dns_rule(f"{asked}{n}.io"),
            selector=f"{{matchExpressions: [{{key: app, operator: NotIn, values: [a{n}]}}]}}",
            name=f"p{n}",
        )
        for n in range(20)
    ]
    assert [each.code for each in without_pods(*texts)] == (["fqdn-not-in-dns"] * 20 if asked == "b" else [])
    assert met == 0


def test_policies_of_one_selector_are_judged_once() -> None:
    texts = [manifest(dns_rule("a.io"), name=f"p{n}") for n in range(3)]
    (subject,) = Scene(Cluster.of(objects(*texts))).subjects
    assert len(subject.specs) == 3


def test_policies_that_surely_select_the_same_pods_are_judged_together_before_there_are_any() -> None:
    (problem,) = without_pods(manifest(FQDN))
    assert problem.code == "dns-missing"
    assert "a pod with policy default/p alone" in problem.message
    assert without_pods(manifest(FQDN), manifest(dns_rule("a.io"), name="q")) == []
    assert without_pods(manifest(FQDN), clusterwide(dns_rule("a.io"), selector="{}")) == []
    (problem,) = without_pods(manifest(FQDN), clusterwide(dns_rule("b.io"), selector="{}"))
    assert problem.code == "fqdn-not-in-dns"
    (problem,) = without_pods(manifest(dns_rule("a.io")), manifest(plain(53), name="q"))
    assert problem.code == "dns-open-by-l4"
    assert without_pods(manifest(dns_rule("a.io")), manifest(plain(54), name="q")) == []
    assert without_pods(manifest(dns_rule("*")), manifest(plain(53), name="q")) == []


NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_NAME = "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name"
SAME_OR_WIDER = (
    "{matchLabels: {k8s:app: frontend}}",
    "{matchExpressions: [{key: app, operator: In, values: [frontend, legacy]}]}",
    "{matchExpressions: [{key: app, operator: Exists}]}",
    "{matchExpressions: [{key: app, operator: NotIn, values: [legacy]}]}",
    "{matchExpressions: [{key: reserved:health, operator: DoesNotExist}]}",
)
SAME_OR_WIDER_CLUSTERWIDE = (
    *SAME_OR_WIDER,
    f"{{matchLabels: {{{NAMESPACE}: default}}}}",
    f"{{matchLabels: {{k8s:{NAMESPACE}: default}}}}",
    f"{{matchLabels: {{{NAMESPACE_NAME}: default}}}}",
    f"{{matchExpressions: [{{key: {NAMESPACE}, operator: NotIn, values: [kube-system]}}]}}",
)
NETWORK_POLICY = """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: q, namespace: default}
spec:
  podSelector: {matchLabels: {app: frontend}}
  policyTypes: [Egress]
  egress: [{ports: [{port: 53, protocol: UDP}]}]
"""


@pytest.mark.parametrize("selector", SAME_OR_WIDER)
def test_whatever_the_spelling_in_which_another_policy_selects_the_same_pods(selector: str) -> None:
    assert without_pods(manifest(FQDN), manifest(dns_rule("a.io"), selector=selector, name="q")) == []
    (problem,) = without_pods(manifest(FQDN), manifest(dns_rule("b.io"), selector=selector, name="q"))
    assert problem.code == "fqdn-not-in-dns"
    assert "a pod with policies default/p, default/q" in problem.message


@pytest.mark.parametrize("selector", SAME_OR_WIDER_CLUSTERWIDE)
def test_or_a_clusterwide_one(selector: str) -> None:
    assert without_pods(manifest(FQDN), clusterwide(dns_rule("a.io"), selector=selector)) == []
    doubted = without_pods(manifest(dns_rule("a.io")), clusterwide(plain(53), selector=selector))
    assert [each.code for each in doubted] == ["dns-open-by-l4"]


def test_or_a_network_policy() -> None:
    (problem,) = without_pods(manifest(FQDN), NETWORK_POLICY)
    assert problem.code == "fqdn-not-in-dns"


def test_policies_that_go_together_are_listed_in_their_order() -> None:
    def beside(*names: str) -> str:
        wide = manifest("- toEntities: [world]", name=names[0], selector="{}")
        (problem,) = without_pods(manifest(FQDN), wide, *(manifest(TO_WEB, name=each) for each in names[1:]))
        return problem.message

    assert "a pod with policies default/p, default/q, default/r, default/s:" in beside("q", "r", "s")
    assert "a pod with policies default/p, default/q, default/r, default/s:" in beside("s", "q", "r")


PERHAPS_THE_SAME = "{matchLabels: {tier: shop}}"


def test_one_that_perhaps_selects_them_too_lets_nothing_be_missing() -> None:
    asking = manifest(dns_rule("a.io"), name="q", selector=PERHAPS_THE_SAME)
    assert without_pods(manifest(FQDN), asking) == []
    assert without_pods(manifest(FQDN + dns_rule("b.io")), asking) == []
    pattern = "- toFQDNs: [{matchPattern: '*.a.io'}]"
    opening = manifest(FQDN + dns_rule("a.io"), name="q", selector=PERHAPS_THE_SAME)
    assert without_pods(manifest(pattern + "\n" + dns_rule("*.a.io", "a.io")), opening) == []


def test_nor_is_anything_wrong_between_them() -> None:
    assert (
        without_pods(manifest(dns_rule("a.io")), manifest(plain(53), name="q", selector=PERHAPS_THE_SAME))
        == []
    )
    pattern = "- toFQDNs: [{matchPattern: '*.a.io'}]\n" + dns_rule("*.a.io")
    asking = manifest(dns_rule("a.io"), name="q", selector=PERHAPS_THE_SAME)
    assert without_pods(manifest(pattern), asking) == []


@pytest.mark.parametrize(
    "selector",
    [
        "{matchLabels: {app: other}}",
        "{matchExpressions: [{key: app, operator: NotIn, values: [frontend]}]}",
        "{matchExpressions: [{key: app, operator: DoesNotExist}]}",
    ],
)
def test_those_that_select_others_do_not_count(selector: str) -> None:
    other = manifest(dns_rule("a.io"), name="q", selector=selector)
    (problem,) = without_pods(manifest(FQDN), other)
    assert problem.code == "dns-missing"
    assert "a pod with policy default/p alone" in problem.message


def test_nor_does_one_of_another_namespace() -> None:
    other = manifest(dns_rule("a.io"), name="q").replace("namespace: default", "namespace: other")
    assert [one.code for one in without_pods(manifest(FQDN), other)] == ["dns-missing"]


def test_without_a_cluster_the_words_of_a_rule_decide_what_reaches_dns() -> None:
    def alone(rule: str) -> list[str]:
        return [problem.code for problem in problems(Cluster.of(objects(manifest(FQDN + rule))))]

    assert alone(TO_WEB) == ["dns-missing"]
    assert "dns-missing" not in alone(TO_KUBE_DNS)
    assert "dns-missing" not in alone("- toEntities: [cluster]")


def test_so_do_they_of_names_that_are_told_over_tcp() -> None:
    for asked, is_told in (("a.io", True), ("b.io", False)):
        (problem,) = without_pods(manifest(FQDN + dns_rule(asked, protocol="TCP")))
        assert problem.code == "dns-missing"
        assert ("unless it asks over TCP" in problem.message) is is_told


DENYING = """
  egressDeny:
  - toEntities: [%s]
    toPorts: [{ports: [{port: "%s", protocol: %s}]}]
"""


@pytest.mark.parametrize(
    ("deny", "expected"),
    [
        (("all", "53", "UDP"), ["dns-missing"]),
        (("cluster", "53", "ANY"), ["dns-missing"]),
        (("all", "0", "UDP"), ["dns-missing"]),
        (("all", "53", "TCP"), []),
        (("all", "54", "UDP"), []),
        (("world", "53", "UDP"), []),
    ],
)
def test_a_deny_whose_words_mean_all_that_rules_dns_means_leaves_no_server(
    deny: tuple[str, str, str], expected: list[str]
) -> None:
    text = manifest(FQDN + dns_rule("a.io")) + DENYING % deny
    assert [each.code for each in without_pods(text)] == expected
    named = text.replace('{port: "53", protocol: ANY}', "{port: dns, protocol: ANY}")
    assert [each.code for each in without_pods(named)] == (expected if deny[1] == "0" else [])


def test_a_rule_that_lets_ask_over_udp_while_rules_dns_watches_tcp_teaches_nothing() -> None:
    (problem,) = without_pods(manifest(FQDN + dns_rule("a.io", protocol="TCP") + plain(53)))
    assert problem.code == "dns-missing"
    assert problem.message.endswith(": no rules.dns takes UDP")
    assert problem.hint == "let its rules.dns take UDP too (protocol: ANY)"


def test_where_rules_dns_that_watches_tcp_lacks_the_name_too_the_hint_says_both() -> None:
    (problem,) = without_pods(manifest(FQDN + dns_rule("other.io", protocol="TCP") + plain(53)))
    assert problem.code == "dns-missing"
    assert problem.message.endswith(": no rules.dns takes UDP")
    assert problem.hint == "let its rules.dns take UDP too (protocol: ANY), and these names"


# --- which servers rules speak of ---------------------------------------------------------------------------

KUBE_SYSTEM = "k8s:io.kubernetes.pod.namespace: kube-system"
CIDR_WITH_NAMES = """
- toCIDR: [203.0.113.0/24]
  toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]
"""


def peer_at_53(peer: str) -> str:
    return (
        f'- {peer}\n  toPorts: [{{ports: [{{port: "53", protocol: UDP}}]}}]'
        if peer
        else ('- toPorts: [{ports: [{port: "53"}]}]')
    )


@pytest.mark.parametrize(
    "peer",
    [
        "",
        f"toEndpoints: [{{matchLabels: {{{KUBE_SYSTEM}, k8s-app: kube-dns}}}}]",
        f"toEndpoints: [{{matchLabels: {{{KUBE_SYSTEM}}}}}]",
        f"toEndpoints: [{{matchLabels: {{{KUBE_SYSTEM}, k8s-app: kube-dns, tier: x}}}}]",
        "toEntities: [cluster]",
        "toEntities: [world, all]",
    ],
)
def test_without_a_cluster_a_rule_that_by_its_words_is_for_the_same_servers_is(peer: str) -> None:
    (problem,) = without_pods(manifest(dns_rule("a.io")), manifest(peer_at_53(peer), name="q"))
    assert problem.code == "dns-open-by-l4"
    assert "default/p egress[0]" in problem.message
    reverse = manifest(peer_at_53(peer), name="another")
    assert [each.code for each in without_pods(reverse, manifest(dns_rule("a.io")))] == ["dns-open-by-l4"]


def test_so_is_a_network_policys() -> None:
    (problem,) = without_pods(manifest(dns_rule("a.io")), NETWORK_POLICY)
    assert problem.code == "dns-open-by-l4"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("toCIDR: [203.0.0.0/16]", ["dns-open-by-l4"]),
        ("toCIDR: [203.0.113.53/32]", ["dns-open-by-l4"]),
        ("toEntities: [world]", ["dns-open-by-l4"]),
        ("toCIDRSet: [{cidr: 203.0.0.0/16, except: [203.0.113.0/24]}]", []),
        ("toCIDR: [198.51.100.0/24]", []),
        ("toEntities: [cluster]", []),
        ("toFQDNs: [{matchName: dns.example.com}]", []),
    ],
)
def test_so_is_one_for_networks_with_a_part_in_common(peer: str, expected: list[str]) -> None:
    doubted = without_pods(manifest(CIDR_WITH_NAMES), manifest(peer_at_53(peer), name="q"))
    assert [each.code for each in doubted] == expected


@pytest.mark.parametrize(
    "peer",
    [
        "toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]",
        f"toEndpoints: [{{matchLabels: {{{KUBE_SYSTEM}, k8s-app: other}}}}]",
        f"toEndpoints: [{{matchLabels: {{{KUBE_SYSTEM}, tier: x}}}}]",
        "toEntities: [world]",
        "toEntities: [host]",
        "toCIDR: [0.0.0.0/0]",
    ],
)
def test_one_for_other_servers_or_perhaps_the_same_is_not(peer: str) -> None:
    assert without_pods(manifest(dns_rule("a.io")), manifest(peer_at_53(peer), name="q")) == []


def test_where_nothing_is_denied_by_default_no_name_is() -> None:
    open_to_all = "enableDefaultDeny: {egress: false}"
    both = [
        manifest(rule, extra=open_to_all, name=name)
        for rule, name in ((dns_rule("a.io"), "p"), (plain(53), "q"))
    ]
    assert without_pods(*both) == []
