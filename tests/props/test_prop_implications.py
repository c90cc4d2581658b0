"""What selectors say of each other, against the pods that they match."""

from __future__ import annotations

from itertools import product

from hypothesis import example, given
from hypothesis import strategies as st

from acns.policy.doubts.nearby import Nearby
from acns.policy.implications import Implied
from acns.policy.selectors import (
    CLUSTER_KEY,
    NAMESPACE_KEY,
    NAMESPACE_LABELS_PREFIX,
    Key,
    Labels,
    Operator,
    Requirement,
    Selector,
    pod_labels,
)

NAMESPACE_NAME = f"{NAMESPACE_LABELS_PREFIX}kubernetes.io/metadata.name"
OF_NAMESPACE = f"{NAMESPACE_LABELS_PREFIX}team"
NAMES = ("app", "tier", NAMESPACE_KEY, NAMESPACE_NAME, OF_NAMESPACE, CLUSTER_KEY)
VALUES = ("a", "b", "default")
NOBODYS = "z"
"""A value that no selector names stands for all others."""

keys = st.builds(Key, st.sampled_from(("any", "k8s", "reserved")), st.sampled_from(NAMES))
values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=2).map(tuple)
requirements = st.one_of(
    st.builds(Requirement, keys, st.sampled_from((Operator.IN, Operator.NOT_IN)), values),
    st.builds(Requirement, keys, st.sampled_from((Operator.EXISTS, Operator.DOES_NOT_EXIST))),
)
selectors = st.lists(requirements, max_size=3).map(Selector.of)


def pods() -> list[Labels]:
    """One of each kind that selectors can tell apart."""
    some = (*VALUES, NOBODYS)
    own = [
        {name: value for name, value in zip(("app", "tier"), each, strict=True) if value}
        for each in product((*some, ""), repeat=2)
    ]
    teams: list[dict[str, str]] = [{}, *({"team": value} for value in some)]
    return [
        pod_labels(labels, namespace, "", {"kubernetes.io/metadata.name": namespace, **team})
        for labels, namespace, team in product(own, some, teams)
    ]


PODS = pods()


def selector(key: str, operator: Operator, *values: str, source: str = "any") -> Selector:
    return Selector.of([Requirement(Key(source, key), operator, values)])


@given(selectors, selectors)
@example(selector("app", Operator.IN, "a"), selector("app", Operator.IN, "a", source="k8s"))
@example(selector("app", Operator.IN, "a", "b"), selector("app", Operator.NOT_IN, "a"))
@example(selector("app", Operator.NOT_IN, "a"), selector("app", Operator.DOES_NOT_EXIST))
@example(selector(NAMESPACE_KEY, Operator.IN, "a"), selector(NAMESPACE_NAME, Operator.IN, "a"))
@example(selector(NAMESPACE_KEY, Operator.IN, "a"), selector(NAMESPACE_NAME, Operator.IN, "b"))
@example(Selector(), selector("health", Operator.DOES_NOT_EXIST, source="reserved"))
@example(Selector(), selector(CLUSTER_KEY, Operator.IN, "default"))
def test_two_selectors_meet_if_a_pod_matches_both_and_one_includes_what_it_matches_too(
    one: Selector, other: Selector
) -> None:
    first, second = Implied.by(one), Implied.by(other)
    of_one, of_other = (
        {number for number, pod in enumerate(PODS) if each.matches(pod)} for each in (one, other)
    )
    assert first.meets(second) == second.meets(first) == bool(of_one & of_other)
    assert first.includes(second) == (bool(of_other) and of_other <= of_one)
    assert second.includes(first) == (bool(of_one) and of_one <= of_other)


@given(selectors, st.lists(selectors, max_size=4))
def test_those_nearby_are_all_that_meet_and_all_that_include(one: Selector, others: list[Selector]) -> None:
    wanted, nearby = Implied.by(one), Nearby({each: each for each in others})
    for found, asked in ((nearby.meeting, Implied.meets), (nearby.including, Implied.includes)):
        near = list(found(wanted))
        assert len(near) == len(set(near))
        assert set(near) == {each for each in others if asked(Implied.by(each), wanted)}
