"""Lists that say what they have changed: how much of it they keep."""

from __future__ import annotations

from acns.policy.changes import Edition
from acns.policy.objects import Namespace


def test_an_edition_remembers_no_more_changes_than_it_has_objects() -> None:
    objects = [Namespace(f"ns-{number}") for number in range(10)]
    editions = [Edition.first(objects)]
    for _ in range(6):
        step = {each.ref: (each, each) for each in objects[:4]}
        editions.append(editions[-1].next(objects, step))
    last = editions[-1]
    assert sum(map(len, last.steps)) == 8
    assert last.since(editions[-3]) is not None
    assert last.since(editions[-4]) is None


def test_a_step_larger_than_what_is_left_is_not_remembered() -> None:
    objects = [Namespace(f"ns-{number}") for number in range(3)]
    first = Edition.first(objects)
    last = first.next(objects[:1], {each.ref: (each, None) for each in objects[1:]})
    assert last.steps == ()
    assert last.since(first) is None
    assert last.since(last) is not None
