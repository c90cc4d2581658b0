"""Which policies apply to a label set: the specs of a cluster, indexed by their subjects."""

from __future__ import annotations

from dataclasses import dataclass

from acns.policy.anchors import Pair, anchors_of, pairs_of
from acns.policy.changes import Change
from acns.policy.objects import Policy, Ref, Rule, Spec
from acns.policy.selectors import Labels, Selector

_Numbered = tuple[Ref, int, Spec]  # the order of policies, whatever order they came in


@dataclass(frozen=True, slots=True)
class Edit:
    """What an update did: the subjects of all specs that came or went, and the rules that are no more."""

    subjects: tuple[Selector, ...]
    gone: tuple[Rule, ...]


class Specs:
    """The index. Many policies share few subjects, and few subjects speak of any one label."""

    def __init__(self) -> None:
        self._policies: dict[Ref, Policy] = {}
        self._by_subject: dict[Selector, list[_Numbered]] = {}
        self._by_anchor: dict[Pair | None, dict[Selector, list[_Numbered]]] = {}

    def update(self, policies: Change[Policy]) -> Edit:
        """Take over what is new."""
        # An equal policy may have replaced the one we hold; its rules are told apart by identity.
        gone = [self._policies.pop(policy.ref) for policy in policies.gone]
        for policy in gone:
            for subject in {spec.subject for spec in policy.specs}:
                self._remove(subject, policy.ref)
        for policy in policies.come:
            self._policies[policy.ref] = policy
            for number, spec in enumerate(policy.specs):
                self._add(spec.subject, (policy.ref, number, spec))
        specs = (spec for policy in (*gone, *policies.come) for spec in policy.specs)
        rules = (rule for policy in gone for spec in policy.specs for rule in spec.rules)
        return Edit(tuple({spec.subject for spec in specs}), tuple(rules))

    def applying_to(self, labels: Labels) -> list[Spec]:
        """In the order of policies."""
        found: dict[Selector, list[_Numbered]] = {}
        for place in (None, *pairs_of(labels)):
            for subject, specs in self._by_anchor.get(place, {}).items():
                if subject.matches(labels):
                    found[subject] = specs
        numbered = (each for specs in found.values() for each in specs)
        return [spec for _, _, spec in sorted(numbered, key=lambda each: each[:2])]

    def _add(self, subject: Selector, spec: _Numbered) -> None:
        specs = self._by_subject.setdefault(subject, [])
        specs.append(spec)
        for place in _places(subject):
            self._by_anchor.setdefault(place, {})[subject] = specs

    def _remove(self, subject: Selector, policy: Ref) -> None:
        specs = self._by_subject[subject]
        specs[:] = [each for each in specs if each[0] != policy]
        if not specs:
            del self._by_subject[subject]
            for place in _places(subject):
                del self._by_anchor[place][subject]


def _places(subject: Selector) -> tuple[Pair | None, ...]:
    return anchors_of(subject) or (None,)
