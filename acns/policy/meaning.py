"""What a label set may do, and what may be done to it: every policy that selects it, its rules added up.

Endpoints with the same labels (and the same named ports) have the same meaning, made once. It is made again
when a policy that selects it comes or goes, when one of its rules comes to something else, or when somebody
moved who may be one of its DNS servers; where the same came of it, it is the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from acns.policy.changes import Moves
from acns.policy.directory import Resident
from acns.policy.model import Addresses, Direction, DirectionPolicy, DNSAllow, Enforcement, Everything, Match
from acns.policy.objects import NamedPort, Rule, Spec
from acns.policy.redirects import Expansions, Redirects, redirects
from acns.policy.rules import Resolved, Rules
from acns.policy.specs import Edit, Specs
from acns.policy.view import View


@dataclass(frozen=True, slots=True)
class Meaning:
    """An `EndpointPolicy` without the endpoint. `dns` and what it was made from stand in `redirects`;
    `groups`: the keys of all groups that its matches name."""

    egress: DirectionPolicy
    ingress: DirectionPolicy
    redirects: Redirects = field(default_factory=Redirects)
    groups: frozenset[str] = frozenset()

    @property
    def dns(self) -> tuple[DNSAllow, ...]:
        return self.redirects.dns


UNRESTRICTED = Meaning(DirectionPolicy(), DirectionPolicy())
CLOSED = Meaning(DirectionPolicy(enforced=True), DirectionPolicy(enforced=True))


@dataclass(slots=True)
class _Kept:
    """The meaning of a pod's labels and ports, and what it was made from. `selected` False: other policies
    may apply by now; `fresh` False: something else may have come of it."""

    resident: Resident
    specs: tuple[Spec, ...] = ()
    rules: frozenset[int] = frozenset()
    meaning: Meaning = field(default_factory=lambda: replace(UNRESTRICTED))  # told apart by identity
    selected: bool = False
    fresh: bool = False


_Key = tuple[frozenset[str], tuple[NamedPort, ...]]


@dataclass(frozen=True, slots=True)
class _Applied:
    """A rule that applies, with its spec and what it comes to."""

    spec: Spec
    rule: Rule
    resolved: Resolved


class Meanings:
    """The meanings in use on a node."""

    def __init__(self, view: View, specs: Specs, enforcement: Enforcement) -> None:
        self._specs = specs
        self._enforcement = enforcement
        self._rules = Rules(view)
        self._expansions = Expansions(view)
        self._view = view
        self._kept: dict[_Key, _Kept] = {}
        self._lost = 0  # rules that came to something else, or are no more: their groups may be nobody's

    def of(self, claimants: Sequence[Resident]) -> Meaning:
        """What the policies say of the node's pod at an address. Of two with one address nobody can tell
        which of them sends: neither may."""
        resident, *others = claimants
        if others:
            return UNRESTRICTED if self._enforcement is Enforcement.NEVER else CLOSED
        return self._up_to_date(resident).meaning

    def specs_for(self, resident: Resident) -> tuple[Spec, ...]:
        """The specs that apply to a pod, in the order of policies."""
        return self._up_to_date(resident).specs

    def update(self, moves: Moves, edit: Edit) -> bool:
        """Policies, or what they speak of, have changed (the view knows already). Whether something else may
        have come of it for some pod."""
        self._rules.forget(edit.gone)
        rules, targets = self._rules.update(moves), self._expansions.update(moves)
        self._lost += len(edit.gone) + len(rules)
        touched = self._view.touched
        for kept in self._kept.values():
            made_from = kept.meaning.redirects
            kept.selected = not any(subject.matches(kept.resident.labels) for subject in edit.subjects)
            kept.fresh = (
                kept.selected
                and rules.isdisjoint(kept.rules)
                and targets.isdisjoint(made_from.targets)
                and touched.isdisjoint(made_from.groups)
            )
        return not all(kept.fresh for kept in self._kept.values())

    def keep_only(self, meanings: Iterable[Meaning]) -> None:
        """Forget all others. These have been asked for since the last update."""
        live = set(map(id, meanings))
        for key in [key for key, kept in self._kept.items() if id(kept.meaning) not in live]:
            del self._kept[key]
        made_from = (kept.meaning.redirects.targets for kept in self._kept.values())
        self._expansions.keep_only(frozenset[str]().union(*made_from))
        if self._lost > len(self._rules):  # looking through all rules is worth it now and then
            self._lost = 0
            self._view.keep_only(self._rules.groups())

    def _up_to_date(self, resident: Resident) -> _Kept:
        key = (resident.endpoint.labels, resident.named_ports)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept(resident)
        if not kept.selected:
            never = self._enforcement is Enforcement.NEVER
            kept.specs = () if never else tuple(self._specs.applying_to(resident.labels))
        if not kept.fresh:
            self._make(kept)
        kept.selected = kept.fresh = True
        return kept

    def _make(self, kept: _Kept) -> None:
        ports = kept.resident.named_ports
        applied = [
            _Applied(spec, rule, self._rules.resolved(rule, ports))
            for spec in kept.specs
            for rule in spec.rules
        ]
        egress, ingress = (self._direction(applied, each) for each in (Direction.EGRESS, Direction.INGRESS))
        meaning = Meaning(egress, ingress, self._redirects(applied, egress), _groups(egress, ingress))
        kept.meaning = _renewed(kept.meaning, meaning)
        kept.rules = frozenset(id(each.rule) for each in applied)

    def _direction(self, applied: Sequence[_Applied], direction: Direction) -> DirectionPolicy:
        mine = [each for each in applied if each.rule.direction is direction]
        if not mine:
            return DirectionPolicy(enforced=self._enforcement is Enforcement.ALWAYS)
        allows = [match for each in mine if not each.rule.deny for match in each.resolved.matches]
        denies = [match for each in mine if each.rule.deny for match in each.resolved.matches]
        if not self._denies_by_default(mine, direction):
            # Nothing is denied but what is named, yet denies and redirection must act (as Cilium's wildcard
            # rule, computePolicyEnforcementAndRules).
            allows.append(Match(Everything(), None, mine[0].rule.origin))
        return DirectionPolicy(True, tuple(allows), tuple(denies))

    def _denies_by_default(self, applied: Iterable[_Applied], direction: Direction) -> bool:
        always = self._enforcement is Enforcement.ALWAYS
        return always or any(direction in each.spec.default_deny for each in applied)

    def _redirects(self, applied: Sequence[_Applied], egress: DirectionPolicy) -> Redirects:
        mine = [each for each in applied if each.rule.direction is Direction.EGRESS]
        allows = [each.resolved for each in mine if not each.rule.deny]
        names_count = self._denies_by_default(mine, Direction.EGRESS)
        return redirects(allows, egress.denies, names_count, self._expansions)


def _renewed(old: Meaning, new: Meaning) -> Meaning:
    """The new one, with the old one's parts where they are equal."""
    if new == old:
        return old
    return replace(
        new,
        egress=old.egress if old.egress == new.egress else new.egress,
        ingress=old.ingress if old.ingress == new.ingress else new.ingress,
        redirects=old.redirects if old.redirects == new.redirects else new.redirects,
    )


def _groups(*directions: DirectionPolicy) -> frozenset[str]:
    matches = (match for each in directions for match in (*each.allows, *each.denies))
    return frozenset(match.peer.key for match in matches if isinstance(match.peer, Addresses))
