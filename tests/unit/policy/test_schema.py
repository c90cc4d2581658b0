"""The JSON schemas for editors: those in `schemas/` are up to date, and agree with what is read.

After a change of the models: PYTHONPATH=. python -m tests.unit.policy.test_schema
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acns.policy.schema import KINDS, json_schema

FOLDER = Path(__file__).parents[3] / "schemas"


def text_of(kind: str) -> str:
    return json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"


def file_of(kind: str) -> Path:
    return FOLDER / f"{kind.lower()}.json"


def rule_of(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json_schema(kind)["$defs"][name]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_in_the_repository_is_the_one_of_the_models(kind: str) -> None:
    assert file_of(kind).read_text() == text_of(kind), f"write it anew: {__doc__}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_says_what_it_is_of(kind: str) -> None:
    schema = json_schema(kind)
    assert schema["title"] == kind
    assert schema["$schema"].startswith("http://json-schema.org/")
    assert schema["properties"]["kind"] == {"const": kind}
    assert {"apiVersion", "kind", "metadata"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


def test_refused_fields_are_known_not_allowed_and_say_why() -> None:
    for name, fields in {
        "EgressRule": ("toNodes", "toRequires", "toGroups", "authentication"),
        "EgressDenyRule": ("toFQDNs", "toServices"),
        "IngressRule": ("fromNodes", "fromRequires", "fromGroups", "authentication"),
        "L7Rules": ("http", "kafka", "l7", "l7proto"),
        "PortRule": ("terminatingTLS", "originatingTLS", "serverNames", "listener"),
        "Spec": ("nodeSelector",),
    }.items():
        for field in fields:
            found = rule_of("CiliumNetworkPolicy", name)["properties"][field]
            assert found["not"] == {}
            assert "refused" in found["description"] or "takes no" in found["description"]


def test_every_field_is_explained_by_itself_or_by_what_it_holds() -> None:
    for kind in KINDS:
        schema = json_schema(kind)
        for where, field in _fields(schema):
            text = field.get("description") or schema["$defs"][_target(field)]["description"]
            assert len(text) > 10, where


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    models = {"": schema, **schema["$defs"]}
    for name, model in models.items():
        for field, value in model["properties"].items():
            if (name, field) not in (("", "kind"), ("", "apiVersion")):
                yield f"{name}.{field}", value


def _target(field: dict[str, Any]) -> str:
    reference: str = field.get("$ref") or field["items"]["$ref"]
    return reference.rpartition("/")[2]


def test_null_and_defaults_do_not_clutter_it() -> None:
    for kind in KINDS:
        text = text_of(kind)
        assert '"null"' not in text
        assert '"default"' not in text


def test_choices_between_fields_are_shown() -> None:
    assert rule_of("CiliumNetworkPolicy", "NameSelector")["oneOf"] == [
        {"required": ["matchName"]},
        {"required": ["matchPattern"]},
    ]


def test_a_clusterwide_policy_has_no_namespace() -> None:
    metadata = rule_of("CiliumClusterwideNetworkPolicy", "PolicyMetadata")
    assert metadata["properties"]["namespace"]["not"] == {}
    assert "not" not in rule_of("CiliumNetworkPolicy", "PolicyMetadata")["properties"]["namespace"]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in KINDS:
        file_of(each).write_text(text_of(each))
