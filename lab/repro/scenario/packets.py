"""IPv4 packets as octets: read, and given other addresses; pure.

What this module keeps true: only addresses change, and checksums by just that (RFC 1624): a right one stays
right, a wrong one stays as wrong as it was. What the sender's kernel left to its network card is the
exception: there a capture has the sum of the pseudo header alone, which nobody ever received; it is finished
as the card did.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from lab.repro.reading import ip, units
from lab.repro.reading.evidence import Limits
from lab.repro.reading.framing import Frame
from lab.repro.reading.ip import ICMP, TCP, UDP, Packet
from lab.repro.reading.links import IPV4, Inner
from lab.repro.reading.notes import Flaw
from lab.repro.reading.units import Fragments, Unit

HEADER_OCTETS: Final = 20
MOST_OCTETS: Final = 1_500
"""What a lab's links carry in one frame."""
_SUM_AT: Final = {TCP: 16, UDP: 6}
_FILLED_SUM_AT: Final = {**_SUM_AT, ICMP: 2}
"""Where a checksum covers what is carried; ICMP's covers no addresses."""
_HEADERS: Final = {TCP: 20, UDP: 8, ICMP: 4}
_ECHO_OCTETS: Final = 8
_ECHOES: Final = (0, 8)
_DATA_OFFSET_AT: Final = 12
_PLAIN_HEADER: Final = 0x45
_RAW_LINK: Final = 101
_SOURCE, _DESTINATION = slice(12, 16), slice(16, 20)
_IP_SUM_AT, _PROTOCOL_AT = 10, 9


def packet(octets: bytes) -> Packet | None:
    """None for one whose IP header cannot be read."""
    try:
        return ip.read(Frame(0, 0, 0, _RAW_LINK, octets, len(octets)), Inner(IPV4, 0))
    except Flaw:
        return None


def unit(octets: bytes) -> Unit | None:
    """None for what cannot be read."""
    found = packet(octets)
    try:
        return units.read(found) if found is not None and not found.is_fragment else None
    except Flaw:
        return None


def destination(octets: bytes) -> bytes:
    return octets[_DESTINATION]


def parse(text: str) -> bytes:
    """Of a scenario. Raises ValueError for what nobody can route."""
    octets = bytes.fromhex(text)
    if len(octets) < HEADER_OCTETS or octets[0] >> 4 != 4:
        raise ValueError(f"it is no IPv4 packet: {HEADER_OCTETS} octets and more, the first 4x")
    if len(octets) > MOST_OCTETS:
        raise ValueError(f"{len(octets)} octets: a lab's links carry {MOST_OCTETS}")
    return octets


def finished(octets: bytes) -> bytes:
    """With the checksum that was left to a network card."""
    found = packet(octets)
    at = _sum_at(octets, found)
    if found is None or at is None or found.more or len(found.body) != found.size:
        return octets
    start = at - _SUM_AT[found.protocol]
    body = octets[start : start + found.size]
    pseudo = octets[12:20] + struct.pack("!HH", found.protocol, found.size)
    if int.from_bytes(octets[at : at + 2]) != _folded(pseudo):
        return octets
    total = ~_folded(pseudo + body[: at - start] + b"\0\0" + body[at - start + 2 :]) & 0xFFFF
    return _put(octets, at, total or 0xFFFF)


def moved(octets: bytes, places: Mapping[bytes, bytes]) -> bytes:
    """Under the addresses that `places` has for its own."""
    made, at = octets, _sum_at(octets, packet(octets))
    for part in (_SOURCE, _DESTINATION):
        old, new = octets[part], places.get(octets[part], octets[part])
        if old == new:
            continue
        made = made[: part.start] + new + made[part.stop :]
        made = _changed(made, _IP_SUM_AT, old, new)
        if at is not None:
            made = _changed(made, at, old, new)
    return made


