"""The JSON schemas for editors: those in `schemas/` are up to date, and agree with what is read.

After a change of the models: PYTHONPATH=. python -m tests.unit.policy.test_schema
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from acns import located
from acns.errors import InputError
from acns.policy.manifests import parse
from acns.policy.profiles import Profile
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
        "EgressRule": ("toNodes", "toRequires", "toGroups"),
        "EgressDenyRule": ("toFQDNs", "toServices"),
        "IngressRule": ("fromNodes", "fromRequires", "fromGroups"),
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


# --- held against what is read ---------------------------------------------------------------------------

WRONG = Path(__file__).parent / "wrong"
TOPOLOGIES = Path(__file__).parents[3] / "topologies"

BEYOND_A_SCHEMA = {
    "acns_dns_match_all": "a profile's",
    "acns_service_names": "a profile's",
    "dns_for_servers_by_name": "fields of one rule together",
    "dns_link_local_server": "what an address means",
    "dns_link_local_server_in_a_set": "what an address means",
    "dns_on_a_range": "fields together",
    "dns_on_ingress": "allowed in Cilium's own schema",
    "dns_on_port_zero_and_sctp": "fields together",
    "egress_empty_alone": "sections together",
    "icmp_beside_ports": "fields together",
    "ingress_two_peers": "fields together",
    "no_section": "sections together",
    "np_ip_block_except": "what an address means",
    "port_octal": "what a number means",
    "reserved_labels": "what a label means",
    "two_peers_in_one_rule": "fields together",
}
"""Wrong files that an editor takes, and what it would have to know."""


def refusals(text: str) -> list[str] | None:
    """What the schemas say of the policies in a text; None: there are none, or it is no YAML."""
    try:
        values = [document.value for document in located.load(text, "p.yaml")]
    except InputError:
        return None
    mine = [value for value in values if isinstance(value, dict) and value.get("kind") in KINDS]
    found = (
        str(error.message)
        for value in mine
        for error in jsonschema.Draft7Validator(json_schema(value["kind"])).iter_errors(value)
    )
    return list(found) if mine else None


@pytest.mark.parametrize("path", sorted(WRONG.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_schema_refuses_the_wrong_files_and_takes_the_doubtful_ones(path: Path) -> None:
    found = refusals(path.read_text())
    if found is None:
        return
    said = path.with_suffix(".expected").read_text().splitlines()
    is_wrong = any(": warning: " not in line for line in said)
    assert bool(found) == (is_wrong and path.stem not in BEYOND_A_SCHEMA), found


CILIUM = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p}
spec: {endpointSelector: {}, log: {value: LOG}, egress: [RULE]}
"""
KUBERNETES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec: {podSelector: {}, egress: [RULE]}
"""


def judged(text: str) -> tuple[bool, bool]:
    """Whether the schema takes it, and whether it is read."""
    return not refusals(text), parse(text, "p.yaml", Profile.CILIUM).ok


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("{toPorts: [{}]}", '{toPorts: [{ports: [{port: "80"}]}]}'),
        ("{icmps: [{}]}", "{icmps: [{fields: [{type: 8}]}]}"),
        ('{toPorts: [{ports: [{port: "80"}], rules: {}}]}', '{toPorts: [{ports: [{port: "80"}]}]}'),
        (
            "{toPorts: [{ports: [{port: abcdefghijklmnop}]}]}",
            "{toPorts: [{ports: [{port: abcdefghijklmno}]}]}",
        ),
        (
            "{toEndpoints: [{matchExpressions: [{key: a, operator: In, values: []}]}]}",
            "{toEndpoints: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}",
        ),
        (
            "{toEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}",
            "{toEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: []}]}]}",
        ),
    ],
)
def test_a_schema_and_the_reader_agree_about_a_rule(wrong: str, right: str) -> None:
    assert judged(CILIUM.replace("RULE", wrong)) == (False, False)
    assert judged(CILIUM.replace("RULE", right)) == (True, True)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("{ports: [{port: 80, endPort: 65536}]}", "{ports: [{port: 80, endPort: 65535}]}"),
        ("{ports: [{endPort: 90}]}", "{ports: [{port: 80, endPort: 90}]}"),
        ("{ports: [{port: http, endPort: 90}]}", "{ports: [{port: http}]}"),
        ('{ports: [{port: "80"}]}', "{ports: [{port: 80}]}"),
        ("{ports: [{port: abcdefghijklmnop}]}", "{ports: [{port: abcdefghijklmno}]}"),
        ("{to: [{}]}", "{to: [{podSelector: {}}]}"),
        (
            "{to: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}",
            "{to: [{podSelector: {}, namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]}",
        ),
    ],
)
def test_a_schema_and_the_reader_agree_about_a_rule_of_kubernetes(wrong: str, right: str) -> None:
    assert judged(KUBERNETES.replace("RULE", wrong)) == (False, False)
    assert judged(KUBERNETES.replace("RULE", right)) == (True, True)


@pytest.mark.parametrize(("log", "taken"), [("x" * 32, True), ("x" * 33, False), ("é", False)])
def test_a_schema_and_the_reader_agree_about_words_for_the_log(log: str, taken: bool) -> None:
    assert judged(CILIUM.replace("LOG", log).replace("RULE", "{}")) == (taken, taken)


def test_what_is_said_to_be_beyond_a_schema_is_there() -> None:
    assert {path.stem for path in WRONG.glob("*.yaml")} >= BEYOND_A_SCHEMA.keys()


@pytest.mark.parametrize("path", sorted(TOPOLOGIES.rglob("policies/**/*.yaml")), ids=lambda path: path.stem)
def test_a_schema_takes_the_policies_of_the_ready_topologies(path: Path) -> None:
    text = path.read_text()
    read = [parse(text, path.name, profile) for profile in Profile]
    if any(one.ok for one in read):
        assert not refusals(text)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in KINDS:
        file_of(each).write_text(text_of(each))
