"""The topology file as a JSON schema, for editors: completion, texts on hover, red lines under mistakes.

It comes from the models that read the file. An editor sees the structure only: `lab.validate` knows what
parts mean together. An overlay need not have what its base has.
"""

from __future__ import annotations

from typing import Any

from acns.policy.schema import DRAFT, Generator
from lab.spec.overlay import Overlay
from lab.spec.topology import Topology


def json_schema() -> dict[str, Any]:
    """The schema of a whole file."""
    schema = Topology.model_json_schema(schema_generator=Generator, mode="validation")
    overlay = Overlay.model_json_schema(schema_generator=Generator, mode="validation")
    schema["properties"] = {**overlay["properties"], **schema["properties"]}
    schema["$defs"] = dict(sorted({**overlay["$defs"], **schema["$defs"]}.items()))
    schema["required"] = ["name"]
    schema["anyOf"] = [{"required": ["nodes"]}, {"required": ["base"]}]
    return {"$schema": DRAFT, **schema, "title": "Topology"}
