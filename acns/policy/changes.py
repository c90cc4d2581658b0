"""What is new in a cluster since the last one, so that the rest can stay as it is.

Objects are told apart by identity first and by value then: a source that reads a file again and finds the
same in it has changed nothing. An edited object has both gone and come. Where a list says itself what it has
changed since another one (`Edition`), nothing else is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Generic, TypeVar

from acns.policy.anchors import Pair
from acns.policy.objects import Object, Policy, Ref

T = TypeVar("T", bound=Object)

Step = Mapping[Ref, tuple[T | None, T | None]]
"""What was at a ref before, and what is there after."""

_STEPS: Final = 64
"""So many editions may be passed over, as long as they say less than the list itself does; who missed more
compares everything."""


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

    `addresses`: where a pod came, went, or has other labels or ports now. `port_names`, `labels`: the named
    ports and the labels of pods there, before and after. `backends`: who is, or was, behind a Service whose
    way has changed. `nodes`: some node has other addresses now; `services`: some Service or slice is new,
    gone or edited.
    """

    addresses: frozenset[IPv4Address] = frozenset()
    port_names: frozenset[str] = frozenset()
    labels: frozenset[Pair] = frozenset()
    backends: frozenset[IPv4Address] = frozenset()
    nodes: bool = False
    services: bool = False
    cidr_groups: bool = False
    policies: Change[Policy] = field(default_factory=Change)


class Edition(tuple[T, ...]):
    """Objects of one kind by `ref`, and the steps that led here from earlier editions of the same line."""

    line: object
    number: int
    steps: tuple[Step[T], ...]

    @classmethod
    def first(cls, objects: Iterable[T]) -> Edition[T]:
        """The beginning of a line."""
        return cls._of(objects, object(), 0, ())

    def next(self, objects: Iterable[T], step: Step[T]) -> Edition[T]:
        """The one after this; `step`: all that is not as it was."""
        made = self._of(objects, self.line, self.number + 1, (*self.steps[1 - _STEPS :], step))
        size = sum(map(len, made.steps))
        while size > len(made) and made.steps:
            size -= len(made.steps[0])
            made.steps = made.steps[1:]
        return made

    def since(self, old: tuple[T, ...]) -> Change[T] | None:
        """What has changed; None where that is not known."""
        if not isinstance(old, Edition) or old.line is not self.line:
            return None
        missed = self.number - old.number
        if not 0 <= missed <= len(self.steps):
            return None
        return _added_up(self.steps[len(self.steps) - missed :])

    @classmethod
    def _of(cls, objects: Iterable[T], line: object, number: int, steps: tuple[Step[T], ...]) -> Edition[T]:
        made = cls(objects)
        made.line, made.number, made.steps = line, number, steps
        return made


def _added_up(steps: Iterable[Step[T]]) -> Change[T]:
    """One step instead of these: what was first, what is last."""
    total: dict[Ref, tuple[T | None, T | None]] = {}
    for step in steps:
        for ref, (before, after) in step.items():
            total[ref] = (total[ref][0] if ref in total else before, after)
    real = [total[ref] for ref in sorted(total) if total[ref][0] != total[ref][1]]
    return Change(
        tuple(before for before, _ in real if before is not None),
        tuple(after for _, after in real if after is not None),
    )


def between(old: tuple[T, ...], new: tuple[T, ...]) -> Change[T]:
    """What has changed from `old` to `new`, each without two objects of one `ref`."""
    if old is new:
        return Change()
    if isinstance(new, Edition) and (known := new.since(old)) is not None:
        return known
    were, are = set(map(id, old)), set(map(id, new))
    gone = {each.ref: each for each in old if id(each) not in are}
    come = [each for each in new if id(each) not in were]
    same = {each.ref for each in come if gone.get(each.ref) == each}
    return Change(
        tuple(each for ref, each in gone.items() if ref not in same),
        tuple(each for each in come if each.ref not in same),
    )
