"""What selectors say of pods that are not there: whether one can match two selectors, whether it must.

A selector is taken apart into the values that each label may have. Of every pod it is known that its labels
have the source `k8s`, each one value; that its namespace and cluster are among them; and that it has none of
Cilium's own (`reserved:`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from acns.policy.selectors import (
    CLUSTER_KEY,
    CLUSTER_NAME,
    NAMESPACE_KEY,
    NAMESPACE_NAME_KEY,
    RESERVED,
    Key,
    Operator,
    Requirement,
    Selector,
)


@dataclass(frozen=True, slots=True)
class _Values:
    """What a label may be: one of `only`, or where that is None anything but `but`; with `absent`, or not
    there."""

    absent: bool
    only: frozenset[str] | None = None
    but: frozenset[str] = frozenset()

    @property
    def is_possible(self) -> bool:
        return self.absent or self.only is None or bool(self.only)

    def __and__(self, other: _Values) -> _Values:
        absent = self.absent and other.absent
        if self.only is None and other.only is None:
            return _Values(absent, but=self.but | other.but)
        if self.only is None or other.only is None:
            return _Values(absent, (self.only or other.only or frozenset()) - (self.but | other.but))
        return _Values(absent, self.only & other.only)

    def __le__(self, other: _Values) -> bool:
        """Whether all that this may be is among the other."""
        if self.absent and not other.absent:
            return False
        if self.only is None:
            return other.only is None and other.but <= self.but
        return self.only.isdisjoint(other.but) if other.only is None else self.only <= other.only

    def meets(self, other: _Values) -> bool:
        """Whether both may be the same."""
        if self.absent and other.absent:
            return True
        if self.only is None:
            return other.only is None or not other.only <= self.but
        return not (self.only <= other.but if other.only is None else self.only.isdisjoint(other.only))


_ANYTHING = _Values(absent=True)
_OF_EVERY_POD = {
    NAMESPACE_KEY: _Values(absent=False),
    CLUSTER_KEY: _Values(absent=False, only=frozenset({CLUSTER_NAME})),
}
_NOTHING = _Values(absent=True, only=frozenset())


@dataclass(frozen=True, slots=True)
class Implied:
    """What a selector says of the labels of a pod that it matches, by name; and whether there can be one."""

    values: Mapping[str, _Values]
    is_possible: bool

    @classmethod
    def by(cls, selector: Selector) -> Implied:
        found: dict[str, _Values] = {}
        for each in selector.requirements:
            name = _name(each.key)
            found[name] = found.get(name, _known(name)) & _required(each)
        return cls(found, all(each.is_possible for each in found.values()))

    @property
    def required(self) -> Mapping[str, frozenset[str]]:
        """The labels that it must have, each with the values of which it must be one."""
        return {
            name: each.only for name, each in self.values.items() if each.only is not None and not each.absent
        }

    def meets(self, other: Implied) -> bool:
        """Whether some pod may match both."""
        if not self.is_possible or not other.is_possible:
            return False
        common = self.values.keys() & other.values.keys()
        return all(self.values[name].meets(other.values[name]) for name in common)

    def includes(self, other: Implied) -> bool:
        """Whether every pod that the other one matches is matched by this, and there may be one."""
        return other.is_possible and all(
            (other.values.get(name) or _known(name)) <= each for name, each in self.values.items()
        )


def _name(key: Key) -> str:
    if key.source == RESERVED:
        return str(key)
    return NAMESPACE_KEY if key.name == NAMESPACE_NAME_KEY else key.name


def _known(name: str) -> _Values:
    """What is known of a label whatever a selector says."""
    return _NOTHING if name.startswith(f"{RESERVED}:") else _OF_EVERY_POD.get(name, _ANYTHING)


def _required(requirement: Requirement) -> _Values:
    values = frozenset(requirement.values)
    match requirement.operator:
        case Operator.IN:
            return _Values(absent=False, only=values)
        case Operator.NOT_IN:
            return _Values(absent=True, but=values)
        case Operator.EXISTS:
            return _Values(absent=False)
    return _NOTHING
