"""The JSON schema of topology files: the one in `schemas/` is up to date, and says what is read.

After a change of the models: PYTHONPATH=. python -m tests.unit.lab_spec.test_topology_schema
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from lab.spec.load import SHIPPED, shipped_topologies
from lab.spec.overlay import Overlay
from lab.spec.schema import json_schema
from lab.spec.topology import Topology

FILE = Path(__file__).parents[3] / "schemas" / "topology.json"


def text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def test_the_schema_in_the_repository_is_the_one_of_the_models() -> None:
    assert FILE.read_text() == text(), f"write it anew: {__doc__}"


def test_it_has_every_field_and_an_overlay_needs_no_nodes() -> None:
    schema = json_schema()
    assert schema["properties"].keys() == Topology.model_fields.keys() | Overlay.model_fields.keys()
    assert schema["required"] == ["name"]
    assert schema["anyOf"] == [{"required": ["nodes"]}, {"required": ["base"]}]
    assert all(model["additionalProperties"] is False for model in (schema, *schema["$defs"].values()))


@pytest.mark.parametrize(
    "path", [*shipped_topologies(), *sorted(SHIPPED.glob("bases/*.yaml"))], ids=lambda path: path.stem
)
def test_an_editor_finds_nothing_wrong_with_what_is_shipped(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())


if __name__ == "__main__":
    FILE.write_text(text())
