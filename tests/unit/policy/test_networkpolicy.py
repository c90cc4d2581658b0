"""NetworkPolicy: what becomes of it, with Kubernetes' defaults and Cilium's translation."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from acns.policy.manifests import parse
from acns.policy.model import Direction, Protocol
from acns.policy.objects import CIDRBlocks, Entity, PeerSpec, Policy, PortBlock, PortSpec
from acns.policy.profiles import Profile

from .reading import NP, codes, errors, labelled, policy, rule, spec

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
NAMESPACE_LABELS = "k8s:io.cilium.k8s.namespace.labels."
TEN = IPv4Network("10.0.0.0/8")


def peers(entry: str) -> tuple[PeerSpec, ...] | None:
    """Of one entry, the same in both directions."""
    sources = rule(f"ingress: [{{from: [{entry}]}}]", NP).peers
    assert sources == spec(f"policyTypes: [Egress]\negress: [{{to: [{entry}]}}]", NP).rules[0].peers
    return sources


def ports(entry: str) -> tuple[PortBlock, ...] | None:
    return rule(f"ingress: [{{ports: [{entry}]}}]", NP).ports


# --- directions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "denies"),
    [
        ("{}", {INGRESS}),
        ("ingress: []", {INGRESS}),
        ("policyTypes: []", {INGRESS}),
        ("policyTypes: [Ingress]", {INGRESS}),
        ("policyTypes: [Egress]", {EGRESS}),
        ("policyTypes: [Ingress, Egress]", {INGRESS, EGRESS}),
        ("egress: [{}]", {INGRESS, EGRESS}),
        ("egress: []", {INGRESS}),
        ("policyTypes: [Egress]\negress: [{}]", {EGRESS}),
        ("policyTypes: [Ingress]\negress: [{}]", {INGRESS, EGRESS}),
        ("policyTypes: [Egress]\ningress: [{}]", {INGRESS, EGRESS}),
    ],
)
def test_policytypes_and_rules_say_which_directions_deny(text: str, denies: set[Direction]) -> None:
    body = "" if text == "{}" else text
    assert spec(body, NP).default_deny == denies


def test_a_direction_that_denies_without_rules_has_one_that_selects_nothing() -> None:
    found = rule("policyTypes: [Egress]", NP)
    assert (found.direction, found.peers, found.ports, found.deny) == (EGRESS, (), None, False)


def test_an_empty_rule_allows_everything() -> None:
    found = rule("ingress: [{}]", NP)
    assert (found.peers, found.ports) == ((Entity("all"),), None)


def test_empty_lists_of_peers_and_ports_mean_all() -> None:
    found = rule("ingress: [{from: [], ports: []}]", NP)
    assert (found.peers, found.ports) == ((Entity("all"),), None)


@pytest.mark.parametrize(("listed", "section"), [("Ingress", "egress"), ("Egress", "ingress")])
def test_rules_that_policytypes_leaves_out_are_doubtful(listed: str, section: str) -> None:
    assert codes(f"policyTypes: [{listed}]\n{section}: [{{}}]", NP) == ["policy-types"]
    assert codes(f"policyTypes: [Ingress, Egress]\n{section}: [{{}}]", NP) == []
    assert codes(f"{section}: [{{}}]", NP) == []


# --- who it is about -----------------------------------------------------------------------------------


def test_its_subject_is_in_its_namespace_and_labels_are_the_pods_own() -> None:
    head = NP.replace("podSelector: {}", "podSelector: {matchLabels: {app: web}}")
    assert spec("", head).subject == labelled("k8s:app=web", namespace="shop").selector


def test_an_absent_podselector_selects_every_pod() -> None:
    assert spec("ingress: []", NP.replace("  podSelector: {}\n", "")).subject == spec("", NP).subject


@pytest.mark.parametrize("null", ["{podSelector: null}", "{podSelector: }", "null", ""])
def test_null_is_the_empty_selector_and_the_empty_spec(null: str) -> None:
    text = f"{NP.partition('spec:')[0]}spec: {null}\n"
    (found,) = parse(text, "p.yaml", Profile.ACNS).objects
    assert isinstance(found, Policy)
    assert found.specs == policy("", NP).specs


def test_a_pod_cannot_be_selected_by_its_namespaces_name() -> None:
    head = NP.replace("podSelector: {}", "podSelector: {matchLabels: {io.kubernetes.pod.namespace: other}}")
    assert spec("", head).subject == labelled(namespace="shop").selector


# --- peers ---------------------------------------------------------------------------------------------


def test_a_podselector_means_pods_of_the_policys_namespace() -> None:
    assert peers("{podSelector: {}}") == (labelled(namespace="shop"),)
    assert peers("{podSelector: {matchLabels: {app: web}}}") == (labelled("k8s:app=web", namespace="shop"),)


def test_a_namespaceselector_means_all_pods_of_these_namespaces() -> None:
    entry = (
        "{namespaceSelector: {matchLabels: {team: a}, matchExpressions: [{key: x.io/y, operator: Exists}]}}"
    )
    assert peers(entry) == (labelled(f"{NAMESPACE_LABELS}team=a", f"{NAMESPACE_LABELS}x.io/y"),)


def test_an_empty_namespaceselector_means_every_namespace() -> None:
    assert peers("{namespaceSelector: {}}") == (labelled("k8s:io.kubernetes.pod.namespace"),)


def test_both_selectors_together_mean_pods_of_these_namespaces() -> None:
    entry = "{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: web}}}"
    assert peers(entry) == (labelled(f"{NAMESPACE_LABELS}team=a", "k8s:app=web"),)
    everywhere = "{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}"
    assert peers(everywhere) == (labelled("k8s:io.kubernetes.pod.namespace", "k8s:app=web"),)


def test_an_ipblock_is_a_network_without_its_exceptions() -> None:
    entry = "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}"
    assert peers(entry) == (CIDRBlocks((TEN,), (IPv4Network("10.1.0.0/16"),)),)


def test_an_ipv6_block_allows_nothing_and_is_doubtful() -> None:
    assert peers("{ipBlock: {cidr: '::/0'}}") == ()
    assert codes("ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]", NP) == ["ipv6-ignored"]


def test_peers_of_different_kinds_add_up_in_one_rule() -> None:
    assert peers("{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}") == (
        labelled(namespace="shop"),
        CIDRBlocks((TEN,)),
    )


# --- ports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "port"),
    [
        ("{}", PortSpec(Protocol.TCP)),
        ("{protocol: UDP}", PortSpec(Protocol.UDP)),
        ("{port: 80}", PortSpec(Protocol.TCP, 80, 80)),
        ("{port: 80, endPort: 80}", PortSpec(Protocol.TCP, 80, 80)),
        ("{port: 80, endPort: 90, protocol: SCTP}", PortSpec(Protocol.SCTP, 80, 90)),
        ("{port: http, protocol: UDP}", PortSpec(Protocol.UDP, name="http")),
    ],
)
def test_ports_are_read_and_are_tcp_unless_said_otherwise(entry: str, port: PortSpec) -> None:
    assert ports(entry) == (PortBlock((port,)),)


def test_the_ports_of_a_rule_are_for_all_its_peers() -> None:
    text = "ingress: [{from: [{podSelector: {}}], ports: [{port: 1}, {port: 2}]}]"
    assert [block.ports[0].first for block in rule(text, NP).ports or ()] == [1, 2]


# --- the object ----------------------------------------------------------------------------------------


def test_it_is_a_policy_like_the_others() -> None:
    found = policy("ingress: [{}, {}]", NP)
    assert (found.ref, found.key) == (("NetworkPolicy", "shop", "p"), "shop/p")
    origin = found.specs[0].rules[1].origin
    assert (str(origin), origin.kind) == ("shop/p ingress[1] (p.yaml:6:17)", "NetworkPolicy")


@pytest.mark.parametrize("profile", list(Profile))
def test_every_profile_takes_it(profile: Profile) -> None:
    assert policy("ingress: [{from: [{podSelector: {}}]}]", NP, profile).problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "ingress: [{from: [{}]}]",
        "ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]",
        "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]",
        "ingress: [{ports: [{endPort: 1}]}]",
        "ingress: [{ports: [{port: a, endPort: 1}]}]",
        "ingress: [{ports: [{port: 2, endPort: 1}]}]",
        "ingress: [{ports: [{port: '80'}]}]",
        "ingress: [{ports: [{port: 0}]}]",
        "ingress: [{to: []}]",
        "egress: [{from: []}]",
        "policyTypes: [egress]",
    ],
)
def test_what_the_api_server_refuses_is_refused(text: str) -> None:
    assert len(errors(text, NP)) == 1
