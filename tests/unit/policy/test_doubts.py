"""What is wrong or doubtful between objects: errors, and warnings that a policy's text can silence."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from acns.dns import name as dns_names
from acns.dns.pattern import FQDNSelector
from acns.policy.cluster import Cluster
from acns.policy.model import Enforcement
from acns.policy.objects import (
    CIDRGroup,
    NamedPort,
    Node,
    ServicePort,
)
from acns.policy.resolve import problems

from .doubting import FQDN, TO_WEB, codes, found, plain
from .policy_world import (
    DNS,
    DNS_IP,
    DNS_LABELS,
    N1,
    TO_KUBE_DNS,
    WEB,
    cluster,
    clusterwide,
    dns_rule,
    manifest,
    objects,
    pod,
    service,
    slice_of,
)


def test_a_cluster_without_policies_has_no_problems() -> None:
    assert found() == []


# --- silence -------------------------------------------------------------------------------------------


def test_a_comment_on_the_rules_line_silences_its_warning() -> None:
    text = manifest(FQDN)
    assert codes(text) == ["dns-missing"]
    assert codes(text.replace("  egress:", "  egress: # acns:ignore dns-missing")) == ["dns-missing"]
    assert codes(text.replace("a.io}]", "a.io}] # acns:ignore dns-missing")) == []


TWO = "- toFQDNs:\n  - matchName: b.io\n  - matchName: c.io\n"


def test_one_entry_of_many_is_doubted_and_silenced_at_its_own_line() -> None:
    text = manifest(TWO + dns_rule("a.io"))
    assert {problem.message.split("'")[1]: problem.line for problem in found(text)} == {
        name: 1 + next(n for n, line in enumerate(text.splitlines()) if name in line)
        for name in ("b.io", "c.io")
    }
    (left,) = found(text.replace("b.io\n", "b.io # acns:ignore fqdn-not-in-dns\n"))
    assert "'c.io'" in left.message
    assert codes(text.replace("- toFQDNs:", "- toFQDNs: # acns:ignore fqdn-not-in-dns")) == []


def test_a_comment_at_the_head_silences_it_in_the_whole_document() -> None:
    text = manifest(FQDN)
    assert codes(f"# acns:ignore dns-missing, selects-nothing\n{text}") == []
    assert codes(f"# acns:ignore selects-nothing\n{text}") == ["dns-missing"]


def test_it_silences_no_other_policy() -> None:
    text = manifest(FQDN)
    assert codes(f"# acns:ignore dns-missing\n{text}", manifest(FQDN, name="q")) == ["dns-missing"]


def test_errors_cannot_be_silenced() -> None:
    (error,) = found(more=(pod("twin", WEB),))
    assert (error.warning, error.code) == (False, "")


# --- a way to DNS --------------------------------------------------------------------------------------


def test_toFQDNs_without_a_way_to_dns_is_doubted_at_the_rule_with_the_pod() -> None:
    (problem,) = found(manifest(FQDN))
    assert problem.warning
    assert "pod default/frontend" in problem.message
    assert problem.message == (
        "toFQDNs opens nothing for pod default/frontend: no rule lets it ask a DNS server over UDP"
    )
    assert (problem.path, problem.line) == ("p.yaml", 10)


@pytest.mark.parametrize(
    "rule",
    [
        dns_rule("a.io"),
        plain(53),
        TO_KUBE_DNS,
        "- toEntities: [cluster]",
        '- toPorts: [{ports: [{port: "53"}]}]',
        '- toEntities: [world]\n  toPorts: [{ports: [{port: "0", protocol: UDP}]}]',
        '- toEntities: [world]\n  toPorts: [{ports: [{port: "50", endPort: 60}]}]',
        "- toPorts: [{ports: [{port: dns}]}]",
    ],
)
def test_any_rule_that_reaches_dns_will_do(rule: str) -> None:
    assert "dns-missing" not in codes(manifest(FQDN + rule))
    assert "dns-missing" not in codes(manifest(FQDN), manifest(rule, name="another"))


@pytest.mark.parametrize(
    "rule",
    [
        TO_WEB,
        "- toFQDNs: [{matchName: b.io}]",
        '- toPorts: [{ports: [{port: "53", protocol: SCTP}]}]',
        '- toPorts: [{ports: [{port: "53", protocol: TCP}]}]',
        '- toPorts: [{ports: [{port: "53", protocol: TCP}], rules: {dns: [{matchName: a.io}]}}]',
        "- icmps: [{fields: [{type: 8}]}]",
        '- toEntities: [world]\n  toPorts: [{ports: [{port: "54", endPort: 60}]}]',
    ],
)
def test_a_rule_that_reaches_something_else_will_not(rule: str) -> None:
    assert "dns-missing" in codes(manifest(FQDN + rule))


def test_a_deny_lets_nobody_ask() -> None:
    deny = manifest(plain(53), name="deny").replace("egress:", "egressDeny:")
    assert codes(manifest(FQDN), deny) == ["dns-missing"]


UDP_TO_ALL = "- toPorts: [{ports: [{port: '53', protocol: UDP}]}]"
OUTSIDE = "- toCIDR: [%s]\n  toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a.io}]}}]"


def test_names_that_only_a_denied_dns_server_could_tell_are_never_learned() -> None:
    deny = manifest(TO_KUBE_DNS, name="deny").replace("egress:", "egressDeny:")
    assert codes(manifest(FQDN + dns_rule("a.io")), deny) == ["dns-missing"]


@pytest.mark.parametrize(
    ("asks", "deny"),
    [
        (dns_rule("a.io"), plain(53)),
        (dns_rule("a.io"), TO_KUBE_DNS + "  toPorts: [{ports: [{port: '0', protocol: UDP}]}]"),
        ("- toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a.io}]}}]", UDP_TO_ALL),
        (OUTSIDE % "203.0.113.0/24", UDP_TO_ALL),
        (OUTSIDE % "203.0.113.0/24", "- toCIDR: [203.0.112.0/23]"),
    ],
    ids=["that server", "every port of it", "any server", "servers outside", "their network"],
)
def test_a_server_that_is_denied_over_udp_is_missing_though_tcp_is_open(asks: str, deny: str) -> None:
    denying = manifest(deny, name="deny").replace("egress:", "egressDeny:")
    (problem,) = found(manifest(FQDN + asks), denying)
    assert problem.code == "dns-missing"
    over_tcp = "unless it asks over TCP (use-vc in its resolv.conf)" in problem.message
    assert over_tcp is ("UDP" in deny)


def test_nor_does_one_for_tcp_alone_but_for_those_who_ask_so() -> None:
    (problem,) = found(manifest(FQDN + dns_rule("a.io", protocol="TCP")))
    assert problem.message == (
        "toFQDNs opens nothing for pod default/frontend unless it asks over TCP (use-vc in its resolv.conf): "
        "no rule lets it ask a DNS server over UDP"
    )
    assert problem.hint == "let its rules.dns take UDP too (protocol: ANY)"


def test_a_name_that_rules_dns_have_over_tcp_alone_is_not_looked_up_as_others_are() -> None:
    over_udp, over_tcp = dns_rule("b.io", protocol="UDP"), dns_rule("a.io", protocol="TCP")
    (problem,) = found(manifest(FQDN + over_udp + over_tcp))
    assert (problem.code, problem.hint) == (
        "fqdn-not-in-dns",
        "let its rules.dns take UDP too (protocol: ANY)",
    )
    assert problem.message == (
        "'a.io' opens nothing for pod default/frontend unless it asks over TCP: "
        "no rules.dns that takes UDP lets it ask for it"
    )
    assert codes(manifest(FQDN + over_udp + dns_rule("a.io", protocol="ANY"))) == []
    (problem,) = found(manifest(FQDN + over_udp + dns_rule("c.io", protocol="TCP")))
    assert problem.message.endswith("no rules.dns lets it ask for it")


DENIED_OVER_TCP = """
  egressDeny:
  - toEntities: [all]
    toPorts: [{ports: [{port: "53", protocol: TCP}]}]
