"""Label sets: each once, and no two as one."""

from __future__ import annotations

from acns.policy.label_sets import LabelSets
from acns.policy.selectors import K8S, Key, Labels, Operator, Requirement, Selector


def test_equal_labels_are_one_set() -> None:
    sets = LabelSets()
    one = sets.of(Labels.of([(K8S, "app", "web"), (K8S, "tier", "front")]))
    assert sets.of(Labels.of([(K8S, "tier", "front"), (K8S, "app", "web")])) is one


def test_labels_that_read_alike_are_two_sets() -> None:
    sets = LabelSets()
    odd, plain = Labels.of([(K8S, "a=b", "c")]), Labels.of([(K8S, "a", "b=c")])
    assert odd.texts == plain.texts
    first, second = sets.of(odd), sets.of(plain)
    wanted = Selector.of([Requirement(Key(K8S, "a"), Operator.IN, ("b=c",))])
    assert list(sets.matching(wanted)) == [second]
    sets.settle()
    assert sets.of(odd) is not first
