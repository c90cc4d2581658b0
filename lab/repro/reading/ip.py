"""A frame's IP packet: its header, and what of its payload the capture has.

IPv6 is read too: nothing here enforces anything, and a pod that goes around a filter by IPv6 is worth seeing.
Checksums are not looked at, since senders leave them to their network cards. Lengths are: a capture of a
card that cuts segments itself shows packets of 64 KiB, with an IP length of 0 where that is more.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from lab.repro.reading.evidence import Kind
from lab.repro.reading.framing import Frame
from lab.repro.reading.links import IPV4, Inner
from lab.repro.reading.notes import Flaw

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_IPV4, _IPV6 = struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!IHBB16s16s")
_FRAGMENT: Final = 44
_SKIPPED: Final = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options
_MAX_HEADERS: Final = 8
_MORE, _OFFSET = 0x2000, 0x1FFF
_MAX_OCTETS: Final = 1 << 20


class Packet(NamedTuple):
    """One IP packet or fragment. `body`: behind the header, as far as it is in the capture; `size`: its whole
    length. `offset` in octets; `more` fragments follow. Addresses are packed."""

    frame: Frame
    source: bytes
    destination: bytes
    protocol: int
    ident: int
    ttl: int
    offset: int
    more: bool
    body: bytes
    size: int

    @property
    def is_fragment(self) -> bool:
        return self.more or self.offset > 0


def read(frame: Frame, inner: Inner) -> Packet:
    """Raises Flaw."""
    try:
        return (_ipv4 if inner.kind == IPV4 else _ipv6)(frame, inner.at)
    except (struct.error, IndexError):
        raise Flaw(Kind.TRUNCATED, "a packet cut off within its IP header") from None


def _ipv4(frame: Frame, at: int) -> Packet:
    data = frame.data
    first, _, total, ident, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(data, at)
    octets = (first & 0xF) * 4
    if first >> 4 != 4 or octets < _IPV4.size:
        raise Flaw(Kind.MALFORMED, "an IPv4 header that is none")
    start, there = at + octets, frame.wire_bytes - at
    if total == 0 or total > there:
        total = _bounded(there)
    if total < octets:
        raise Flaw(Kind.MALFORMED, "an IPv4 packet shorter than its header")
    body, offset = data[start : at + total], (fragment & _OFFSET) * 8
    more, size = bool(fragment & _MORE), total - octets
    return Packet(frame, source, destination, protocol, ident, ttl, offset, more, body, size)


def _ipv6(frame: Frame, at: int) -> Packet:
    data = frame.data
    first, length, protocol, hops, source, destination = _IPV6.unpack_from(data, at)
    if first >> 28 != 6:
        raise Flaw(Kind.MALFORMED, "an IPv6 header that is none")
    start, there = at + _IPV6.size, frame.wire_bytes - at - _IPV6.size
    end = start + (length if 0 < length <= there else _bounded(there))
    ident, offset, more = first & 0xFFFFF, 0, False
    for _ in range(_MAX_HEADERS):
        if protocol in _SKIPPED:
            protocol, start = data[start], start + 8 * (data[start + 1] + 1)
        elif protocol == _FRAGMENT:
            protocol, _, fragment, ident = struct.unpack_from("!BBHI", data, start)
            offset, more, start = fragment & 0xFFF8, bool(fragment & 1), start + 8
        else:
            break
    if start > end:
        raise Flaw(Kind.MALFORMED, "IPv6 headers longer than their packet")
    body = data[start:end]
    return Packet(frame, source, destination, protocol, ident, hops, offset, more, body, end - start)


def _bounded(octets: int) -> int:
    """A length that only the file says. Raises Flaw."""
    if octets > _MAX_OCTETS:
        raise Flaw(Kind.MALFORMED, "a packet longer than any")
    return octets
