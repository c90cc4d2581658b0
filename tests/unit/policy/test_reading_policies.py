"""What stands around the rules: sections, default deny, subjects, origins; and what the profiles say."""

from __future__ import annotations

from itertools import product

import pytest

from acns.policy.model import Direction
from acns.policy.objects import Policy
from acns.policy.profiles import Profile

from .reading import CCNP, CNP, codes, errors, labelled, policy, read, rule, spec

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
SECTIONS = ("egress", "egressDeny", "ingress", "ingressDeny")


# --- sections and default deny -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "egressDeny: [{}]",
        "ingressDeny: [{}]",
        "egressDeny: [{}]\ningressDeny: [{}]",
        "egressDeny: [{}]\ningress: [{fromEntities: [host]}]",
        "egressDeny: [{}]\negress: []\nenableDefaultDeny: {egress: true}",
        "egressDeny: [{toPorts: []}]",
        "ingressDeny: [{icmps: [], toPorts: null}]",
        "egressDeny: [{}, {}]",
        "egressDeny: [{}, {toPorts: []}]",
    ],
)
def test_an_empty_deny_that_is_all_of_its_direction_means_default_deny(text: str) -> None:
    assert "empty-deny" not in codes(text)


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("egressDeny: [{}]\negress: [{toEntities: [world]}]", "only what no rule allows"),
        ("egressDeny: [{}, {toEntities: [world]}]", "only what no rule allows"),
        ("ingressDeny: [{}, {fromEntities: []}]", "only what no rule allows"),
        ("egressDeny: [{}]\nenableDefaultDeny: {egress: false}", "nothing, as enableDefaultDeny is false"),
    ],
)
def test_one_beside_other_rules_is_doubted_with_what_it_does(text: str, effect: str) -> None:
    found = [each for each in policy(text).problems if each.code == "empty-deny"]
    assert found
    assert {each.message for each in found} == {f"an entry without peers and ports denies {effect}"}


def test_one_that_lacks_only_what_is_misspelt_is_not() -> None:
    found = read("egressDeny: [{toEntitees: [all]}, {toEntities: [host]}]").problems
    assert [each.code for each in found] == [""]


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_gives_rules_of_its_direction_that_allow_or_deny(section: str) -> None:
    found = rule(f"{section}: [{{}}]")
    assert found.direction is (EGRESS if section.startswith("egress") else INGRESS)
    assert found.deny is section.endswith("Deny")
    assert found.origin.section == section


@pytest.mark.parametrize("present", list(product([False, True], repeat=4))[1:])
def test_a_direction_with_rules_denies_by_default_and_no_other(present: tuple[bool, ...]) -> None:
    names = [name for name, given in zip(SECTIONS, present, strict=True) if given]
    found = spec("\n".join(f"{name}: [{{}}]" for name in names))
    assert found.default_deny == {EGRESS if name.startswith("egress") else INGRESS for name in names}
    assert len(found.of(EGRESS)) == sum(name.startswith("egress") for name in names)


@pytest.mark.parametrize("section", SECTIONS)
def test_enabledefaultdeny_opts_out(section: str) -> None:
    direction = "egress" if section.startswith("egress") else "ingress"
    assert spec(f"{section}: [{{}}]\nenableDefaultDeny: {{{direction}: false}}").default_deny == frozenset()


def test_enabledefaultdeny_of_a_direction_without_rules_does_nothing_and_is_doubtful() -> None:
    text = "egress: [{}]\nenableDefaultDeny: {egress: true, ingress: true}"
    assert spec(text).default_deny == {EGRESS}
    assert codes(text) == ["default-deny-without-rules"]


def test_one_direction_can_opt_out_and_the_other_not() -> None:
    text = "egress: [{}]\ningress: [{}]\nenableDefaultDeny: {egress: false}"
    assert spec(text).default_deny == {INGRESS}


@pytest.mark.parametrize("section", ["egress", "ingress"])
def test_an_empty_section_counts_as_absent_and_is_doubtful(section: str) -> None:
    text = f"{section}: []\n{'ingress' if section == 'egress' else 'egress'}: [{{}}]"
    assert str(section) not in spec(text).default_deny
    assert codes(text) == ["empty-section"]


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_one_beside_a_deny_leaves_nothing_open_and_that_is_not_said(direction: str) -> None:
    text = f"{direction}: []\n{direction}Deny: [{{}}]"
    assert str(direction) in spec(text).default_deny
    (problem,) = policy(text).problems
    assert problem.message == f"an empty {direction} counts as absent: only {direction}Deny counts"
    assert problem.hint == ""


@pytest.mark.parametrize(
    "text", ["egress: []", "egressDeny: []\ningress: null", "enableDefaultDeny: {egress: true}"]
)
def test_a_policy_whose_sections_are_all_empty_is_refused(text: str) -> None:
    (message,) = errors(text)
    assert "no section says anything" in message


