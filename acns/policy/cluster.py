"""A cluster as seen at one moment: its objects by kind, immutable and in a fixed order.

The same objects give an equal cluster whatever order they came in, so resolving is reproducible and "nothing
changed" is `==`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from acns.policy.objects import CIDRGroup, EndpointSlice, Namespace, Node, Object, Pod, Policy, Ref, Service


@dataclass(frozen=True, slots=True)
class Cluster:
    """All objects, sorted by `ref` within their kind."""

    namespaces: tuple[Namespace, ...] = ()
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    cidr_groups: tuple[CIDRGroup, ...] = ()
    policies: tuple[Policy, ...] = ()

    @classmethod
    def of(cls, objects: Iterable[Object]) -> Cluster:
        """Of two objects with the same `ref` the later one counts."""
        by_ref: dict[Ref, Object] = {each.ref: each for each in objects}
        ordered = [by_ref[ref] for ref in sorted(by_ref)]
        return cls(
            namespaces=tuple(each for each in ordered if isinstance(each, Namespace)),
            nodes=tuple(each for each in ordered if isinstance(each, Node)),
            pods=tuple(each for each in ordered if isinstance(each, Pod)),
            services=tuple(each for each in ordered if isinstance(each, Service)),
            slices=tuple(each for each in ordered if isinstance(each, EndpointSlice)),
            cidr_groups=tuple(each for each in ordered if isinstance(each, CIDRGroup)),
            policies=tuple(each for each in ordered if isinstance(each, Policy)),
        )

    def __iter__(self) -> Iterator[Object]:
        return iter(self.objects())

    def objects(self) -> tuple[Object, ...]:
        return (
            *self.namespaces, *self.nodes, *self.pods, *self.services, *self.slices, *self.cidr_groups,
            *self.policies,
        )  # fmt: skip
