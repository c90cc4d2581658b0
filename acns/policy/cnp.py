"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: from manifest to `Policy`.

A policy is taken whole or not at all: a rule less would allow less than was meant, a restriction less would
allow more. So any error rejects the object, and all of its errors are reported together.
"""

from __future__ import annotations

from collections.abc import Iterator

from acns.errors import Problem
from acns.located import Document, Path
from acns.policy import cnp_schema
from acns.policy.cnp_rule import RuleReader, selector_of
from acns.policy.kubernetes import place
from acns.policy.objects import Policy, Spec
from acns.policy.profiles import Profile
from acns.policy.selectors import Selector
from acns.policy.structure import Report, check


def read_policy(
    document: Document, where: Path, kind: str, profile: Profile
) -> tuple[Policy | None, list[Problem]]:
    """The policy object at `where`; None with the errors, or the policy with its warnings."""
    model, problems = check(cnp_schema.PolicyObject, document, where)
    reader = _PolicyReader(document, where, kind, profile)
    reader.report.add(*problems)
    reader.check_frame()
    specs = [spec for at in reader.spec_places() if (spec := reader.spec(at))]
    found = reader.report.problems
    if model is None or any(not problem.warning for problem in found):
        return None, found
    policy = Policy(
        kind, reader.namespace, model.metadata.name, tuple(specs), tuple(found), place(document, where)
    )
    return policy, found


class _PolicyReader:
    """Reads what is sound by itself, even where other parts are not: no error hides another."""

    def __init__(self, document: Document, where: Path, kind: str, profile: Profile) -> None:
        self.report = Report(document)
        self.where = where
        self.clusterwide = kind == "CiliumClusterwideNetworkPolicy"
        self.value = self.report.value(where)
        metadata = self.value.get("metadata")
        self.metadata = metadata if isinstance(metadata, dict) else {}
        self.namespace = None if self.clusterwide else str(self.metadata.get("namespace") or "default")
        name = str(self.metadata.get("name", ""))
        policy_key = f"{self.namespace}/{name}" if self.namespace else name
        self.rules = RuleReader(self.report, profile, self.namespace, policy_key)

    def check_frame(self) -> None:
        if self.clusterwide and self.metadata.get("namespace"):
            at = (*self.where, "metadata", "namespace")
            self.report.error(
                at,
                "a CiliumClusterwideNetworkPolicy has no namespace",
                "remove it, or say CiliumNetworkPolicy",
            )
        if not self.value.get("spec") and not self.value.get("specs"):
            self.report.error(self.where, "the policy has neither 'spec' nor 'specs'")

    def spec_places(self) -> Iterator[Path]:
        if self.value.get("spec"):
            yield (*self.where, "spec")
        specs = self.value.get("specs")
        for index in range(len(specs) if isinstance(specs, list) else 0):
            yield (*self.where, "specs", index)

    def spec(self, at: Path) -> Spec | None:
        value = self.report.value(at)
        if not isinstance(value, dict):
            return None  # the schema has said so
        self._check_sections(at, value)
        subject = self._subject((*at, "endpointSelector"), value)
        entries = value.get("egress")
        rules = [
            self.rules.rule((*at, "egress", index))
            for index in range(len(entries) if isinstance(entries, list) else 0)
        ]
        default_deny = self._default_deny(at, value)
        if subject is None:
            return None
        return Spec(subject, tuple(rule for rule in rules if rule), default_deny)

    def _check_sections(self, at: Path, value: dict[str, object]) -> None:
        if value.get("nodeSelector") is None and value.get("endpointSelector") is None:
            self.report.error(at, "'endpointSelector' is missing", "endpointSelector: {} selects every pod")
        sections = ("egress", "egressDeny", "ingress", "ingressDeny")
        if not any(value.get(section) for section in sections):
            here = (*at, "egress") if "egress" in value else at
            self.report.error(
                here,
                "no section says anything: Cilium rejects such a rule",
                "to deny all egress write egress: [{}]; an empty list counts as absent",
            )

    def _default_deny(self, at: Path, value: dict[str, object]) -> bool:
        choice = value.get("enableDefaultDeny")
        if not isinstance(choice, dict):
            return True
        if choice.get("ingress") is True:
            self.report.error((*at, "enableDefaultDeny", "ingress"), "ingress policy is not supported yet")
        return choice.get("egress") is not False

    def _subject(self, at: Path, value: dict[str, object]) -> Selector | None:
        model = (
            self.report.valid(cnp_schema.LabelSelector, at)
            if isinstance(value.get("endpointSelector"), dict)
            else None
        )
        if model is None:
            return None
        selector = selector_of(model)
        if self.namespace is None:
            return selector
        scoped = selector.within(self.namespace)
        for requirement in selector.other_namespaces(self.namespace):
            kept = requirement in scoped.requirements
            effect = "selects nothing" if kept else f"is read as '{self.namespace}'"
            self.report.warn(
                at,
                f"a CiliumNetworkPolicy applies to its own namespace only: '{requirement}' {effect}",
                "use a CiliumClusterwideNetworkPolicy for other namespaces",
            )
        return scoped