"""
ASKS_OVER_TCP = dns_rule("a.io", protocol="TCP")


def test_nobody_is_referred_to_tcp_for_one_name_where_it_is_denied() -> None:
    text = manifest(FQDN + dns_rule("b.io", protocol="UDP") + ASKS_OVER_TCP)
    (problem,) = found(text + DENIED_OVER_TCP)
    assert problem.message.endswith("for pod default/frontend: no rules.dns lets it ask for it")


@pytest.mark.parametrize(
    "text",
    [
        manifest(FQDN + ASKS_OVER_TCP) + DENIED_OVER_TCP,
        manifest(
            f"{FQDN}- toCIDR: [{DNS_IP}/32]\n"
            "  toPorts: [{ports: [{port: '53', protocol: TCP}], rules: {dns: [{matchName: a.io}]}}]"
        ),
        manifest(FQDN + dns_rule("b.io", protocol="TCP")),
        manifest(FQDN + dns_rule("b.io")) + DENIED_OVER_TCP.replace("TCP", "UDP"),
    ],
    ids=["denied", "where no server is", "other names", "other names beside a denied UDP"],
)
def test_where_tcp_teaches_nothing_either_nobody_is_referred_to_it(text: str) -> None:
    (problem,) = [each for each in found(text) if each.code == "dns-missing"]
    assert problem.message.startswith("toFQDNs opens nothing for pod default/frontend: no ")
    assert "protocol: ANY" not in problem.hint


def test_each_rule_is_told_of_tcp_for_its_own_names() -> None:
    text = manifest(FQDN + FQDN.replace("a.io", "b.io") + ASKS_OVER_TCP)
    assert ["over TCP" in each.message for each in found(text)] == [True, False]


def test_so_is_one_whose_names_a_plain_rule_opens() -> None:
    at_53 = f'{TO_KUBE_DNS}  toPorts: [{{ports: [{{port: "53", protocol: TCP}}]}}]'
    text = manifest(FQDN + dns_rule("b.io", protocol="TCP") + at_53)
    (problem,) = [each for each in found(text) if each.code == "dns-missing"]
    assert "over TCP" in problem.message


def test_networks_that_are_watched_over_tcp_tell_nothing_over_udp() -> None:
    over_tcp = (OUTSIDE % "203.0.113.0/24").replace("port: '53'", "port: '53', protocol: TCP")
    (problem,) = found(manifest(FQDN + over_tcp + "\n" + plain(53)))
    assert problem.code == "dns-missing"
    assert "unless it asks over TCP" in problem.message


@pytest.mark.parametrize(
    ("asks", "deny"),
    [
        (dns_rule("a.io"), plain(54)),
        (dns_rule("a.io"), plain(53).replace("UDP", "TCP")),
        ("- toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a.io}]}}]", "- toEntities: [world]"),
        (OUTSIDE % "203.0.113.0/24", "- toCIDR: [203.0.113.0/25]"),
    ],
    ids=["another port", "TCP only", "servers outside of any", "a part of the network"],
)
def test_one_that_is_denied_in_part_is_not(asks: str, deny: str) -> None:
    denying = manifest(deny, name="deny").replace("egress:", "egressDeny:")
    assert "dns-missing" not in codes(manifest(FQDN + asks), denying)


def asking(peer: str, port: int = 53) -> str:
    return (
        f"- {peer}\n  toPorts:\n"
        f"  - ports: [{{port: '{port}', protocol: ANY}}]\n    rules: {{dns: [{{matchName: a.io}}]}}\n"
    )


KUBE_DNS_PODS = "toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system}}]"


@pytest.mark.parametrize(
    "rule",
    [
        asking(f"toCIDR: [{DNS_IP}/32]"),
        asking(f"toCIDR: [{DNS}/32]"),
        asking(f"toCIDR: [{DNS}/32, {DNS_IP}/32, {N1}/32]"),
        asking(KUBE_DNS_PODS, 5353),
    ],
    ids=["its ClusterIP", "its pod's address", "both", "a port that it has not"],
)
def test_a_dns_server_where_surely_none_is_found_is_missing(rule: str) -> None:
    (problem,) = [each for each in found(manifest(FQDN + rule)) if each.code != "cidr-inside-cluster"]
    assert problem.code == "dns-missing"
    assert problem.message == (
        "toFQDNs opens nothing for pod default/frontend: "
        "no DNS server is at the peers and ports of its rules.dns, or all are denied over UDP"
    )
    assert "dns-missing" not in codes(manifest(FQDN + rule), manifest(dns_rule("a.io"), name="q"))


@pytest.mark.parametrize(
    "rule",
    [
        asking(f"toCIDR: [{DNS_IP}/31]"),
        asking("toCIDR: [203.0.113.53/32]", 5353),
        asking(f"toCIDR: [{DNS_IP}/32, 203.0.113.53/32]"),
        asking("toEntities: [host]", 5353),
        asking("toEndpoints: [{matchLabels: {app: web}}]", 5353),
    ],
    ids=["a network", "a server outside", "one of two", "the node", "a pod of which nothing is known"],
)
def test_where_one_may_be_nothing_is_missing(rule: str) -> None:
    assert "dns-missing" not in codes(manifest(FQDN + rule))


def test_a_port_that_the_dns_pods_name_or_a_service_leads_to_may_be_their_dns_port() -> None:
    rule = manifest(FQDN + asking(KUBE_DNS_PODS, 5353))
    named = pod(
        "dns",
        DNS,
        "n2",
        namespace="kube-system",
        labels=DNS_LABELS,
        named_ports=(NamedPort("alt", "UDP", 5353),),
    )
    other = service(
        "alt", IPv4Address("10.96.0.11"), ServicePort("dns", "UDP", 53, 5353), namespace="kube-system"
    )
    assert codes(rule, more=(named,)) == []
    assert codes(rule, more=(other, slice_of(other, [DNS]))) == []


def test_a_dns_server_sought_in_the_policys_own_namespace_is_not_found() -> None:
    here = dns_rule("a.io").replace("      k8s:io.kubernetes.pod.namespace: kube-system\n", "")
    assert here != dns_rule("a.io")
    assert codes(manifest(FQDN + here)) == ["dns-missing", "selects-nothing"]


def test_where_nothing_is_denied_by_default_nothing_is_missing() -> None:
    assert codes(manifest(FQDN, extra="enableDefaultDeny: {egress: false}")) == []


def test_a_policy_that_selects_no_pod_yet_is_judged_by_itself() -> None:
    nobody = "{matchLabels: {app: nobody}}"
    assert codes(manifest(FQDN, selector=nobody)) == ["selects-nothing", "dns-missing"]
    assert codes(manifest(FQDN + dns_rule("a.io"), selector=nobody)) == ["selects-nothing"]


# --- names that nobody asks for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opened", "asked"),
    [("a.io", "b.io"), ("*.a.io", "a.io"), ("a.io", "*.a.io"), ("*.b.a.io", "*.a.io"), ("x*.io", "y*.io")],
)
def test_a_name_that_no_rules_dns_matches_is_doubted(opened: str, asked: str) -> None:
    kind = "matchPattern" if "*" in opened else "matchName"
    doubted = found(manifest(f"- toFQDNs: [{{{kind}: '{opened}'}}]\n" + dns_rule(asked)))
    (message,) = [problem.message for problem in doubted if problem.code == "fqdn-not-in-dns"]
    assert f"'{opened}' opens nothing for pod default/frontend" in message


@pytest.mark.parametrize(
    ("opened", "asked"),
    [("a.io", "a.io"), ("a.io", "*"), ("*.a.io", "www.a.io"), ("www.a.io", "*.a.io"), ("x*.io", "*y.io")],
)
def test_a_name_that_might_be_asked_for_is_not(opened: str, asked: str) -> None:
    kind = "matchPattern" if "*" in opened else "matchName"
    assert codes(manifest(f"- toFQDNs: [{{{kind}: '{opened}'}}]\n" + dns_rule(asked))) == []


def test_an_address_which_reading_has_doubted_is_not_doubted_again() -> None:
    text = manifest("- toFQDNs: [{matchName: 8.8.8.8}, {matchName: b.io}]\n" + dns_rule("a.io"))
    (problem,) = found(text)
    assert "'b.io'" in problem.message


@pytest.mark.parametrize("rules", ["", plain(53), dns_rule("a.io"), dns_rule("a.io", protocol="TCP")])
def test_nor_is_a_rule_of_addresses_alone(rules: str) -> None:
    assert codes(manifest("- toFQDNs: [{matchName: 8.8.8.8}, {matchName: 1.1.1.1}]\n" + rules)) == []


def test_the_rules_dns_of_another_policy_counts() -> None:
    assert codes(manifest(FQDN), manifest(dns_rule("a.io"), name="q")) == []


def test_names_that_a_plain_rule_opens_can_be_asked_for() -> None:
    assert "fqdn-not-in-dns" not in codes(manifest(FQDN + dns_rule("b.io") + plain(53)))


def test_without_a_cluster_a_plain_rule_for_the_same_port_may_open_them() -> None:
    def alone(port: int) -> list[str]:
        text = manifest(FQDN + dns_rule("b.io") + plain(port))
        return [problem.code for problem in problems(Cluster.of(objects(text)))]

    assert alone(53) == ["dns-open-by-l4"]
    assert alone(54) == ["fqdn-not-in-dns"]


def test_many_names_and_networks_are_not_compared_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def overlaps(one: IPv4Network, other: IPv4Network) -> bool:
        nonlocal compared
        compared += 1
        return False

    def names_overlap(one: FQDNSelector, other: FQDNSelector) -> bool:
        nonlocal compared
        compared += 1
        return False

    monkeypatch.setattr(IPv4Network, "overlaps", overlaps)
    monkeypatch.setattr("acns.policy.overlap.overlap", names_overlap)
    many = range(100)
    even, odd = (", ".join(f"10.0.0.{2 * n + k}/32" for n in many) for k in (0, 1))
    port = "ports: [{port: '53'}]"
    text = manifest(
        f"- {{toCIDR: [{even}], toPorts: [{{{port}, rules: {{dns: [{{matchName: a.io}}]}}}}]}}\n"
        f"- {{toCIDR: [{odd}], toPorts: [{{{port}}}]}}"
    )
    opened = (
        f"{{matchName: b{n}.io}}, {{matchPattern: '*.b{n}.io'}}, {{matchPattern: 'b{n}*.io'}}" for n in many
    )
    asked = manifest(
        f"- toFQDNs: [{', '.join(opened)}]\n"
        + dns_rule(*(name for n in many for name in (f"a{n}.io", f"*.a{n}.io", f"a{n}*.io"))),
        name="q",
        selector="{matchLabels: {app: web}}",
    )
    for judged in (problems(Cluster.of(objects(text, asked))), found(text, asked)):
        assert [problem.code for problem in judged] == ["fqdn-not-in-dns"] * 3 * len(many)
    assert compared < 10 * len(many)


def test_a_way_to_dns_that_nobody_watches_teaches_nothing() -> None:
    (problem,) = found(manifest(FQDN + plain(53)))
    assert problem.code == "fqdn-not-in-dns"
    assert "no rules.dns sees what it looks up" in problem.message


def test_one_entry_is_doubted_once_however_many_pods_it_is_wrong_for() -> None:
    assert codes(clusterwide(FQDN + dns_rule("b.io"))) == ["fqdn-not-in-dns"]


# --- the bare domain -----------------------------------------------------------------------------------


def apex(opened: str, asked: tuple[str, ...], *more: str) -> list[str]:
    names = "".join(f"{{matchName: '{each}'}}, " for each in more)
    return codes(manifest(f"- toFQDNs: [{names}{{matchPattern: '{opened}'}}]\n" + dns_rule(*asked)))


@pytest.mark.parametrize("opened", ["*.a.io", "**.a.io"])
@pytest.mark.parametrize("bare", ["a.io", "*a.io"])
def test_a_pattern_beside_the_bare_name_that_it_does_not_match_is_doubted(opened: str, bare: str) -> None:
    assert apex(opened, (opened, bare)) == ["apex-not-matched"]


@pytest.mark.parametrize("asked", [("*.a.io",), ("*.a.io", "*.io"), ("*",), ("*.a.io", "b.io")])
def test_it_is_not_where_nothing_names_the_bare_name(asked: tuple[str, ...]) -> None:
    assert apex("*.a.io", asked) == []


def test_nor_where_another_entry_opens_the_bare_name() -> None:
    assert apex("*.a.io", ("*.a.io", "a.io"), "a.io") == []


def test_nor_where_the_pattern_has_no_bare_name() -> None:
    assert apex("*x.a.io", ("*x.a.io", "a.io")) == []


# --- servers with and without names --------------------------------------------------------------------


def test_a_plain_rule_for_a_server_with_names_is_doubted_at_the_plain_rule() -> None:
    (problem,) = found(manifest(dns_rule("a.io")), manifest(plain(53), name="q"))
    assert problem.code == "dns-open-by-l4"
    assert "default/p egress[0]" in problem.message


@pytest.mark.parametrize(
    "rule",
    [
        '- toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]\n' + plain(53),
        "- toCIDR: [203.0.113.0/24]\n"
        "  toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a.io}]}}]\n"
        "- toEntities: [world]\n  toPorts: [{ports: [{port: '53'}]}]",
    ],
    ids=["a pod among any server", "networks"],
)
def test_so_is_one_for_a_part_of_what_is_redirected(rule: str) -> None:
    assert codes(manifest(rule)) == ["dns-open-by-l4"]


@pytest.mark.parametrize(
    "rule", [dns_rule("*") + plain(53), dns_rule("a.io") + plain(54), dns_rule("a.io") + TO_KUBE_DNS]
)
def test_a_plain_rule_that_opens_nothing_more_is_not(rule: str) -> None:
    assert codes(manifest(rule)) == []


# --- node-local DNS ------------------------------------------------------------------------------------

BY_GROUP = """
- toCIDRSet:
  - cidr: 10.0.0.0/8
  - PEER
  toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchName: a.io}]}}]
