"""The same packet, heard more than once: one packet with several sightings.

A capture of all links of a node hears a packet where it comes in and where it goes out; `tcpdump -i any`
hears it at each interface in one tap; a router in between takes 1 off its TTL, and a Service or a masquerade
changes an address. What stays is the IP identification (0 for much that is never fragmented), what TCP
counts, and the payload. A retransmission has another identification, or comes to the same tap, and is a
packet of its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from lab.repro.reading.links import is_cooked
from lab.repro.reading.units import Unit

WINDOW_NS: Final = 200_000_000
"""Below any resolver's patience and TCP's smallest retransmission time-out."""
_MAX_REMEMBERED: Final = 50_000
_MAX_SIGHTS: Final = 32
_MAX_KEPT_BYTES: Final = 256

Key = tuple[int, int, int, int, int, int, bytes | tuple[int, int]]


class Sight(NamedTuple):
    """Where and when it was heard, and under which addresses (packed) and ports."""

    frame: int
    at_ns: int
    tap: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    ttl: int


class Heard:
    """One packet. `owner`: what was made of it, by whoever took it first."""

    __slots__ = ("comments", "is_cooked", "owner", "sights")

    def __init__(self, unit: Unit) -> None:
        self.sights = [sight(unit)]
        self.comments: tuple[str, ...] = unit.packet.frame.comments
        self.is_cooked = is_cooked(unit.packet.frame.link_type)
        self.owner: object = None

    def is_again(self, one: Sight, *, is_sure: bool) -> bool:
        """Whether this is the same packet, elsewhere."""
        if abs(one.at_ns - self.sights[0].at_ns) > WINDOW_NS or len(self.sights) >= _MAX_SIGHTS:
            return False
        if not self.is_cooked and any(_is_same_place(known, one) for known in self.sights):
            return False
        return any(_is_related(known, one, is_sure=is_sure) for known in self.sights)

    def add(self, one: Sight, comments: tuple[str, ...]) -> None:
        self.sights.append(one)
        if comments:
            self.comments += tuple(text for text in comments if text not in self.comments)

    @property
    def nearest_sender(self) -> Sight:
        return max(self.sights, key=lambda one: (one.ttl, -one.at_ns))

    @property
    def nearest_receiver(self) -> Sight:
        return min(self.sights, key=lambda one: (one.ttl, -one.at_ns))


class Sightings:
    """Knows the packets of the last moments."""

    def __init__(self) -> None:
        self._recent: dict[Key, Heard] = {}
        self._older: dict[Key, Heard] = {}
        self._turned_ns = 0
        self.again = 0

    def take(self, unit: Unit) -> tuple[Heard, bool]:
        """The packet, and whether it is new. A sighting more is its last."""
        packet = unit.packet
        self._turn(packet.frame.at_ns)
        key: Key = (
            packet.protocol,
            packet.ident,
            packet.offset,
            unit.flags,
            unit.seq,
            unit.ack,
            _kept(unit.payload),
        )
        known = self._recent.get(key) or self._older.get(key)
        if known is not None:
            one = sight(unit)
            if known.is_again(one, is_sure=bool(packet.ident or unit.seq)):
                known.add(one, packet.frame.comments)
                self.again += 1
                return known, False
        heard = self._recent[key] = Heard(unit)
        return heard, True

    def _turn(self, now_ns: int) -> None:
        if abs(now_ns - self._turned_ns) > WINDOW_NS or len(self._recent) > _MAX_REMEMBERED:
            self._older, self._recent, self._turned_ns = self._recent, {}, now_ns


def sight(unit: Unit) -> Sight:
    packet = unit.packet
    frame = packet.frame
    return Sight(
        frame.number,
        frame.at_ns,
        frame.tap,
        packet.source,
        unit.source_port,
        packet.destination,
        unit.destination_port,
        packet.ttl,
    )


def _kept(payload: bytes) -> bytes | tuple[int, int]:
    """What is remembered of it: little, as there may be many."""
    return payload if len(payload) <= _MAX_KEPT_BYTES else (len(payload), hash(payload))


def _is_same_place(known: Sight, one: Sight) -> bool:
    """One tap hears a packet twice only where it was routed in between."""
    return known.tap == one.tap and known.ttl == one.ttl


def _is_related(known: Sight, one: Sight, *, is_sure: bool) -> bool:
    """The same addresses, or some of them translated on the way: both only where it `is_sure`."""
    same_source = (known.source, known.source_port) == (one.source, one.source_port)
    same_destination = (known.destination, known.destination_port) == (one.destination, one.destination_port)
    if same_source and same_destination:
        return True
    if known.ttl == one.ttl:
        return False
    return same_source or same_destination or (is_sure and known.source_port == one.source_port)
