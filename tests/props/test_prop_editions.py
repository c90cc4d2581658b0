"""Lists that say what they have changed, against comparing them whole; and a resolver that goes by them."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acns.policy.changes import Edition, between
from acns.policy.cluster import Cluster
from acns.policy.objects import Object, Ref
from acns.policy.resolve import Resolver, resolve
from acns.shim.sources.kubernetes.arranged import Arranged
from acns.shim.sources.kubernetes.resources import CIDR_GROUPS, NAMESPACES, NODES, PODS, SERVICES, SLICES

from .clusters import NODES as NODE_NAMES
from .clusters import objects, worlds

KINDS = {one.kind: one for one in (NAMESPACES, NODES, PODS, SERVICES, SLICES, CIDR_GROUPS)}
walks = st.lists(st.tuples(st.booleans(), st.booleans(), objects), min_size=1, max_size=12)
"""Each time: whether the object comes or goes, and whether somebody looks afterwards."""


class Shelves:
    """Objects by kind, as a source keeps them."""

    def __init__(self) -> None:
        self.known: dict[Ref, Object] = {}
        self._by_kind: dict[str, Arranged] = {}

    def put(self, one: Object, *, there: bool) -> None:
        before, after = self.known.get(one.ref), one if there else None
        arranged = self._by_kind.setdefault(one.ref[0], Arranged())
        arranged.put((one.ref[1], one.ref[2]), before, after)
        self.known.pop(one.ref, None)
        if after:
            self.known[one.ref] = after

    def edition(self, kind: str) -> Edition[Object]:
        return self._by_kind.setdefault(kind, Arranged()).edition()

    def cluster(self) -> Cluster:
        policies = (kind for kind in self._by_kind if kind.endswith("Policy"))
        return Cluster(
            namespaces=self.edition("Namespace"),  # type: ignore[arg-type]
            nodes=self.edition("Node"),  # type: ignore[arg-type]
            pods=self.edition("Pod"),  # type: ignore[arg-type]
            services=self.edition("Service"),  # type: ignore[arg-type]
            slices=self.edition("EndpointSlice"),  # type: ignore[arg-type]
            cidr_groups=self.edition("CiliumCIDRGroup"),  # type: ignore[arg-type]
            policies=tuple(each for kind in sorted(policies) for each in self.edition(kind)),  # type: ignore[misc]
        )


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(world=worlds(), walk=walks)
def test_a_resolver_that_is_told_the_changes_says_what_a_new_one_says(
    world: dict[Ref, Object], walk: list[tuple[bool, bool, Object]]
) -> None:
    shelves = Shelves()
    for one in world.values():
        shelves.put(one, there=True)
    resolvers = {node: Resolver(node) for node in NODE_NAMES}
    for there, looks, one in [(True, True, next(iter(world.values()))), *walk]:
        shelves.put(one, there=there)
        cluster = shelves.cluster()
        assert cluster == Cluster.of(shelves.known.values())
        for node, resolver in resolvers.items():
            if looks:
                assert resolver.resolve(cluster) == resolve(cluster, node)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(walk=walks)
def test_an_edition_says_of_every_earlier_one_what_a_comparison_would_say(
    walk: list[tuple[bool, bool, Object]],
) -> None:
    shelves = Shelves()
    seen: list[tuple[Object, ...]] = []
    for there, looks, one in walk:
        shelves.put(one, there=there)
        if looks:
            seen.append(shelves.edition("Pod"))
    last = shelves.edition("Pod")
    for earlier in seen:
        told, compared = between(earlier, last), between(tuple(earlier), tuple(last))
        assert sorted(each.ref for each in told.gone) == sorted(each.ref for each in compared.gone)
        assert {each.ref: each for each in told.come} == {each.ref: each for each in compared.come}


def test_who_missed_more_editions_than_are_remembered_compares_everything() -> None:
    first: Edition[Object] = Edition.first(())
    last = first
    for _ in range(100):
        last = last.next((), {})
    assert last.since(first) is None
    assert last.since(last) is not None
    assert Edition.first(()).since(last) is None
