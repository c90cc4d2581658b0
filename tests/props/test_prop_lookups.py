"""Looking pods and policies up by labels, against matching everything with everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acns.policy import groups
from acns.policy.changes import between
from acns.policy.cluster import Cluster
from acns.policy.directory import Directory
from acns.policy.objects import Object, Ref
from acns.policy.selectors import Selector
from acns.policy.specs import Specs

from .clusters import objects, selectors, worlds


@given(world=worlds(), edits=st.lists(objects, max_size=4), selector=selectors)
def test_a_group_is_who_matches_however_the_cluster_came_about(
    world: dict[Ref, Object], edits: list[Object], selector: Selector
) -> None:
    directory = Directory(Cluster.of(world.values()))
    directory.update(Cluster.of({**world, **{each.ref: each for each in edits}}.values()))
    matching = {
        address
        for address, claimants in directory.residents.items()
        if all(selector.matches(each.labels) for each in claimants)
    }
    assert groups.members(groups.Pods(selector), directory, "n1") == matching


@given(world=worlds(), edits=st.lists(objects, max_size=4))
def test_the_specs_of_a_pod_are_those_that_match_in_the_order_of_policies(
    world: dict[Ref, Object], edits: list[Object]
) -> None:
    before = Cluster.of(world.values())
    after = Cluster.of({**world, **{each.ref: each for each in edits}}.values())
    specs = Specs()
    specs.update(between((), before.policies))
    specs.update(between(before.policies, after.policies))
    for resident in Directory(after).everybody():
        assert specs.applying_to(resident.labels) == [
            spec
            for policy in after.policies
            for spec in policy.specs
            if spec.subject.matches(resident.labels)
        ]
