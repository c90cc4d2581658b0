"""The policy kinds as CustomResourceDefinitions, made of the models that read policies.

`python -m acns.policy.crd deploy/crds` writes them. An API server holds objects to the structure: types,
patterns, enumerations, required fields; what values mean together the shim judges, and says in `status`. A
field that Cilium knows and that is refused here is let through whole, so that the shim can say why. A field
that nobody knows `kubectl` refuses; for clients that ask for less the API server takes it out, as from
Cilium's own definitions.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from acns import scalars
from acns.policy import schema

GROUP: Final = "cilium.io"
_KEPT: Final = (
    "description", "type", "pattern", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems", "required", "oneOf",
)  # fmt: skip
_ANYTHING: Final = {"x-kubernetes-preserve-unknown-fields": True}
_TIME: Final = {"type": "string", "format": "date-time"}
_CONDITION: Final = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "reason": {"type": "string"},
        "message": {"type": "string"},
        "observedGeneration": {"type": "integer", "format": "int64"},
        "lastTransitionTime": _TIME,
    },
    **_ANYTHING,
}
_STATUS: Final = {
    "type": "object",
    "description": "What the agents say of it; it decides nothing.",
    "properties": {"conditions": {"type": "array", "items": _CONDITION}},
    **_ANYTHING,
}
_CIDR: Final = r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind and its names."""

    kind: str
    plural: str
    short: tuple[str, ...]
    namespaced: bool
    versions: tuple[str, ...] = ("v2",)


KINDS: Final = (
    Kind("CiliumNetworkPolicy", "ciliumnetworkpolicies", ("cnp",), True),
    Kind("CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", ("ccnp",), False),
    Kind("CiliumCIDRGroup", "ciliumcidrgroups", ("ccg",), False),
)


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition, as a manifest."""
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        "shortNames": list(kind.short),
        "categories": ["cilium", "ciliumpolicy"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [_version(kind, name, number == 0) for number, name in enumerate(kind.versions)],
        },
    }


def object_schema(kind: Kind) -> dict[str, Any]:
    """The structural schema of a whole object."""
    body = _cidr_group() if kind.kind == "CiliumCIDRGroup" else _policy(kind.kind)
    own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return {**body, "type": "object", "properties": {**own, **body["properties"]}}


def structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema without references, and with nothing that a structural schema must not have."""
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if node.get("not") == {}:
        return {"description": node["description"], **_ANYTHING}
    if "anyOf" in node:
        return {"description": node.get("description", ""), "x-kubernetes-int-or-string": True}
    made = {key: node[key] for key in _KEPT if key in node}
    if "properties" in node:
        made["properties"] = {
            name: structural(inner, definitions) for name, inner in node["properties"].items()
        }
    elif isinstance(more := node.get("additionalProperties"), Mapping):
        made["additionalProperties"] = structural(more, definitions)
    if "items" in node:
        made["items"] = structural(node["items"], definitions)
    if "enum" in made:
        made.setdefault("type", "string")
        if len(made["enum"]) == 1:
            del made["enum"]  # of what Cilium knows, all else is refused here: by the shim, with the reason
    return made if "type" in made else {**made, **_ANYTHING}


def _policy(kind: str) -> dict[str, Any]:
    whole = schema.json_schema(kind)
    properties = {name: structural(whole["properties"][name], whole["$defs"]) for name in ("spec", "specs")}
    for spec in (properties["spec"], properties["specs"]["items"]):
        # What is refused by name is let through, so that the shim can say why.
        assert spec.pop("required") == ["endpointSelector"]
        spec["anyOf"] = [{"required": ["endpointSelector"]}, {"required": ["nodeSelector"]}]
    # That there is one of them cannot be said: with a status the API server takes no `anyOf` at the root.
    return {
        "description": whole["description"],
        "properties": {**properties, "status": _STATUS},
    }


def _cidr_group() -> dict[str, Any]:
    networks = {"type": "array", "items": {"type": "string", "pattern": _CIDR}}
    spec = {"type": "object", "required": ["externalCIDRs"], "properties": {"externalCIDRs": networks}}
    return {
        "description": "Networks outside the cluster, under one name that policies use.",
        "required": ["spec"],
        "properties": {"spec": spec},
    }


def _version(kind: Kind, name: str, stored: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": name,
        "served": True,
        "storage": stored,
        "schema": {"openAPIV3Schema": object_schema(kind)},
    }
    if kind.kind != "CiliumCIDRGroup":
        made["subresources"] = {"status": {}}
        made["additionalPrinterColumns"] = [
            {
                "name": "Valid",
                "type": "string",
                "jsonPath": '.status.conditions[?(@.type=="Valid")].status',
            },
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]
    return made


def text(kind: Kind) -> str:
    """As a file."""
    head = (
        "# Made by `python -m acns.policy.crd deploy/crds` of the models that read policies; not by hand.\n"
    )
    made: str = yaml.dump(
        definition(kind), Dumper=scalars.ManifestDumper, sort_keys=False, width=110, allow_unicode=True
    )
    return head + made


def main(arguments: Sequence[str]) -> int:
    """Write them into a folder."""
    if len(arguments) != 1:
        print("usage: python -m acns.policy.crd FOLDER", file=sys.stderr)
        return 2
    for kind in KINDS:
        (Path(arguments[0]) / f"{kind.plural}.yaml").write_text(text(kind))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
