"""The policy language as JSON schemas, for editors: completion, texts on hover, red lines under mistakes.

They come from the models that read policies, so they allow what is read here and say of each refused field
why. An editor sees the structure only: `policy.validate` knows what values mean together.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pydantic
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from acns.policy import cnp_schema, networkpolicy_schema
from acns.policy.manifests import API_VERSIONS

# The draft that editors know best.
DRAFT: Final = "http://json-schema.org/draft-07/schema#"

_MODELS: Final[Mapping[str, tuple[type[pydantic.BaseModel], str]]] = {
    "CiliumNetworkPolicy": (
        cnp_schema.PolicyObject,
        "What pods of one namespace may connect to, and who to them: by labels, networks, entities, names.",
    ),
    "CiliumClusterwideNetworkPolicy": (
        cnp_schema.PolicyObject,
        "As CiliumNetworkPolicy, for pods of all namespaces.",
    ),
    "NetworkPolicy": (
        networkpolicy_schema.PolicyObject,
        "Kubernetes' own policy: what pods of one namespace may connect to, and who to them.",
    ),
}
KINDS: Final = tuple(_MODELS)


def json_schema(kind: str) -> dict[str, Any]:
    """The schema of a whole object of this kind, one of `KINDS`."""
    model, description = _MODELS[kind]
    schema = model.model_json_schema(schema_generator=Generator, mode="validation")
    properties = schema["properties"]
    properties["apiVersion"] = {"enum": list(API_VERSIONS[kind])}
    properties["kind"] = {"const": kind}
    schema["required"] = ["apiVersion", "kind", *schema.get("required", [])]
    if kind == "CiliumClusterwideNetworkPolicy":
        schema["$defs"]["PolicyMetadata"]["properties"]["namespace"] = {
            "not": {},
            "description": f"A {kind} has no namespace.",
        }
    return {"$schema": DRAFT, **schema, "title": kind, "description": description}


class Generator(GenerateJsonSchema):
    """With the texts under fields, which pydantic would look for at every start of everything; without what
    only clutters an editor: null (it means absent), defaults, titles made of field names."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model: type[pydantic.BaseModel] = schema["cls"]
        texts = field_texts(model)
        for name, field in model.model_fields.items():
            shown = found["properties"].get(field.alias or name)
            if shown is not None and name in texts:
                shown.setdefault("description", texts[name])
        return found

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """In a map a key with null is not absent."""
        values = schema.get("values_schema", {})
        if values.get("type") != "nullable":
            return super().dict_schema(schema)
        either: Any = core_schema.union_schema([values["schema"], core_schema.none_schema()])
        return super().dict_schema({**schema, "values_schema": either})

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: CoreSchema | Any) -> bool:
        return False


def field_texts(model: type[pydantic.BaseModel]) -> dict[str, str]:
    """The text under each field that has one, those that it inherits too."""
    texts: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, pydantic.BaseModel) and cls is not pydantic.BaseModel:
            texts.update(_own_texts(cls))
    return texts


def _own_texts(cls: type[pydantic.BaseModel]) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    for one, under in itertools.pairwise(definition.body):
        match one, under:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