def payload_at(octets: bytes) -> int:
    """Where begins what may say anything: behind the headers that can be read, IP options not among them."""
    found = packet(octets)
    if found is None or octets[0] & 0xF > HEADER_OCTETS // 4:
        return HEADER_OCTETS
    if found.offset or found.protocol not in _HEADERS:
        return HEADER_OCTETS
    header, read = _HEADERS[found.protocol], unit(octets)
    if read is not None and found.protocol == TCP:
        header = (octets[HEADER_OCTETS + _DATA_OFFSET_AT] >> 4) * 4
    elif read is not None and found.protocol == ICMP and read.source_port in _ECHOES:
        header = _ECHO_OCTETS  # of others, what follows may be an address
    return min(HEADER_OCTETS + header, len(octets))


def refilled(octets: bytes, start: int, new: bytes) -> bytes:
    """With other octets, as many, from `start` on; its checksums by what that changes."""
    old, header = octets[start : start + len(new)], (octets[0] & 0xF) * 4
    made = octets[:start] + new + octets[start + len(new) :]
    options = max(header - start, 0)
    if options:
        made = _changed(made, _IP_SUM_AT, _even(old[:options]), _even(new[:options]))
    at = _sum_at(octets, packet(octets), _FILLED_SUM_AT)
    if at is None or at >= start:
        return made
    shift = bytes((start - header) % 2)
    return _changed(made, at, _even(shift + old), _even(shift + new))


def datagram(pieces: Sequence[bytes]) -> Unit | None:
    """The UDP datagram that fragments make up; None where they overlap, lack something, have IP options, or
    carry more than it."""
    found = [packet(octets) for octets in pieces]
    read = [one for one in found if one is not None and one.is_fragment and one.protocol == UDP]
    if len(read) < len(pieces) or any(octets[0] != _PLAIN_HEADER for octets in pieces):
        return None
    fragments = Fragments(Limits())
    try:
        made = [whole for one in read if (whole := fragments.take(one)) is not None]
        unit = units.read(made[0][0]) if made and len(made[0][1]) == len(pieces) else None
    except Flaw:
        return None
    return unit if unit is not None and unit.packet.size == len(unit.payload) + _HEADERS[UDP] else None


def refilled_pieces(pieces: Sequence[bytes], new: bytes) -> list[bytes]:
    """The fragments of a `datagram`, with as many other octets behind its header; the checksum in the first
    of them follows what changes in all."""
    made, start, old, first = [], _HEADERS[UDP], bytearray(len(new)), 0
    for number, octets in enumerate(pieces):
        found = packet(octets)
        assert found is not None, "`datagram` has read it"
        begin, end = max(found.offset - start, 0), max(found.offset + found.size - start, 0)
        kept = HEADER_OCTETS + found.size - (end - begin)
        old[begin:end] = octets[kept : kept + end - begin]
        made.append((octets[:kept] + new[begin:end]).ljust(len(octets), b"\0"))
        first = first if found.offset else number
    at = _sum_at(made[first], packet(made[first]))
    if at is not None:
        made[first] = _changed(made[first], at, _even(bytes(old)), _even(new))
    return made


def _sum_at(octets: bytes, found: Packet | None, places: Mapping[int, int] = _SUM_AT) -> int | None:
    """Where its TCP or UDP checksum is; None where there is none."""
    if found is None or found.offset or found.protocol not in places:
        return None
    at = (octets[0] & 0xF) * 4 + places[found.protocol]
    if at + 2 > len(octets) or (found.protocol == UDP and octets[at : at + 2] == b"\0\0"):
        return None
    return at


def _changed(octets: bytes, at: int, old: bytes, new: bytes) -> bytes:
    """RFC 1624 section 3: HC' = ~(~HC + ~m + m')."""
    was = ~int.from_bytes(octets[at : at + 2]) & 0xFFFF
    total = was + (~_folded(old) & 0xFFFF) + _folded(new)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    made = ~total & 0xFFFF
    is_none = made == 0 and octets[_PROTOCOL_AT] == UDP and at != _IP_SUM_AT  # RFC 768: sent as all ones
    return _put(octets, at, 0xFFFF if is_none else made)


def _put(octets: bytes, at: int, value: int) -> bytes:
    return octets[:at] + value.to_bytes(2) + octets[at + 2 :]


def _folded(octets: bytes) -> int:
    """The ones' complement sum of its 16-bit words (RFC 1071)."""
    even = _even(octets)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _even(octets: bytes) -> bytes:
    return octets + b"\0" * (len(octets) % 2)
