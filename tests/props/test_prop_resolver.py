"""A resolver that remembers, against one that starts from nothing."""

from __future__ import annotations

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acns.policy.cluster import Cluster
from acns.policy.model import Enforcement, NodePolicy
from acns.policy.objects import Object, Ref
from acns.policy.resolve import Resolver, resolve

from .clusters import NODES, objects, worlds

Edit = tuple[str, Object]


def edited(world: dict[Ref, Object], edit: Edit) -> dict[Ref, Object]:
    """An object put, removed, or read again: an equal one in its place."""
    verb, one = edit
    rest = {ref: each for ref, each in world.items() if ref != one.ref}
    match verb:
        case "remove":
            return rest
        case "again":
            return {ref: copy.deepcopy(each) for ref, each in world.items()}
    return {**rest, one.ref: one}


edits = st.tuples(st.sampled_from(["put", "put", "put", "remove", "again"]), objects)


@pytest.mark.parametrize("enforcement", Enforcement)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(world=worlds(), walk=st.lists(edits, min_size=1, max_size=8))
def test_after_any_walk_of_edits_it_says_what_a_new_one_says(
    enforcement: Enforcement, world: dict[Ref, Object], walk: list[Edit]
) -> None:
    resolvers = {node: Resolver(node, enforcement) for node in NODES}
    last: dict[str, NodePolicy] = {}
    for edit in (None, *walk):
        world = edited(world, edit) if edit else world
        cluster = Cluster.of(world.values())
        for node, resolver in resolvers.items():
            found = resolver.resolve(cluster)
            assert found == resolve(cluster, node, enforcement)
            if node in last:
                assert_kept(last[node], found)
            last[node] = found


def assert_kept(before: NodePolicy, after: NodePolicy) -> None:
    """What is equal is the same object."""
    if before == after:
        assert before is after
    known = {one.endpoint.key: one for one in before.endpoints}
    for one in after.endpoints:
        if one == known.get(one.endpoint.key):
            assert one is known[one.endpoint.key]
    for key, members in after.groups.items():
        if members == before.groups.get(key):
            assert members is before.groups[key]
