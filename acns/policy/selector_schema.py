"""The structure of label selectors: Cilium's, whose keys may name a source, and Kubernetes'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import pydantic
from pydantic import AfterValidator, WithJsonSchema

from acns.located import did_you_mean
from acns.policy import selectors
from acns.policy.selectors import Key, Operator, Requirement
from acns.policy.structure import Strict, refuse

OPERATORS = tuple(Operator)


def _sourced_key(text: str) -> str:
    try:
        selectors.parse_key(text)
    except ValueError as error:
        refuse(str(error))
    return text


def _plain_key(text: str) -> str:
    if not selectors.is_label_key(text):
        refuse(f"'{text}' is not a label key", "no source such as 'k8s:' here" if ":" in text else "")
    return text


def _value(text: str) -> str:
    if not selectors.is_label_value(text):
        refuse(f"'{text}' is not a label value", "63 letters, digits, '-', '_' and '.' at most")
    return text


def _operator(name: str) -> str:
    if name not in OPERATORS:
        refuse(f"unknown operator '{name}'", did_you_mean(name, OPERATORS))
    return name


SourcedKey = Annotated[str, AfterValidator(_sourced_key)]
PlainKey = Annotated[str, AfterValidator(_plain_key)]
LabelValue = Annotated[str, AfterValidator(_value)]
OperatorName = Annotated[
    str, AfterValidator(_operator), WithJsonSchema({"enum": [str(each) for each in OPERATORS]})
]


class _Expression(Strict):
    model_config = pydantic.ConfigDict(
        json_schema_extra={
            "if": {"properties": {"operator": {"enum": [str(Operator.IN), str(Operator.NOT_IN)]}}},
            "then": {"required": ["values"], "properties": {"values": {"minItems": 1}}},
            "else": {"properties": {"values": {"maxItems": 0}}},
        }
    )

    operator: OperatorName
    """NotIn and DoesNotExist hold where the key is absent."""
    values: list[LabelValue] | None = None
    """For In and NotIn."""

    @pydantic.model_validator(mode="after")
    def _values_fit(self) -> _Expression:
        takes_values = self.operator in (Operator.IN, Operator.NOT_IN)
        if takes_values and not self.values:
            refuse(f"operator {self.operator} needs values")
        if not takes_values and self.values:
            refuse(f"operator {self.operator} takes no values")
        return self


class MatchExpression(_Expression):
    """One entry of `matchExpressions`."""

    key: SourcedKey
    """With or without a source: `app`, `k8s:app`."""


class LabelSelector(Strict):
    """Cilium's: pods by their labels; empty: all of them (in a namespaced policy all of its namespace)."""

    matchLabels: dict[SourcedKey, LabelValue] | None = None
    """Labels that must have these values. A key without a source (`k8s:`, `reserved:`) means any source."""
    matchExpressions: list[MatchExpression] | None = None
    """Conditions that must hold, each on one key."""


class KubernetesExpression(_Expression):
    """One entry of `matchExpressions`."""

    key: PlainKey
    """The label's key."""


class KubernetesSelector(Strict):
    """Kubernetes': objects by their labels; empty: all of them."""

    matchLabels: dict[PlainKey, LabelValue] | None = None
    """Labels that must have these values."""
    matchExpressions: list[KubernetesExpression] | None = None
    """Conditions that must hold, each on one key."""


def requirements_of(
    model: LabelSelector | KubernetesSelector, key_of: Callable[[str], Key], *, but: Key | None = None
) -> Iterator[Requirement]:
    """`matchLabels` and `matchExpressions` as one list; of `matchLabels` all but this key."""
    for name, value in (model.matchLabels or {}).items():
        if (key := key_of(name)) != but:
            yield Requirement(key, Operator.IN, (value,))
    for each in model.matchExpressions or []:
        yield Requirement(key_of(each.key), Operator(each.operator), tuple(each.values or ()))
