"""The numbers that connections carry: one per direction and atom, in the two halves of `ct mark`.

Live connections keep their numbers in the kernel while agents come and go. So the registries must outlive
whoever compiles: the shim saves them before it commits, and a shim that lost them reads them back from the
comments of the kernel's rules (`Inventory.grants`).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from acns.policy.model import Direction
from acns.policy.numbers import GRANT_RANGE, NumberRegistry

PREFIXES = {Direction.EGRESS: "re_", Direction.INGRESS: "ri_"}
"""How the ids of rules that allow begin: the keys of both registries."""


@dataclass(frozen=True, slots=True)
class Grants:
    """The registries of both directions; keys are ids of rules."""

    egress: NumberRegistry
    ingress: NumberRegistry

    @classmethod
    def fresh(cls) -> Grants:
        """Registries that know nothing yet."""
        return cls(
            NumberRegistry("egress grants", *GRANT_RANGE), NumberRegistry("ingress grants", *GRANT_RANGE)
        )

    def of(self, direction: Direction) -> NumberRegistry:
        """One direction's registry."""
        return self.egress if direction is Direction.EGRESS else self.ingress

    def keep_only(self, live: Set[str]) -> None:
        """These are in use, in either direction; the others' numbers may be given away, if they run out."""
        self.egress.keep_only(live)
        self.ingress.keep_only(live)

    def adopt(self, found: Mapping[str, int]) -> None:
        """Numbers that the kernel's rules have: taken over where nothing known contradicts them."""
        for direction, prefix in PREFIXES.items():
            self.of(direction).adopt({key: number for key, number in found.items() if key.startswith(prefix)})
