"""Checking one object's structure: every mistake at its place, with what to do about it.

`acns.located.validate` raises on the first model that fails; here problems are collected instead (a manifest
has more than one object), and pydantic's words are put into an operator's. Values that a model refuses on
purpose carry their own hint: `refuse` and `refused`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar

import pydantic
from pydantic_core import ErrorDetails, PydanticCustomError

from acns.errors import Problem
from acns.located import Document, Path, did_you_mean, fields_at

Model = TypeVar("Model", bound=pydantic.BaseModel)


class Lenient(pydantic.BaseModel):
    """Fields of no interest pass unseen: real objects have many."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, strict=True)


class Strict(pydantic.BaseModel):
    """Unknown fields are errors: a misspelt restriction that is ignored is a hole."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


def refuse(message: str, hint: str = "") -> NoReturn:
    """From inside a validator: this value is not accepted."""
    raise PydanticCustomError("refused", "{text}", {"text": message, "hint": hint})


def refused(reason: str, hint: str = "") -> pydantic.BeforeValidator:
    """For a field that exists in Cilium and is not enforced here. null means absent, as in Kubernetes."""

    def check(value: Any) -> Any:
        return value if value is None else refuse(reason, hint)

    return pydantic.BeforeValidator(check)


def check(model: type[Model], document: Document, where: Path = ()) -> tuple[Model | None, list[Problem]]:
    """The part of `document` at `where` as `model`, or every problem with it."""
    try:
        return model.model_validate(Report(document).value(where)), []
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False)
        return None, [_problem(model, document, where, detail) for detail in details]


@dataclass(frozen=True, slots=True)
class Report:
    """What is found wrong in (a part of) a document, as it is found."""

    document: Document
    problems: list[Problem] = field(default_factory=list)

    def add(self, *problems: Problem) -> None:
        self.problems.extend(problems)

    def error(self, at: Path, message: str, hint: str = "") -> None:
        self.add(self.document.problem(at, message, hint=hint))

    def warn(self, at: Path, message: str, hint: str = "") -> None:
        self.add(self.document.problem(at, message, hint=hint, warning=True))

    def value(self, at: Path) -> Any:
        """The plain value at `at`."""
        value = self.document.value
        for step in at:
            value = value[step]
        return value

    def valid(self, model: type[Model], at: Path) -> Model | None:
        """The part at `at`, if it is sound; what is wrong with it was reported when the whole was checked."""
        try:
            return model.model_validate(self.value(at))
        except pydantic.ValidationError:
            return None


def field_text(where: Iterable[str | int]) -> str:
    """`("spec", "egress", 0)` → `spec.egress[0]`."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _problem(
    model: type[pydantic.BaseModel], document: Document, where: Path, detail: ErrorDetails
) -> Problem:
    # pydantic ends the location of a bad mapping key with "[key]".
    loc = tuple(step for step in detail["loc"] if step != "[key]")
    full: Path = (*where, *loc)
    match detail["type"]:
        case "extra_forbidden":
            hint = did_you_mean(str(loc[-1]), fields_at(model, loc[:-1]))
            return document.problem(full, f"unknown field '{loc[-1]}'", hint=hint)
        case "missing":
            return document.problem(full[:-1], f"'{loc[-1]}' is missing")
    context = detail.get("ctx", {})
    message, hint = _WORDS.get(detail["type"], (detail["msg"].removeprefix("Value error, "), ""))
    return document.problem(full, f"{field_text(loc)}: {message}", hint=str(context.get("hint", hint)))


_MAPPING: Final = ("must be a mapping (key: value)", "")
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "string_type": ("must be text", 'put it in quotes, as in "53"'),
    "list_type": ("must be a list", "each entry begins with '- '"),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "bool_type": ("must be true or false", ""),
    "int_type": ("must be a whole number", "without quotes"),
}