"""
LOCAL = CIDRGroup("local", (IPv4Network("169.254.20.10/32"), IPv4Network("10.1.0.0/16")), {"a": "b"})


@pytest.mark.parametrize(
    "peer", ["cidrGroupRef: local", "cidrGroupSelector: {matchLabels: {a: b}}"], ids=["by name", "by labels"]
)
def test_node_local_dns_in_a_cidr_group_is_refused_at_the_reference(peer: str) -> None:
    text = manifest(BY_GROUP.replace("PEER", peer))
    (error,) = [each for each in found(text, more=(LOCAL,)) if not each.warning]
    line = 1 + next(n for n, line in enumerate(text.splitlines()) if peer in line)
    assert (error.path, error.line, error.column) == ("p.yaml", line, 7)
    assert "CiliumCIDRGroup 'local': 169.254.20.10/32 is link-local: node-local DNS" in error.message
    assert error.hint == "let pods ask the cluster's DNS Service"


def test_it_is_not_where_it_is_excepted_or_no_dns_server() -> None:
    excepted = "{cidrGroupRef: local, except: [169.254.0.0/16]}"
    assert codes(manifest(BY_GROUP.replace("PEER", excepted)), more=(LOCAL,)) == []
    plain_port = '- toCIDRSet: [{cidrGroupRef: local}]\n  toPorts: [{ports: [{port: "53"}]}]'
    assert codes(manifest(plain_port), more=(LOCAL,)) == []


# --- addresses -------------------------------------------------------------------------------------------


def test_two_pods_of_a_node_with_one_address_are_an_error() -> None:
    (problem,) = found(more=(pod("zz", WEB),))
    assert problem.message == (
        "pod default/zz has the address 10.244.0.4 of pod default/web: "
        "all traffic of this address is denied on node n1"
    )


def test_two_pods_of_two_nodes_with_one_address_are_an_error() -> None:
    (problem,) = found(more=(pod("zz", WEB, "n2"),))
    assert problem.message == (
        "pod default/zz has the address 10.244.0.4 of pod default/web: "
        "peers select it only where they select both"
    )


def test_a_pod_with_the_address_of_a_node_is_an_error() -> None:
    (problem,) = found(more=(pod("zz", N1), Node("n1", (N1,))))
    assert problem.message == "pod default/zz has the address 172.18.0.2 of node n1"


# --- addresses of more than one name ---------------------------------------------------------------------

ASKS_ALL = dns_rule("*")
CDN, OWN = IPv4Address("198.51.100.30"), IPv4Address("198.51.100.31")


def sharing(text: str, **known: IPv4Address) -> list[str]:
    resolutions = {dns_names.from_text(f"{name}.io."): {address} for name, address in known.items()}
    found = problems(cluster(text), resolutions=resolutions)
    return [problem.message for problem in found if problem.code == "shared-address"]


def test_an_address_that_is_another_names_too_is_said_to_open_more() -> None:
    (message,) = sharing(manifest(FQDN + ASKS_ALL), a=CDN, b=CDN)
    assert message == "'a.io' opens 198.51.100.30, which is also b.io's: pod default/frontend reaches both"


def test_names_that_are_meant_anyway_or_elsewhere_are_none_beyond() -> None:
    assert sharing(manifest(FQDN + ASKS_ALL), a=CDN, b=OWN) == []
    assert sharing(manifest(FQDN + ASKS_ALL), b=CDN, c=CDN) == []
    both = "- toFQDNs: [{matchPattern: '*.io'}]\n"
    assert sharing(manifest(both + ASKS_ALL), a=CDN, b=CDN) == []


def test_a_comment_silences_it() -> None:
    text = manifest(FQDN + ASKS_ALL).replace("a.io}]", "a.io}] # acns:ignore shared-address")
    assert sharing(text, a=CDN, b=CDN) == []


# --- enforcement modes -----------------------------------------------------------------------------------


def test_what_is_doubtful_depends_on_the_enforcement_mode() -> None:
    def codes_in(mode: Enforcement, text: str) -> list[str]:
        return [problem.code for problem in problems(cluster(text), mode)]

    denying = manifest(FQDN)
    assert codes_in(Enforcement.DEFAULT, denying) == codes_in(Enforcement.ALWAYS, denying) == ["dns-missing"]
    assert codes_in(Enforcement.NEVER, denying) == []
    open_by_default = denying.replace("egress:", "enableDefaultDeny: {egress: false}\n  egress:")
    assert codes_in(Enforcement.DEFAULT, open_by_default) == []
    assert codes_in(Enforcement.ALWAYS, open_by_default) == ["dns-missing"]
