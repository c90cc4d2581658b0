"""What doubts are looked for in: a cluster, resolved for all of its nodes, in an enforcement mode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from ipaddress import IPv4Address
from types import MappingProxyType

from acns.dns.name import Name
from acns.errors import Problem
from acns.policy.changes import Change
from acns.policy.cluster import Cluster
from acns.policy.codes import Code
from acns.policy.directory import Directory, Resident
from acns.policy.doubts.nearby import Nearby
from acns.policy.implications import Implied
from acns.policy.meaning import Meaning, Meanings
from acns.policy.model import Direction, Enforcement, Origin
from acns.policy.objects import Policy, Rule, SelectedFQDN, Spec
from acns.policy.selectors import Selector
from acns.policy.specs import Specs
from acns.policy.view import View

Resolutions = Mapping[Name, Collection[IPv4Address]]
"""What names are known to resolve to."""
_Numbered = tuple[int, Policy, Spec]
_NAMED_AT_MOST = 3
NOTHING_KNOWN: Resolutions = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Doubt:
    """A problem, and the policy (kind, key) whose text may silence it: also at `rule_line`, that of the rule
    in which it stands."""

    problem: Problem
    policy: tuple[str, str] | None = None
    rule_line: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """Pods that policies cannot tell apart, by the first of their names; or `meaning` None: the pods that one
    policy speaks of, as long as there are none. `perhaps`: what may apply to some of these besides, often
    much: it is looked for when it is asked for."""

    who: str
    specs: tuple[Spec, ...]
    meaning: Meaning | None = None
    enforcement: Enforcement = Enforcement.DEFAULT
    perhaps: Callable[[], tuple[Spec, ...]] = tuple

    def allows_out(self) -> Iterator[Rule]:
        """The egress rules that allow something."""
        return _allows_out(self.specs)

    def may_allow_out(self) -> Iterator[Rule]:
        """Those, and then the ones that perhaps apply."""
        yield from _allows_out(self.specs)
        yield from _allows_out(self.perhaps())

    @property
    def denies_out(self) -> bool:
        """Whether egress is denied by default."""
        if self.enforcement is not Enforcement.DEFAULT:
            return self.enforcement is Enforcement.ALWAYS
        return any(Direction.EGRESS in spec.default_deny for spec in self.specs)


def _allows_out(specs: Iterable[Spec]) -> Iterator[Rule]:
    return (rule for spec in specs for rule in spec.of(Direction.EGRESS) if not rule.deny)


class Scene:
    """A cluster with its indices."""

    def __init__(
        self,
        cluster: Cluster,
        enforcement: Enforcement = Enforcement.DEFAULT,
        resolutions: Resolutions = NOTHING_KNOWN,
    ) -> None:
        self.cluster = cluster
        self.enforcement = enforcement
        self.resolutions = resolutions
        self.directory = Directory(cluster)
        self.specs = Specs()
        self.specs.update(Change(come=cluster.policies))

    @cached_property
    def subjects(self) -> list[Subject]:
        """All that policies speak of, on each node."""
        on_nodes: dict[str, list[Resident]] = {}
        for each in sorted(self.directory.everybody(), key=lambda one: one.key):
            on_nodes.setdefault(each.node_name, []).append(each)
        found = [each for node in sorted(on_nodes) for each in self._on_node(node, on_nodes[node])]
        return [*found, *self._without_pods(found)]

    @cached_property
    def inside(self) -> frozenset[IPv4Address]:
        """The addresses of pods, nodes and Services, which no CIDR selects."""
        return self.directory.cluster_addresses | self.directory.services.addresses

    @property
    def is_populated(self) -> bool:
        """Whether there are pods at all: else this is no cluster but a folder of policies."""
        return bool(self.directory.residents)

    def _on_node(self, node: str, residents: list[Resident]) -> Iterator[Subject]:
        meanings = Meanings(View(self.directory, node), self.specs, self.enforcement)
        seen: dict[int, Meaning] = {}
        for resident in residents:
            meaning = meanings.of([resident])
            if id(meaning) not in seen:
                seen[id(meaning)] = meaning
                who = f"pod {resident.key}"
                yield Subject(who, meanings.specs_for(resident), meaning, self.enforcement)

    def _without_pods(self, subjects: list[Subject]) -> Iterator[Subject]:
        """Of policies that select none: pods that they would select, and what selects these too. Those of one
        selector are alike."""
        applying = {id(spec) for subject in subjects for spec in subject.specs}
        seen: set[Selector] = set()
        for policy in self.cluster.policies:
            if not any(id(spec) in applying for spec in policy.specs):
                for spec in policy.specs:
                    if spec.subject not in seen:
                        seen.add(spec.subject)
                        yield self._imagined(policy, spec.subject)

    def _imagined(self, policy: Policy, subject: Selector) -> Subject:
        wanted = Implied.by(subject)
        sure = _in_order(self._nearby.including(wanted))
        numbers = set(map(_number, sure))

        @cache
        def perhaps() -> tuple[Spec, ...]:
            met = _in_order(self._nearby.meeting(wanted))
            return tuple(spec for number, _, spec in met if number not in numbers)

        others = {other.key: None for _, other, _ in sure if other is not policy}
        who = _who_would_have(policy.key, *others)
        specs = tuple(spec for _, _, spec in sure)
        return Subject(who, specs, enforcement=self.enforcement, perhaps=perhaps)

    @cached_property
    def _by_subject(self) -> dict[Selector, list[_Numbered]]:
        """All specs, in order."""
        found: dict[Selector, list[_Numbered]] = {}
        specs = ((policy, spec) for policy in self.cluster.policies for spec in policy.specs)
        for number, (policy, spec) in enumerate(specs):
            found.setdefault(spec.subject, []).append((number, policy, spec))
        return found

    @cached_property
    def _nearby(self) -> Nearby[list[_Numbered]]:
        return Nearby(self._by_subject)


def _in_order(found: Iterable[list[_Numbered]]) -> list[_Numbered]:
    return sorted((each for some in found for each in some), key=_number)


def _number(one: _Numbered) -> int:
    return one[0]


def _who_would_have(key: str, *others: str) -> str:
    if not others:
        return f"a pod with policy {key} alone"
    listed = ", ".join((key, *others[:_NAMED_AT_MOST]))
    more = f" and {len(others) - _NAMED_AT_MOST} more" if len(others) > _NAMED_AT_MOST else ""
    return f"a pod with policies {listed}{more}"


def at_rule(code: Code, origin: Origin, message: str, hint: str = "") -> Doubt:
    """A warning about a rule."""
    problem = Problem(origin.path, origin.line, origin.column, message, hint, warning=True, code=code)
    return Doubt(problem, (origin.kind, origin.policy))


def at_entry(code: Code, rule: Rule, entry: SelectedFQDN, message: str, hint: str = "") -> Doubt:
    """A warning about one entry of a rule's toFQDNs."""
    at, origin = entry.place, rule.origin
    problem = Problem(at.path, at.line, at.column, message, hint, warning=True, code=code)
    return Doubt(problem, (origin.kind, origin.policy), origin.line)


def at_policy(code: Code, policy: Policy, message: str, hint: str = "") -> Doubt:
    """A warning about a policy as a whole."""
    place = policy.place
    problem = Problem(place.path, place.line, place.column, message, hint, warning=True, code=code)
    return Doubt(problem, (policy.kind, policy.key))
