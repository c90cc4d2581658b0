"""Connections: what became of each attempt, and how it ended.

A flow is known by both its ends, as its client saw them; the addresses that a translation gave it on its way
are further names of the same flow. Bounded: past `Limits.flows` new ones are not taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lab.repro.reading.evidence import Flow, Kind, Limits
from lab.repro.reading.following import Ends, Following, Side
from lab.repro.reading.ip import TCP
from lab.repro.reading.notes import Notes
from lab.repro.reading.sightings import Heard, Sight
from lab.repro.reading.units import ACK, SYN, About, Unit

_IDLE_NS: Final = 180_000_000_000
"""Datagrams after so long are another flow: conntrack's time for one with answers is 120 s."""
_WELL_KNOWN: Final = 1_024


class Flows:
    """All flows of a capture."""

    def __init__(self, limits: Limits, notes: Notes) -> None:
        self._limits = limits
        self._notes = notes
        self._live: dict[Ends, Following] = {}
        self._all: list[Following] = []

    def take(self, unit: Unit, heard: Heard) -> tuple[Following, Side] | None:
        """The flow that a packet, heard for the first time, belongs to, and whose it is."""
        ends = _ends(unit)
        found = self._find(ends)
        if found is None or self._begins_another(unit, *found):
            found = self._begin(unit, ends, heard)
        if found is None:
            return None
        flow, side = found
        heard.owner = flow
        flow.take(unit, side, heard)
        return found

    def again(self, heard: Heard) -> None:
        """Its packet was heard once more: under other addresses, perhaps."""
        flow, last = heard.owner, heard.sights[-1]
        if not isinstance(flow, Following):
            return
        flow.comment(heard)
        ends = _ends_of(flow.ends.protocol, last)
        if flow.ends in (ends, ends.reversed()) or ends in self._live or ends.reversed() in self._live:
            return
        if len(self._live) >= 2 * self._limits.flows:
            return
        outward = flow.side_of(heard.sights[0]) is Side.CLIENT
        flow.translate(ends if outward else ends.reversed(), last.ttl, outward=outward)
        self._live[ends if outward else ends.reversed()] = flow

    def error(self, unit: Unit, about: About) -> bool:
        """An ICMP error: whether it is about a flow that is known."""
        found = self._find(Ends(about.protocol, *about[1:]))
        if found:
            found[0].unreachable(unit)
        return found is not None

    def finished(self) -> Iterator[Flow]:
        for flow in self._all:
            yield flow.value(self._notes.tap_name)

    def _find(self, ends: Ends) -> tuple[Following, Side] | None:
        if flow := self._live.get(ends):
            return flow, Side.CLIENT
        if flow := self._live.get(ends.reversed()):
            return flow, Side.SERVER
        return None

    def _begins_another(self, unit: Unit, flow: Following, side: Side) -> bool:
        if unit.packet.protocol != TCP:
            return unit.packet.frame.at_ns - flow.last_ns > _IDLE_NS
        return unit.flags & (SYN | ACK) == SYN and flow.is_new_attempt(unit, side)

    def _begin(self, unit: Unit, ends: Ends, heard: Heard) -> tuple[Following, Side] | None:
        if len(self._all) >= self._limits.flows:
            detail = f"more than {self._limits.flows} connections: those after are not read"
            self._notes.trouble(unit.packet.frame.number, Kind.TOO_MUCH, detail)
            return None
        side = _who_sent(unit, self._limits)
        flow = Following(ends if side is Side.CLIENT else ends.reversed(), unit, heard, side)
        self._live[flow.ends] = flow
        self._all.append(flow)
        return flow, side


def _who_sent(unit: Unit, limits: Limits) -> Side:
    """Of the first packet of a flow."""
    if unit.packet.protocol == TCP and unit.flags & SYN:
        return Side.SERVER if unit.flags & ACK else Side.CLIENT
    source, destination = unit.source_port, unit.destination_port
    if (source in limits.dns_ports) != (destination in limits.dns_ports):
        return Side.SERVER if source in limits.dns_ports else Side.CLIENT
    if unit.packet.protocol != TCP or (source < _WELL_KNOWN) == (destination < _WELL_KNOWN):
        return Side.CLIENT
    return Side.SERVER if source < _WELL_KNOWN else Side.CLIENT


def _ends(unit: Unit) -> Ends:
    packet = unit.packet
    return Ends(packet.protocol, packet.source, unit.source_port, packet.destination, unit.destination_port)


def _ends_of(protocol: int, one: Sight) -> Ends:
    return Ends(protocol, one.source, one.source_port, one.destination, one.destination_port)
