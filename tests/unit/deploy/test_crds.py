"""The CustomResourceDefinitions: structural, as committed, taking every policy here and refusing what the
parser refuses by structure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from acns.policy import crd, manifests
from acns.policy.profiles import Profile
from lab.spec import expect
from lab.spec.load import load_topology

ROOT = Path(__file__).parents[3]
BY_KIND = {kind.kind: crd.object_schema(kind) for kind in crd.KINDS}
ANYTHING, INT_OR_STRING = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_what_is_committed_is_what_the_models_say(kind: crd.Kind) -> None:
    committed = (ROOT / "deploy" / "crds" / f"{kind.plural}.yaml").read_text()
    assert committed == crd.text(kind), "run: python -m acns.policy.crd deploy/crds"


AT_THE_ROOT = {
    *("description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
    *("maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required"),
    *("items", "properties", "externalDocs", "example", ANYTHING, "x-kubernetes-validations"),
}
"""All that an API server takes there of a kind with a status (apiextensions, allowedFieldsAtRootSchema)."""


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_at_its_root_the_schema_has_what_a_kind_with_a_status_may_have(kind: str) -> None:
    assert BY_KIND[kind].keys() <= AT_THE_ROOT


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_the_schema_is_structural(kind: str) -> None:
    for path, node in nodes(BY_KIND[kind]):
        assert node.get("type") or node.get(ANYTHING) or node.get(INT_OR_STRING), path
        assert not {"$ref", "$defs", "additionalItems", "const", "not", "definitions"} & node.keys(), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert node.get("additionalProperties") is not False, path
        for junctor in ("anyOf", "oneOf"):
            assert all(set(one) == {"required"} for one in node.get(junctor, ())), path


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[{key}]")


def refusals(document: dict[str, Any]) -> list[str]:
    """What an API server has against it, with strict field validation, as kubectl asks for it."""
    schema = BY_KIND[document["kind"]]
    errors = [error.message for error in jsonschema.Draft4Validator(schema).iter_errors(document)]
    return errors + list(unknown(document, schema))


def unknown(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    if isinstance(value, list) and "items" in schema:
        for one in value:
            yield from unknown(one, schema["items"], path)
    elif isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            if key in schema["properties"]:
                yield from unknown(inner, schema["properties"][key], f"{path}.{key}")
            elif not schema.get(ANYTHING) and path != ".metadata":
                yield f"unknown field {path}.{key}"
    elif isinstance(value, dict) and "additionalProperties" in schema:
        for key, inner in value.items():
            yield from unknown(inner, schema["additionalProperties"], f"{path}.{key}")


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    files = [*(ROOT / "topologies").rglob("*.yaml"), *(ROOT / "tests" / "data").rglob("*.*ml")]
    files += (ROOT / "examples").rglob("*.yaml")
    for path in sorted(files):
        for one in yaml.safe_load_all(path.read_text()):
            for each in [one, *inline(one)]:
                if isinstance(each, dict) and each.get("kind") in BY_KIND:
                    yield path.name, each


def inline(topology: Any) -> Iterator[Any]:
    said = topology.get("policies", ()) if isinstance(topology, dict) else ()
    for manifest in said:
        if isinstance(manifest, dict) and "inline" in manifest:
            yield from yaml.safe_load_all(manifest["inline"])


ALL = list(documents())


@pytest.mark.parametrize(("name", "document"), ALL, ids=[f"{name}-{n}" for n, (name, _) in enumerate(ALL)])
def test_every_policy_here_that_the_parser_takes_is_taken(name: str, document: dict[str, Any]) -> None:
    """The others are refused by what they mean, or for a field whose reason the shim gives."""
    parsed = manifests.parse(yaml.safe_dump(document), name, Profile.CILIUM)
    if not [problem for problem in parsed.problems if not problem.warning]:
        assert refusals(document) == []


def test_there_are_policies_to_try() -> None:
    assert len(ALL) >= 20


GOOD: dict[str, Any] = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "p", "namespace": "d"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "x"}},
        "egress": [
            {"toFQDNs": [{"matchName": "a.example.com"}]},
            {
                "toEndpoints": [{"matchLabels": {"k8s-app": "kube-dns"}}],
                "toPorts": [
                    {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}}
                ],
            },
        ],
    },
}
WRONG: dict[str, tuple[tuple[Any, ...], Any]] = {
    "unknown field": (("spec", "egress", 0, "toFQDN"), [{"matchName": "a"}]),
    "list for an object": (("spec", "endpointSelector"), []),
    "object for a list": (("spec", "egress"), {}),
    "number for a name": (("spec", "egress", 0, "toFQDNs", 0, "matchName"), 7),
    "protocol that is none": (("spec", "egress", 1, "toPorts", 0, "ports", 0, "protocol"), "TPC"),
    "port that is none": (("spec", "egress", 1, "toPorts", 0, "ports", 0, "port"), "5 3"),
    "network that is none": (("spec", "egress", 0), {"toCIDR": ["everywhere"]}),
    "entity that is none": (("spec", "egress", 0), {"toEntities": ["wrold"]}),
    "label that is no text": (("spec", "endpointSelector", "matchLabels", "app"), 1),
    "operator that is none": (
        ("spec", "endpointSelector"),
        {"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]},
    ),
    "policy without a selector": (("spec", "endpointSelector"), None),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_the_parser_refuses_by_structure_is_refused(case: str) -> None:
    path, value = WRONG[case]
    document = yaml.safe_load(yaml.safe_dump(GOOD))
    assert refusals(document) == []
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    if value is None:
        del at[path[-1]]
    parsed = manifests.parse(yaml.safe_dump(document), "p.yaml", Profile.CILIUM)
    assert [problem for problem in parsed.problems if not problem.warning]
    assert refusals(document)


UNSUPPORTED = load_topology(ROOT / "topologies" / "unsupported.yaml")
EXPECTED = [
    one for one in map(expect.parse_any, UNSUPPORTED.expect) if isinstance(one, expect.PolicyExpectation)
]


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda one: one.file)
def test_a_policy_that_is_refused_for_a_reason_reaches_the_shim_or_has_it_from_the_api_server(
    expected: expect.PolicyExpectation,
) -> None:
    text = (ROOT / "topologies" / "policies" / "unsupported" / expected.file).read_text()
    by_structure = [one for document in yaml.safe_load_all(text) for one in refusals(document)]
    problems = manifests.parse(text, expected.file, Profile.ACNS).problems
    told = by_structure or [str(one) for one in problems if not one.warning]
    assert [one for one in told if expected.text in one]


def test_a_policy_without_a_spec_reaches_the_shim() -> None:
    document = {**GOOD, "spec": None}
    del document["spec"]
    assert refusals(document) == []
    assert manifests.parse(yaml.safe_dump(document), "p.yaml", Profile.CILIUM).problems
