"""Labels and selectors, against a reading of the Kubernetes documents that shares no code with ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.policy.selectors import (
    Key,
    Labels,
    Operator,
    Requirement,
    Selector,
    is_identity_label,
    parse_key,
    pod_labels,
)

NAMES = st.sampled_from(["app", "tier", "env"])
VALUES = st.sampled_from(["", "a", "b"])
SOURCES = st.sampled_from(["k8s", "reserved"])
REQUIREMENTS = st.one_of(
    st.builds(
        Requirement,
        st.builds(Key, st.sampled_from(["any", "k8s", "reserved"]), NAMES),
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.lists(VALUES, min_size=1).map(tuple),
    ),
    st.builds(
        Requirement,
        st.builds(Key, st.sampled_from(["any", "k8s", "reserved"]), NAMES),
        st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]),
    ),
)


def meets(requirement: Requirement, labels: dict[tuple[str, str], str]) -> bool:
    source, name = requirement.key.source, requirement.key.name
    present = [value for (s, n), value in labels.items() if n == name and source in ("any", s)]
    return {
        "In": bool(set(present) & set(requirement.values)),
        "NotIn": not set(present) & set(requirement.values),
        "Exists": present != [],
        "DoesNotExist": present == [],
    }[requirement.operator]


@given(st.lists(REQUIREMENTS, max_size=4), st.dictionaries(st.tuples(SOURCES, NAMES), VALUES))
def test_a_selector_matches_when_each_requirement_holds(
    requirements: list[Requirement], labels: dict[tuple[str, str], str]
) -> None:
    ours = Selector.of(requirements).matches(Labels.of((s, n, v) for (s, n), v in labels.items()))
    assert ours == all(meets(each, labels) for each in requirements)


@given(st.lists(REQUIREMENTS, max_size=4).flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))))
def test_the_key_of_a_selector_does_not_depend_on_the_order_of_its_requirements(
    pair: tuple[list[Requirement], list[Requirement]],
) -> None:
    assert Selector.of(pair[0]).key == Selector.of(pair[1]).key


@given(st.lists(REQUIREMENTS, max_size=3), st.lists(REQUIREMENTS, max_size=3))
def test_selectors_with_one_key_are_equal(one: list[Requirement], two: list[Requirement]) -> None:
    assert (Selector.of(one).key == Selector.of(two).key) == (Selector.of(one) == Selector.of(two))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("app", Key("any", "app")),
        ("k8s:app", Key("k8s", "app")),
        ("any:app.kubernetes.io/name", Key("any", "app.kubernetes.io/name")),
        ("reserved:host", Key("reserved", "host")),
    ],
)
def test_a_key_without_a_source_means_any(text: str, key: Key) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", "k8s:", "docker:app", "app name", "-app", "k8s:k8s:app"])
def test_what_is_no_label_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="label"):
        parse_key(text)


@pytest.mark.parametrize(
    ("key", "counts"),
    [
        ("app", True),
        ("app.kubernetes.io/name", True),
        ("kubernetes.io/arch", False),
        ("beta.kubernetes.io/os", False),
        ("pod-template-hash", False),
        ("controller-uid", False),
        ("batch.kubernetes.io/controller-uid", False),
        ("batch.kubernetes.io/job-name", True),
        ("job-name", True),
        ("k8s-app", True),
        ("topology.k8s.io/zone", True),
        ("annotation.x", False),
    ],
)
def test_the_labels_of_an_identity_are_those_of_ciliums_default_filter(key: str, counts: bool) -> None:
    assert is_identity_label(key) is counts


def test_a_pod_cannot_claim_another_namespace_or_service_account() -> None:
    claims = {
        "io.kubernetes.pod.namespace": "kube-system",
        "io.cilium.k8s.policy.serviceaccount": "admin",
        "io.cilium.k8s.namespace.labels.team": "infra",
    }
    assert pod_labels(claims, "shop", "", {}).texts == {
        "k8s:io.kubernetes.pod.namespace=shop",
        "k8s:io.cilium.k8s.policy.cluster=default",
    }
