"""How much is measured: the scale, and how often everything is repeated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lab.bench.cluster import Scale

PARTS = ("load", "increments", "mappings", "memory", "datapath", "curve")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. The limits are meant for the scale of `FULL`."""

    scale: Scale = field(default_factory=Scale)
    curve: tuple[int, ...] = (10, 50, 250, 1_000)
    """Numbers of endpoints; policies, selectors and addresses grow along."""
    elsewhere: int = 10
    """How many times as many policies the others get, to show that the measured endpoint does not mind."""
    loads: int = 5
    increments: int = 25
    """Of each kind."""
    mappings: int = 500
    elements: int = 1_000
    slices: int = 40
    """Of each kind of traffic, on each wire."""
    round_trips: int = 1_000
    """In one slice."""
    connections: int = 50
    """In one slice."""
    bulk_slices: int = 12
    bulk_s: int = 1
    """One slice of iperf3."""

    def at(self, endpoints: int) -> Plan:
        """The same load on each endpoint, with so many of them; repeated less often."""
        scale = self.scale
        return replace(
            self,
            scale=replace(
                scale,
                endpoints=endpoints,
                policies=_share(scale.policies, endpoints, scale.endpoints),
                selectors=_share(scale.selectors, endpoints, scale.endpoints),
                addresses=_share(scale.addresses, endpoints, scale.endpoints),
            ),
            loads=_share(self.loads, 2, 3),
            increments=_share(self.increments, 1, 2),
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plan:
        """The inverse of `as_json`."""
        return cls(**{**values, "scale": Scale(**values["scale"]), "curve": tuple(values["curve"])})


def _share(number: int, part: int, whole: int) -> int:
    return max(1, number * part // whole)


FULL = Plan()
QUICK = Plan(
    scale=Scale(endpoints=25, policies=50, selectors=200, addresses=2_000),
    curve=(10, 25),
    loads=2,
    increments=5,
    mappings=100,
    elements=200,
    slices=8,
    round_trips=200,
    connections=20,
    bulk_slices=2,
)