def test_spec_and_specs_both_count() -> None:
    head = CNP + "  egress: [{}]\nspecs:\n- endpointSelector: {}\n"
    found = policy("ingress: [{toPorts: [{ports: [{port: '80'}]}]}]", head)
    assert [each.default_deny for each in found.specs] == [{EGRESS}, {INGRESS}]
    assert [each.rules[0].origin.section for each in found.specs] == ["egress", "specs[0].ingress"]


def test_an_origin_says_where_a_rule_was_written() -> None:
    found = spec("ingress:\n- {}\n- fromEntities: [world]").rules[1].origin
    assert str(found) == "shop/p ingress[1] (p.yaml:8:5)"
    assert found.kind == "CiliumNetworkPolicy"
    assert rule("ingress: [{}]", CCNP).origin.policy == "p"
    assert rule("ingress: [{}]", CCNP).origin.kind == "CiliumClusterwideNetworkPolicy"


def test_what_only_describes_a_policy_decides_nothing() -> None:
    words = "description: words\nlabels: [{key: a, value: b, source: c}]\nlog: {value: x}\n"
    assert spec(words + "egress: [{}]").subject == spec("egress: [{}]").subject
    assert codes(words + "egress: [{}]") == []
    unproven = "egress: [{authentication: {mode: disabled}, toEntities: [world]}]"
    assert spec(unproven).rules[0].peers == spec("egress: [{toEntities: [world]}]").rules[0].peers
    assert codes(unproven) == []


# --- the subject ---------------------------------------------------------------------------------------


def subject(selector: str, head: str = CNP) -> object:
    return spec("egress: [{}]", head.replace("endpointSelector: {}", f"endpointSelector: {selector}")).subject


def subject_codes(selector: str, head: str = CNP) -> list[str]:
    return codes("egress: [{}]", head.replace("endpointSelector: {}", f"endpointSelector: {selector}"))


def test_a_namespaced_policy_is_about_pods_of_its_namespace() -> None:
    assert subject("{matchLabels: {app: x}}") == labelled("app=x", namespace="shop").selector


def test_a_clusterwide_policy_is_about_pods_everywhere() -> None:
    assert subject("{}", CCNP) == labelled().selector


def test_another_namespace_in_matchlabels_gives_way_with_a_warning() -> None:
    text = "{matchLabels: {'k8s:io.kubernetes.pod.namespace': other}}"
    assert subject(text) == labelled(namespace="shop").selector
    assert subject_codes(text) == ["other-namespace"]


@pytest.mark.parametrize(
    "text",
    [
        "{matchLabels: {'io.kubernetes.pod.namespace': other}}",
        "{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: In, values: [other]}]}",
    ],
)
def test_another_namespace_said_otherwise_selects_nothing_with_a_warning(text: str) -> None:
    assert len(subject(text).requirements) == 2  # type: ignore[attr-defined]
    assert subject_codes(text) == ["other-namespace"]


def test_the_own_namespace_may_be_said() -> None:
    assert subject_codes("{matchLabels: {'k8s:io.kubernetes.pod.namespace': shop}}") == []


def test_a_subject_with_a_reserved_label_selects_nothing_and_is_doubtful() -> None:
    assert subject_codes("{matchLabels: {'reserved:init': ''}}", CCNP) == ["reserved-subject"]
    exists = "{matchExpressions: [{key: 'reserved:init', operator: Exists}]}"
    assert subject_codes(exists, CCNP) == ["reserved-subject"]
    negated = "{matchExpressions: [{key: 'reserved:init', operator: DoesNotExist}]}"
    assert subject_codes(negated, CCNP) == []


# --- profiles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "ingress: [{fromEntities: [kube-apiserver]}]",
        "egressDeny: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}]",
        "egress: [{icmps: [{fields: [{type: 8}]}]}]",
        "egress: [{toServices: [{k8sService: {serviceName: a, namespace: b}}]}]",
        "egress: [{toPorts: [{ports: [{port: http}, {port: '1', endPort: 9}]}]}]",
    ],
)
def test_profile_acns_takes_all_of_the_l3_and_l4_language(text: str) -> None:
    found = policy(text, profile=Profile.ACNS)
    assert found.problems == ()
    assert found.specs == policy(text).specs


def test_patterns_that_end_in_wildcards_are_doubtful_wherever_they_stand() -> None:
    for profile in Profile:
        for text in (
            "egress: [{toFQDNs: [{matchPattern: '*.example.com.*.*'}]}]",
            "egress: [{toEntities: [world], toPorts: [{ports: [{port: '53'}], "
            "rules: {dns: [{matchPattern: '*.example.com.*.*'}]}}]}]",
        ):
            (problem,) = read(text, profile=profile).problems
            assert problem.code == "trailing-wildcard-labels"
            assert "secret.example.com.attacker.com" in problem.message


def test_warnings_stay_with_the_policy() -> None:
    parsed = read("egress: [{toCIDR: ['::/0']}]")
    (found,) = parsed.objects
    assert isinstance(found, Policy)
    assert found.problems == parsed.problems != ()
