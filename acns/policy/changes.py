"""What is new in a cluster since the last one, so that the rest can stay as it is.

Objects are told apart by identity first and by value then: a source that reads a file again and finds the
same in it has changed nothing. An edited object has both gone and come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Generic, TypeVar

from acns.policy.objects import Object, Policy

T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """Between two lists of objects of one kind."""

    gone: tuple[T, ...] = ()
    come: tuple[T, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gone or self.come)

    @property
    def objects(self) -> tuple[T, ...]:
        """All that it touches."""
        return (*self.gone, *self.come)


@dataclass(frozen=True, slots=True)
class Moves:
    """Between two clusters, in the words that resolving cares about.

    `addresses`: where a pod came, went, or has other labels or ports now. `port_names`: the named ports of
    pods there, before and after. `backends`: who is, or was, behind a Service whose way has changed. `nodes`:
    some node has other addresses now; `services`: some Service or slice is new, gone or edited.
    """

    addresses: frozenset[IPv4Address] = frozenset()
    port_names: frozenset[str] = frozenset()
    backends: frozenset[IPv4Address] = frozenset()
    nodes: bool = False
    services: bool = False
    cidr_groups: bool = False
    policies: Change[Policy] = field(default_factory=Change)


def between(old: tuple[T, ...], new: tuple[T, ...]) -> Change[T]:
    """What has changed from `old` to `new`, each without two objects of one `ref`."""
    if old is new:
        return Change()
    were, are = set(map(id, old)), set(map(id, new))
    gone = {each.ref: each for each in old if id(each) not in are}
    come = [each for each in new if id(each) not in were]
    same = {each.ref for each in come if gone.get(each.ref) == each}
    return Change(
        tuple(each for ref, each in gone.items() if ref not in same),
        tuple(each for each in come if each.ref not in same),
    )
