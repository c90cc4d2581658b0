"""What is asked of a back end: a topology, its manifests, and which agents to run.

It crosses the control socket as JSON, and its digest tells whether a running lab is the one asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.spec.plan import Addressing
from lab.spec.topology import Topology

_FORMAT = 4
"""Raised when labs made by older code must be rebuilt."""


@dataclass(frozen=True, slots=True)
class Agents:
    """The modules that run as agents on every node; an empty name leaves that agent out."""

    shim: str = "acns.shim"
    resolver: str = "acns.resolver"


NO_AGENTS = Agents("", "")


@dataclass(frozen=True, slots=True)
class Order:
    """One lab as it shall be."""

    topology: Topology
    manifests: Mapping[str, str]
    """File name → text, the same on every node."""
    agents: Agents = field(default_factory=Agents)

    @property
    def addressing(self) -> Addressing:
        return Addressing.of(self.topology)

    @property
    def digest(self) -> str:
        """Changes when anything changes that a lab is built from; policies count by content, not by path."""
        content = self.to_json()
        content["topology"].pop("policies")
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "topology": self.topology.model_dump(mode="json"),
            "manifests": dict(self.manifests),
            "agents": {"shim": self.agents.shim, "resolver": self.agents.resolver},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Order:
        """The inverse of `to_json`. Raises ValueError for one that other code has written."""
        if value.get("format") != _FORMAT:
            raise ValueError(f"format {value.get('format')}, not {_FORMAT}")
        topology = Topology.model_validate(value["topology"])
        return cls(topology, value["manifests"], Agents(**value["agents"]))
