"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: from manifest to `Policy`.

A policy is taken whole or not at all: a rule less would allow less than was meant, a restriction less would
allow more. So any error rejects the object, and all of its errors are reported together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from acns.errors import Problem
from acns.located import Document, Path, field_names, nearest
from acns.policy import cnp_schema, selectors
from acns.policy.cnp_rule import SECTIONS, RuleReader
from acns.policy.codes import Code
from acns.policy.kubernetes import place
from acns.policy.model import Direction
from acns.policy.objects import Policy, Rule, Spec
from acns.policy.profiles import Profile
from acns.policy.selector_schema import LabelSelector, requirements_of
from acns.policy.selectors import NAMESPACE, Selector
from acns.policy.structure import Report, check

CLUSTERWIDE = "CiliumClusterwideNetworkPolicy"


def read_policy(
    document: Document, where: Path, kind: str, profile: Profile
) -> tuple[Policy | None, list[Problem]]:
    """The policy object at `where`; None with the errors, or the policy with its warnings."""
    model, problems = check(cnp_schema.PolicyObject, document, where)
    report = Report(document, problems)
    frame = _Frame.of(report, where, kind)
    frame.check(report)
    rules = RuleReader(report, profile, kind, frame.namespace, frame.key)
    reader = _SpecReader(report, frame.namespace, rules)
    specs = [reader.spec(_spec_at(model, at), at) for at in frame.specs(report)]
    if model is None or report.has_errors:
        return None, report.problems
    policy = Policy(
        kind=kind,
        namespace=frame.namespace,
        name=frame.name,
        specs=tuple(spec for spec in specs if spec),
        problems=tuple(report.problems),
        place=place(document, where),
    )
    return policy, report.problems


