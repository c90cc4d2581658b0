"""Checking one object's structure: every mistake at its place, with what to do about it.

`acns.located.validate` raises on the first model that fails; here problems are collected instead (a manifest
has more than one object), and pydantic's words are put into an operator's. Values that a model refuses on
purpose carry their own hint: `refuse` and `Refused`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar

import pydantic
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from acns.errors import Problem
from acns.located import Document, Path, did_you_mean, field_names, model_at
from acns.policy import salvage
from acns.policy.codes import Code

Model = TypeVar("Model", bound=pydantic.BaseModel)


class _Model(pydantic.BaseModel):
    """The text under a field says what it is for: editors show it (`schema`).

    Only the models that something is read with are ever built, and not at import: those within them are not.
    """

    model_config = pydantic.ConfigDict(frozen=True, strict=True, defer_build=True)


class Lenient(_Model):
    """Fields of no interest pass unseen: real objects have many."""

    model_config = pydantic.ConfigDict(extra="ignore")


class Strict(_Model):
    """Unknown fields are errors: a misspelt restriction that is ignored is a hole."""

    model_config = pydantic.ConfigDict(extra="forbid")


def one_of(*names: str) -> pydantic.ConfigDict:
    """For editors: of these fields just one. The model's validator checks it (`check_one_of`)."""
    return pydantic.ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in names]})


def needs(*names: str) -> pydantic.ConfigDict:
    """For editors, and an API server: these fields. Who reads the model says what is wrong without them."""
    return pydantic.ConfigDict(json_schema_extra={"required": list(names)})


def check_one_of(model: pydantic.BaseModel, *names: str) -> None:
    if sum(getattr(model, name) is not None for name in names) != 1:
        words = f"{', '.join(names[:-1])} and {names[-1]}"
        refuse(f"give one of {words}, and one of them only")


def refuse(message: str, hint: str = "") -> NoReturn:
    """From inside a validator: this value is not accepted."""
    raise PydanticCustomError("refused", "{text}", {"text": message, "hint": hint})


@dataclass(frozen=True, slots=True)
class Refused:
    """Marks a field that exists in Cilium and is not enforced here. null means absent, as in Kubernetes."""

    reason: str
    hint: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        return value if value is None else refuse(self.reason, self.hint)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"not": {}, "description": f"{self.reason} ({self.hint})" if self.hint else self.reason}


def check(model: type[Model], document: Document, where: Path = ()) -> tuple[Model | None, list[Problem]]:
    """The part of `document` at `where` as `model`, or every problem with it."""
    try:
        return model.model_validate(Report(document).value(where)), []
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False)
        return None, [_problem(model, document, where, detail) for detail in details]


@dataclass(frozen=True, slots=True)
class Report:
    """What is found wrong in (a part of) a document, as it is found.

    `moved`: of parts that were salvaged, where their entries are in the document; places are given as they
    are in the models.
    """

    document: Document
    problems: list[Problem] = field(default_factory=list)
    moved: dict[Path, tuple[int, ...]] = field(default_factory=dict)

    def add(self, *problems: Problem) -> None:
        self.problems.extend(problems)

    def error(self, at: Path, message: str, hint: str = "") -> None:
        self.add(self.document.problem(self.place(at), message, hint=hint))

    def warn(self, code: Code, at: Path, message: str, hint: str = "") -> None:
        self.add(self.document.problem(self.place(at), message, hint=hint, warning=True, code=code))

    @property
    def has_errors(self) -> bool:
        return any(not problem.warning for problem in self.problems)

    def value(self, at: Path) -> Any:
        """The plain value at `at`."""
        value = self.document.value
        for step in self.place(at):
            value = value[step]
        return value

    def given(self, at: Path) -> Any:
        """The plain value at `at`, if there is one: also where it is unsound, and a model lacks it."""
        value = self.value(at[:-1])
        return value.get(at[-1]) if isinstance(value, dict) else None

    def is_whole(self, part: pydantic.BaseModel, at: Path) -> bool:
        """Whether nothing was taken out of it: what it lacks may stand there under a wrong name."""
        return len(self.value(at)) == len(part.model_fields_set)

    def place(self, at: Path) -> Path:
        """Where in the document that is."""
        return salvage.original(at, self.moved)

    def sound(self, model: type[Model], at: Path) -> Model | None:
        """The part at `at`, without what is wrong with it: that was reported when the whole was checked."""
        found, moved = salvage.salvaged(model, self.value(at))
        self.moved.update({(*at, *inside): kept for inside, kept in moved.items()})
        return found


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
            hint = did_you_mean(str(loc[-1]), field_names(model_at(model, loc[:-1]), but=_is_refused))
            return document.problem(full, f"unknown field '{loc[-1]}'", hint=hint)
        case "missing":
            return document.problem(full[:-1], f"'{loc[-1]}' is missing")
    context = detail.get("ctx", {})
    message, hint = _WORDS.get(detail["type"], (detail["msg"].removeprefix("Value error, "), ""))
    return document.problem(full, f"{field_text(loc)}: {message}", hint=str(context.get("hint", hint)))


def _is_refused(field: FieldInfo) -> bool:
    return any(isinstance(each, Refused) for each in field.metadata)


_MAPPING: Final = ("must be a mapping (key: value)", "")
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "string_type": ("must be text", 'put it in quotes, as in "53"'),
    "list_type": ("must be a list", "each entry begins with '- '"),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "bool_type": ("must be true or false", ""),
    "int_type": ("must be a whole number", "without quotes"),
}
