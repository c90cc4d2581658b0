"""One flow, followed packet by packet: whether it came to be, and what ended it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from lab.repro.reading.evidence import Address, End, Endpoint, Flow, Outcome
from lab.repro.reading.ip import TCP
from lab.repro.reading.sightings import Heard, Sight
from lab.repro.reading.streams import Stream
from lab.repro.reading.units import ACK, FIN, RST, SYN, Unit

_MAX_SYNS: Final = 64
_MAX_COMMENTS: Final = 16
_RESENT_FOR_NOTHING: Final = 2
"""So often data is sent again without an answer before it counts as cut."""
_HALF: Final = 1 << 31
_ALL: Final = (1 << 32) - 1


class Side(Enum):
    """Whose packet it is."""

    CLIENT = auto()
    SERVER = auto()


class Ends(NamedTuple):
    """A flow's key, from the client's side; addresses packed."""

    protocol: int
    client: bytes
    client_port: int
    server: bytes
    server_port: int

    def reversed(self) -> Ends:
        return Ends(self.protocol, self.server, self.server_port, self.client, self.client_port)


@lru_cache(maxsize=65_536)
def endpoint(packed: bytes, port: int) -> Endpoint:
    return Endpoint(address(packed), port)


@lru_cache(maxsize=65_536)
def address(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


@dataclass(slots=True)
class Sending:
    """One direction of a TCP connection. `since_ns`: when the first octet was sent that has no ACK yet."""

    begun: bool = False
    next: int = 0
    acked: int = 0
    octets: int = 0
    resent: int = 0
    for_nothing: int = 0
    since_ns: int = 0

    def sent(self, unit: Unit, size: int) -> None:
        """`size`: in sequence numbers."""
        end, now_ns = (unit.seq + size) & _ALL, unit.packet.frame.at_ns
        if not self.begun:
            self.begun, self.next, self.acked = True, unit.seq, unit.seq
        if not size:
            return
        if _is_after(end, self.next):
            if self.next == self.acked:
                self.since_ns = now_ns
            self.next = end
            self.octets += unit.size
        elif unit.size > 1 or size > unit.size:  # one octet alone: a keep-alive (RFC 9293 §3.8.4)
            self.resent += 1
            self.for_nothing += _is_after(end, self.acked)

    def heard_of(self, ack: int, now_ns: int) -> None:
        if self.begun and _is_after(ack, self.acked):
            self.acked, self.for_nothing, self.since_ns = ack, 0, now_ns

    @property
    def is_cut(self) -> bool:
        return self.for_nothing >= _RESENT_FOR_NOTHING


class Following:
    """A flow so far."""

    def __init__(self, ends: Ends, unit: Unit, heard: Heard, side: Side) -> None:
        frame = unit.packet.frame
        self.ends = ends
        self.first_ns = self.last_ns = frame.at_ns
        self.syns_ns: list[int] = []
        self._frame, self._tap, self._ttl = frame.number, frame.tap, unit.packet.ttl
        self._isn = unit.seq
        is_tcp = unit.packet.protocol == TCP
        self._outcome = Outcome.MIDWAY if is_tcp and not unit.flags & SYN else Outcome.SILENT
        self._end = End.OPEN
        self._answered_ns: int | None = None
        self._ended_ns: int | None = None
        self._confirmed = False
        self._packets = 0
        self._icmp: tuple[int, int] | None = None
        self._translated: Endpoint | None = None
        self._sendings = {side: Sending() for side in Side}
        self._comments: dict[str, None] = {}
        self.streams: dict[Side, Stream] = {}

    @property
    def has_begun(self) -> bool:
        """Its SYN was seen."""
        return bool(self.syns_ns) or self._outcome is not Outcome.MIDWAY

    def is_new_attempt(self, unit: Unit, side: Side) -> bool:
        """Whether this SYN is no retransmission of the flow's own."""
        return side is not Side.CLIENT or not self.syns_ns or unit.seq != self._isn

    def side_of(self, one: Sight) -> Side:
        is_client = (one.source, one.source_port) == (self.ends.client, self.ends.client_port)
        is_server = (one.destination, one.destination_port) == (self.ends.server, self.ends.server_port)
        return Side.CLIENT if is_client or is_server else Side.SERVER

    def take(self, unit: Unit, side: Side, heard: Heard) -> None:
        self.last_ns = max(self.last_ns, unit.packet.frame.at_ns)
        self._packets += 1
        self.comment(heard)
        if unit.packet.protocol == TCP:
            self._segment(unit, side)
        else:
            self._datagram(unit, side)

    def comment(self, heard: Heard) -> None:
        """What is said of one of its packets."""
        if heard.comments and len(self._comments) < _MAX_COMMENTS:
            self._comments.update(dict.fromkeys(heard.comments))

    def translate(self, ends: Ends, ttl: int, *, outward: bool) -> None:
        """It has other addresses elsewhere: those nearer to the client, where his packet has more TTL."""
        other = ends
        if outward and ttl > self._ttl:
            other, self.ends, self._ttl = self.ends, ends, ttl
        if (other.server, other.server_port) != (self.ends.server, self.ends.server_port):
            self._translated = endpoint(other.server, other.server_port)

    def unreachable(self, unit: Unit) -> None:
        """An ICMP error came back."""
        now_ns = unit.packet.frame.at_ns
        self._icmp = unit.source_port, unit.destination_port
        if self._outcome is Outcome.SILENT:
            self._outcome, self._answered_ns = Outcome.UNREACHABLE, now_ns
        elif self._end is End.OPEN:
            self._finish(End.UNREACHABLE, now_ns)

    def value(self, tap_name: Callable[[int], str | None]) -> Flow:
        outcome, end, ended_ns = self._verdict()
        client, server = self._sendings[Side.CLIENT], self._sendings[Side.SERVER]
        return Flow(
            protocol="tcp" if self.ends.protocol == TCP else "udp",
            client=endpoint(self.ends.client, self.ends.client_port),
            server=endpoint(self.ends.server, self.ends.server_port),
            outcome=outcome,
            end=end,
            first_ns=self.first_ns,
            last_ns=self.last_ns,
            syns_ns=tuple(self.syns_ns),
            answered_ns=self._answered_ns if outcome is not Outcome.SILENT else None,
            ended_ns=ended_ns,
            bytes_sent=client.octets,
            bytes_received=server.octets,
            packets=self._packets,
            resent=client.resent + server.resent,
            tap=tap_name(self._tap),
            frame=self._frame,
            translated=self._translated,
            icmp=self._icmp,
            comments=tuple(self._comments)[:_MAX_COMMENTS],
        )

    def _segment(self, unit: Unit, side: Side) -> None:
        flags, now_ns = unit.flags, unit.packet.frame.at_ns
        if flags & SYN:
            self._syn(unit, side)
        elif flags & RST:
            self._reset(side, now_ns)
            return
        elif side is Side.CLIENT and flags & ACK:
            self._confirmed = True
        sending, other = self._sendings[side], self._sendings[_OTHER[side]]
        if flags & ACK:
            other.heard_of(unit.ack, now_ns)
        is_again = flags & SYN and sending.begun
        if not is_again:
            sending.sent(unit, unit.size + bool(flags & SYN) + bool(flags & FIN))
        if self._end is End.UNREACHABLE and side is Side.SERVER:
            self._end, self._ended_ns = End.OPEN, None
        if flags & FIN:
            self._finish(End.CLOSED, now_ns)

    def _syn(self, unit: Unit, side: Side) -> None:
        now_ns = unit.packet.frame.at_ns
        if side is Side.CLIENT and not unit.flags & ACK:
            if len(self.syns_ns) < _MAX_SYNS:
                self.syns_ns.append(now_ns)
        elif side is Side.SERVER and self._outcome is not Outcome.ESTABLISHED:
            self._outcome, self._answered_ns = Outcome.ESTABLISHED, now_ns

    def _reset(self, side: Side, now_ns: int) -> None:
        if self._outcome is Outcome.SILENT and side is Side.SERVER:
            self._outcome, self._answered_ns = Outcome.RESET, now_ns
        self._finish(End.RESET, now_ns)

    def _datagram(self, unit: Unit, side: Side) -> None:
        now_ns = unit.packet.frame.at_ns
        self._sendings[side].octets += unit.size
        if side is Side.SERVER and self._outcome is not Outcome.ESTABLISHED:
            self._outcome, self._answered_ns = Outcome.ESTABLISHED, now_ns
        elif self._outcome is Outcome.SILENT and len(self.syns_ns) < _MAX_SYNS:
            self.syns_ns.append(now_ns)

    def _finish(self, end: End, now_ns: int) -> None:
        """A reset outranks what came before it; else the first end is it."""
        if self._end is End.OPEN or (end is End.RESET and self._end is not End.RESET):
            self._end = end
            self._ended_ns = self._ended_ns or now_ns

    def _verdict(self) -> tuple[Outcome, End, int | None]:
        """With what only the whole shows."""
        if self._outcome is Outcome.ESTABLISHED and not self._confirmed and self._asked_again():
            return Outcome.SILENT, self._end, self._ended_ns
        cut = [one.since_ns for one in self._sendings.values() if one.is_cut]
        if cut and self._end in (End.OPEN, End.CLOSED):
            return self._outcome, End.CUT, min(cut)
        return self._outcome, self._end, self._ended_ns

    def _asked_again(self) -> bool:
        """The client sent its SYN again after the SYN-ACK, which has not come to it then."""
        answered_ns = self._answered_ns
        return answered_ns is not None and any(at_ns > answered_ns for at_ns in self.syns_ns)


_OTHER: Final = {Side.CLIENT: Side.SERVER, Side.SERVER: Side.CLIENT}


def _is_after(one: int, other: int) -> bool:
    """In sequence numbers."""
    return 0 < (one - other) & _ALL < _HALF
