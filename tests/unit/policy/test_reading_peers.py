"""The L3 side of rules, in both directions: what `toEndpoints`, `fromCIDRSet` and their like come to."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from acns.dns.pattern import match_name, match_pattern
from acns.policy.objects import (
    CIDRBlocks,
    CIDRGroupPeer,
    Entity,
    PeerSpec,
    SelectedEndpoints,
    SelectedFQDN,
    SelectedServices,
)
from acns.policy.selectors import ANY, Key, Operator, Requirement, Selector

from .reading import CCNP, CNP, codes, errors, labelled, rule

TEN = IPv4Network("10.0.0.0/8")


def egress(peers: str, head: str = CNP) -> tuple[PeerSpec, ...] | None:
    return rule(f"egress: [{{{peers}}}]", head).peers


def ingress(peers: str, head: str = CNP) -> tuple[PeerSpec, ...] | None:
    return rule(f"ingress: [{{{peers}}}]", head).peers


# --- absent, empty, everything -------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["egress", "ingress", "egressDeny", "ingressDeny"])
def test_an_empty_rule_selects_nothing(section: str) -> None:
    found = rule(f"{section}: [{{}}]")
    assert found.selects_nothing
    assert (found.peers, found.ports, found.icmps) == (None, None, None)


@pytest.mark.parametrize("field", ["toEndpoints", "toCIDR", "toCIDRSet", "toEntities"])
@pytest.mark.parametrize("section", ["egress", "egressDeny"])
def test_an_empty_list_of_peers_selects_nothing_and_is_doubtful(section: str, field: str) -> None:
    text = f"{section}: [{{{field}: [], toPorts: [{{ports: [{{port: '80'}}]}}]}}]"
    assert rule(text).peers == ()
    assert codes(text) == ["empty-peers"]


@pytest.mark.parametrize("field", ["fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities"])
def test_an_empty_list_of_sources_selects_nothing(field: str) -> None:
    assert ingress(f"{field}: []") == ()


def test_an_empty_list_beside_another_peer_makes_the_rule_select_nothing() -> None:
    assert egress("toEndpoints: [], toEntities: [world]") == ()


@pytest.mark.parametrize("field", ["toFQDNs", "toServices"])
def test_an_empty_list_that_cilium_reads_as_any_destination_is_refused(field: str) -> None:
    (message,) = errors(f"egress: [{{{field}: []}}]")
    assert "any destination" in message


def test_null_is_absent() -> None:
    assert egress("toEndpoints: null, toFQDNs: null") is None


# --- pods ----------------------------------------------------------------------------------------------


def test_an_empty_selector_means_the_pods_of_the_policys_own_namespace() -> None:
    assert egress("toEndpoints: [{}]") == ingress("fromEndpoints: [{}]") == (labelled(namespace="shop"),)


def test_in_a_clusterwide_policy_it_means_every_pod() -> None:
    assert egress("toEndpoints: [{}]", CCNP) == (labelled(),)


@pytest.mark.parametrize(
    "key",
    [
        "k8s:io.kubernetes.pod.namespace",
        "any:io.kubernetes.pod.namespace",
        "io.kubernetes.pod.namespace",
        "k8s:io.cilium.k8s.namespace.labels.team",
        "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name",
    ],
)
def test_a_selector_that_names_namespaces_is_not_limited_further(key: str) -> None:
    assert egress(f"toEndpoints: [{{matchLabels: {{'{key}': x}}}}]") == (labelled(f"{key}=x"),)


def test_a_namespace_named_in_an_expression_counts_too() -> None:
    text = "fromEndpoints: [{matchExpressions: [{key: k8s:io.kubernetes.pod.namespace, operator: Exists}]}]"
    assert ingress(text) == (labelled("k8s:io.kubernetes.pod.namespace"),)


def test_a_service_account_does_not_say_which_namespace() -> None:
    key = "io.cilium.k8s.policy.serviceaccount"
    assert egress(f"toEndpoints: [{{matchLabels: {{{key}: dns}}}}]") == (
        labelled(f"any:{key}=dns", namespace="shop"),
    )


def test_labels_and_expressions_add_up() -> None:
    text = """
      egress:
      - toEndpoints:
        - matchLabels: {app: web}
          matchExpressions:
          - {key: k8s:tier, operator: NotIn, values: [b, a]}
          - {key: any:env, operator: DoesNotExist}
    """
    expected = Selector.of([
        Requirement(Key("any", "app"), Operator.IN, ("web",)),
        Requirement(Key("k8s", "tier"), Operator.NOT_IN, ("a", "b")),
        Requirement(Key("any", "env"), Operator.DOES_NOT_EXIST),
    ])  # fmt: skip
    assert rule(text, CCNP).peers == (SelectedEndpoints(expected),)


# --- reserved labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selector",
    [
        "matchLabels: {'reserved:host': ''}",
        "matchExpressions: [{key: 'reserved:host', operator: Exists}]",
        "matchExpressions: [{key: 'reserved:host', operator: In, values: ['']}]",
    ],
)
@pytest.mark.parametrize("head", [CNP, CCNP])
def test_a_reserved_label_alone_is_the_entity_of_that_name(selector: str, head: str) -> None:
    assert ingress(f"fromEndpoints: [{{{selector}}}]", head) == (Entity("host"),)


@pytest.mark.parametrize("name", ["world", "remote-node", "kube-apiserver", "host"])
def test_entities_can_be_said_as_labels(name: str) -> None:
    assert egress(f"toEndpoints: [{{matchLabels: {{'reserved:{name}': ''}}}}]") == (Entity(name),)


def test_what_is_doubtful_as_an_entity_is_so_as_a_label() -> None:
    assert codes("ingress: [{fromEndpoints: [{matchLabels: {'reserved:health': ''}}]}]") == [
        "entity-without-members"
    ]


@pytest.mark.parametrize(
    "selector",
    [
        "matchLabels: {'reserved:host': '', app: web}",
        "matchLabels: {'reserved:host': '', 'reserved:world': ''}",
        "matchLabels: {'reserved:host': x}",
        "matchLabels: {'reserved:all': ''}",
        "matchExpressions: [{key: 'reserved:host', operator: DoesNotExist}]",
        "matchExpressions: [{key: 'reserved:host', operator: NotIn, values: ['']}]",
    ],
)
def test_any_other_use_of_a_reserved_label_in_a_peer_is_refused(selector: str) -> None:
    assert len(errors(f"ingress: [{{fromEndpoints: [{{{selector}}}]}}]")) == 1


# --- networks ------------------------------------------------------------------------------------------


def test_the_networks_of_a_rule_are_one_peer_and_bits_beyond_the_prefix_are_cut_off() -> None:
    expected = (CIDRBlocks((TEN, IPv4Network("192.0.2.0/24"))),)
    assert egress("toCIDR: [10.1.2.3/8, 192.0.2.0/24]") == expected
    assert ingress("fromCIDR: [10.1.2.3/8, 192.0.2.0/24]") == expected


def test_ipv6_networks_are_left_out_with_a_warning() -> None:
    assert egress("toCIDR: ['::/0', 10.0.0.0/8]") == (CIDRBlocks((TEN,)),)
    assert egress("toCIDR: ['::/0']") == ()
    assert codes("egress: [{toCIDRSet: [{cidr: '::/0', except: ['fd00::/8']}]}]") == ["ipv6-ignored"]


def test_each_entry_of_a_set_has_its_own_exceptions() -> None:
    assert egress("toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {cidr: 192.0.2.0/24}]") == (
        CIDRBlocks((TEN,), (IPv4Network("10.1.0.0/16"),)),
        CIDRBlocks((IPv4Network("192.0.2.0/24"),)),
    )


def test_an_exception_may_be_all_of_its_network() -> None:
    assert egress("toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]") == (CIDRBlocks((TEN,), (TEN,)),)


def test_groups_are_named_or_selected_by_their_labels() -> None:
    by_label = Selector.of([Requirement(Key(ANY, "site"), Operator.IN, ("north",))])
    assert ingress(
        "fromCIDRSet: [{cidrGroupRef: offices, except: [10.0.0.0/8]}, "
        "{cidrGroupSelector: {matchLabels: {site: north}}}, {cidrGroupSelector: {}}]"
    ) == (
        CIDRGroupPeer(name="offices", excepted=(TEN,)),
        CIDRGroupPeer(selector=by_label),
        CIDRGroupPeer(selector=Selector()),
    )


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0.0/08", "10.0.0.0/255.0.0.0", "010.0.0.0/8", "10/8", "/8"]
)
def test_what_the_api_server_takes_for_no_cidr_is_refused(text: str) -> None:
    assert len(errors(f"egress: [{{toCIDR: ['{text}']}}]")) == 1


@pytest.mark.parametrize(
    "peer",
    [
        "toCIDRSet: [{cidrGroupRef: ''}]",
        "toCIDRSet: [{cidrGroupRef: Offices}]",
        "toServices: [{k8sService: {serviceName: '', namespace: a}}]",
        "toServices: [{k8sService: {serviceName: a, namespace: ''}}]",
    ],
)
def test_what_is_no_name_names_nothing(peer: str) -> None:
    assert len(errors(f"egress: [{{{peer}}}]")) == 1


# --- entities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all", "world", "cluster", "host", "remote-node", "kube-apiserver", "none"])
def test_entities_that_mean_somebody_are_accepted_without_a_word(name: str) -> None:
    text = f"ingress: [{{fromEntities: [{name}]}}]"
    assert rule(text).peers == (Entity(name),)
    assert codes(text) == []


@pytest.mark.parametrize("name", ["health", "init", "unmanaged", "ingress"])
def test_entities_without_members_are_doubtful(name: str) -> None:
    text = f"egress: [{{toEntities: [{name}]}}]"
    assert rule(text).peers == (Entity(name),)
    assert codes(text) == ["entity-without-members"]


def test_entities_that_the_crd_does_not_list_are_doubtful() -> None:
    assert codes("egress: [{toEntities: [world-ipv4]}]") == ["entity-not-in-crd"]
    assert sorted(codes("egress: [{toEntities: [world-ipv6]}]")) == ["entity-not-in-crd", "ipv6-ignored"]


# --- Services and names --------------------------------------------------------------------------------


def test_services_are_named_or_selected() -> None:
    assert egress(
        "toServices: [{k8sService: {serviceName: web, namespace: other}}, "
        "{k8sServiceSelector: {namespace: other, selector: {matchLabels: {'k8s:app': web}}}}, "
        "{k8sServiceSelector: {selector: {}}}]"
    ) == (
        SelectedServices("other", "web"),
        # Cilium ignores the source: the labels of a Service have none.
        SelectedServices("other", selector=labelled("any:app=web").selector),
        SelectedServices("", selector=Selector()),
    )


def test_a_service_named_without_a_namespace_is_one_of_any_namespace() -> None:
    text = "egress: [{toServices: [{k8sService: {serviceName: web}}]}]"
    assert rule(text).peers == (SelectedServices("", "web"),)
    assert codes(text) == ["service-any-namespace"]


def test_services_take_ports() -> None:
    text = "toServices: [{k8sService: {serviceName: w, namespace: 'n'}}], toPorts: [{ports: [{port: '80'}]}]"
    assert egress(text) == (SelectedServices("n", "w"),)


def test_names_and_patterns_are_peers_of_egress() -> None:
    assert egress("toFQDNs: [{matchName: A.io}, {matchPattern: '*.a.io'}]") == (
        SelectedFQDN(match_name("a.io")),
        SelectedFQDN(match_pattern("*.a.io")),
    )


@pytest.mark.parametrize("one", ["toEndpoints: [{}]", "toCIDR: [10.0.0.0/8]", "toFQDNs: [{matchName: a.io}]"])
@pytest.mark.parametrize(
    "other",
    [
        "toCIDRSet: [{cidr: 10.0.0.0/8}]",
        "toEntities: [world]",
        "toServices: [{k8sService: {serviceName: a, namespace: b}}]",
    ],
)
def test_one_rule_takes_one_kind_of_peer(one: str, other: str) -> None:
    (message,) = errors(f"egress: [{{{one}, {other}}}]")
    assert "cannot stand in one rule" in message


@pytest.mark.parametrize("field", ["toRequires", "toNodes", "toGroups"])
def test_what_cannot_be_enforced_is_refused_by_name(field: str) -> None:
    for section, name in (
        ("egress", field), ("egressDeny", field),
        ("ingress", field.replace("to", "from")), ("ingressDeny", field.replace("to", "from")),
    ):  # fmt: skip
        (message,) = errors(f"{section}: [{{{name}: [{{}}]}}]")
        assert "refused" in message
        assert name in message


def test_a_deny_rule_takes_no_names_and_no_services() -> None:
    assert len(errors("egressDeny: [{toFQDNs: [{matchName: a.io}]}]")) == 1
    assert len(errors("egressDeny: [{toServices: [{k8sService: {serviceName: a, namespace: b}}]}]")) == 1