def _spec_at(model: cnp_schema.PolicyObject | None, at: Path) -> cnp_schema.Spec | None:
    if model is None:
        return None
    return model.spec if at[-1] == "spec" else (model.specs or [])[int(at[-1])]


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around the specs, read also where the rest is unsound: no error hides another."""

    where: Path
    kind: str
    namespace: str | None
    name: str

    @classmethod
    def of(cls, report: Report, where: Path, kind: str) -> _Frame:
        metadata = report.value(where).get("metadata")
        names = metadata if isinstance(metadata, dict) else {}
        namespace = None if kind == CLUSTERWIDE else str(names.get("namespace") or "default")
        return cls(where, kind, namespace, str(names.get("name", "")))

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def check(self, report: Report) -> None:
        value = report.value(self.where)
        metadata = value.get("metadata")
        if self.namespace is None and isinstance(metadata, dict) and metadata.get("namespace"):
            at = (*self.where, "metadata", "namespace")
            message = f"a {CLUSTERWIDE} has no namespace"
            report.error(at, message, "remove it, or say CiliumNetworkPolicy")
        if value.get("spec") is None and not value.get("specs"):
            report.error(self.where, "the policy has neither 'spec' nor 'specs'")

    def specs(self, report: Report) -> Iterator[Path]:
        value = report.value(self.where)
        if value.get("spec") is not None:
            yield (*self.where, "spec")
        entries = value.get("specs")
        for index in range(len(entries) if isinstance(entries, list) else 0):
            yield (*self.where, "specs", index)


def _is_misspelt(name: str) -> bool:
    """Whether an unknown field seems to be a section."""
    known = field_names(cnp_schema.Spec)
    return name not in known and bool(nearest(name, (section.name for section in SECTIONS)))


@dataclass(frozen=True, slots=True)
class _SpecReader:
    report: Report
    namespace: str | None
    rules: RuleReader

    def spec(self, model: cnp_schema.Spec | None, at: Path) -> Spec | None:
        """`model` None: the policy's structure is unsound, which has been reported; sound parts are read even
        so."""
        value = self.report.value(at)
        if not isinstance(value, dict):
            return None
        self._check_sections(at, value)
        subject = self._subject(model, (*at, "endpointSelector"))
        rules = list(self._rules(model, at, value))
        if model is None or subject is None:
            return None
        return Spec(subject, tuple(rules), self._default_deny(model, rules, at))

    def _check_sections(self, at: Path, value: dict[str, object]) -> None:
        if value.get("nodeSelector") is None and value.get("endpointSelector") is None:
            self.report.error(at, "'endpointSelector' is missing", "endpointSelector: {} selects every pod")
        if not any(value.get(section.name) for section in SECTIONS):
            if any(_is_misspelt(name) for name in value):
                return  # which has been reported
            here = next(((*at, each.name) for each in SECTIONS if each.name in value), at)
            self.report.error(
                here,
                "no section says anything: Cilium rejects such a rule",
                "to deny everything write egress: [{}] or ingress: [{}]; an empty list counts as absent",
            )
            return
        for section in SECTIONS:
            if value.get(section.name) == [] and not section.deny:
                name = section.name
                left, hint = f"this policy leaves {name} open", f"to deny everything write {name}: [{{}}]"
                if value.get(f"{name}Deny"):
                    left, hint = f"only {name}Deny counts", ""
                message = f"an empty {name} counts as absent: {left}"
                self.report.warn(Code.EMPTY_SECTION, (*at, name), message, hint)

    def _rules(self, model: cnp_schema.Spec | None, at: Path, value: dict[str, object]) -> Iterator[Rule]:
        for section in SECTIONS:
            entries = value.get(section.name)
            for index in range(len(entries) if isinstance(entries, list) else 0):
                here = (*at, section.name, index)
                rule = (
                    getattr(model, section.name)[index] if model else self.report.sound(section.model, here)
                )
                if rule is not None:
                    yield self.rules.rule(rule, section, here)

    def _default_deny(self, model: cnp_schema.Spec, rules: list[Rule], at: Path) -> frozenset[Direction]:
        """A direction with rules denies by default, one without never does: Cilium asks per rule
        (computePolicyEnforcementAndRules)."""
        choice = model.enableDefaultDeny or cnp_schema.DefaultDeny()
        chosen = {Direction.EGRESS: choice.egress, Direction.INGRESS: choice.ingress}
        directions = {rule.direction for rule in rules}
        for direction in Direction:
            if chosen[direction] and direction not in directions:
                self.report.warn(
                    Code.DEFAULT_DENY_WITHOUT_RULES,
                    (*at, "enableDefaultDeny", str(direction)),
                    f"it has no effect: this policy has no rules for {direction}, which stays open",
                    f"to deny everything write {direction}: [{{}}]",
                )
        return frozenset(direction for direction in directions if chosen[direction] is not False)

    # --- the subject ----------------------------------------------------------------------------------------

    def _subject(self, model: cnp_schema.Spec | None, at: Path) -> Selector | None:
        if model is not None:
            subject = model.endpointSelector
        elif isinstance(self.report.value(at[:-1]).get("endpointSelector"), dict):
            subject = self.report.sound(LabelSelector, at)
        else:
            subject = None
        return self._selector(subject, at) if subject is not None else None

    def _selector(self, model: LabelSelector, at: Path) -> Selector:
        written = Selector.of(requirements_of(model, selectors.parse_key))
        for requirement in written.reserved():
            if requirement.needs_label:
                self.report.warn(
                    Code.RESERVED_SUBJECT,
                    at,
                    f"no pod has the label '{requirement.key}': this policy selects nothing",
                    "select pods by their own labels",
                )
        if self.namespace is None:
            return written
        # Cilium overwrites this entry of matchLabels (ParseToCiliumRule), and this one only.
        kept = Selector.of(requirements_of(model, selectors.parse_key, but=NAMESPACE))
        scoped = kept.within(self.namespace)
        for requirement in written.other_namespaces(self.namespace):
            effect = (
                "selects nothing" if requirement in kept.requirements else f"is read as '{self.namespace}'"
            )
            self.report.warn(
                Code.OTHER_NAMESPACE,
                at,
                f"a CiliumNetworkPolicy applies to its own namespace only: '{requirement}' {effect}",
                f"use a {CLUSTERWIDE} for other namespaces",
            )
        return scoped
