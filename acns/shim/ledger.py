"""The numbers and ids that the kernel and the peers carry for us, kept on disk.

`ct mark`s, identities and endpoint ids outlive the shim in the kernel and in the resolver, so the registries
are saved before a ruleset that uses them is committed. Beside them lies what each short id in `nft list
ruleset` and in a drop's log prefix stands for: selector, policy, rule and file:line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acns import statefile
from acns.datapath.model import Description
from acns.errors import PeerError
from acns.policy import numbers
from acns.telemetry import log as logs

log = logs.named(__name__)

FORMAT, VERSION = "acns-ledger", 1


class Ledger:
    """Registries for identities, CIDR identities, endpoints and grants, and the table of ids."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved = saved = self._load()
        known: Mapping[str, dict[str, int]] = saved.get("numbers", {})

        def registry(kind: str, span: tuple[int, int]) -> numbers.NumberRegistry:
            return numbers.NumberRegistry(kind, *span, known.get(kind))

        self.identities = registry("identities", numbers.IDENTITY_RANGE)
        self.cidrs = registry("CIDR identities", numbers.CIDR_IDENTITY_RANGE)
        self.endpoints = registry("endpoints", numbers.ENDPOINT_RANGE)
        self.grants = registry("grants", numbers.GRANT_RANGE)

    def save(self, descriptions: Mapping[str, Description]) -> None:
        """Write everything, with the new table of ids; nothing is written when nothing changed."""
        payload = {
            "numbers": self._numbers(),
            "ids": {name: _described(description) for name, description in descriptions.items()},
        }
        if payload != self._saved:
            statefile.save(self.path, FORMAT, VERSION, payload)
            self._saved = payload

    def _load(self) -> dict[str, Any]:
        try:
            return dict(statefile.load(self.path, FORMAT, VERSION) or {})
        except PeerError as error:
            log.failure("state damaged", error)
            return {}

    def _numbers(self) -> dict[str, dict[str, int]]:
        registries = (self.identities, self.cidrs, self.endpoints, self.grants)
        return {registry.kind: registry.known() for registry in registries}


def _described(description: Description) -> dict[str, Any]:
    return {
        "kind": description.kind,
        "text": description.text,
        "origins": [str(origin) for origin in description.origins],
        "endpoints": list(description.endpoints),
    }
