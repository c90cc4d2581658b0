"""Single packets by hand: what a program's first packet would be, recognisable wherever it comes by.

A probe is known by its sender and its IP identification, which every translation on the way leaves alone, so
that exactly this packet can be traced whatever its protocol; its answer is known by its ports.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.policy.model import ICMP, Ports, Protocol
from acns.policy.traffic import Packet

OTHER_PROTOCOL = 253
"""For experimentation and testing (RFC 3692): neither TCP, UDP, SCTP nor ICMP."""

_ICMP, _TCP, _UDP, _SCTP = 1, 6, 17, 132
_NUMBERS = {Protocol.TCP: _TCP, Protocol.UDP: _UDP, Protocol.SCTP: _SCTP}
_TTL = 64
_SYN, _WINDOW = 0x02, 64_240
_SCTP_INIT = 1
_FIRST_PORT, _LAST_PORT = 61_000, 65_535
"""Above what Linux gives out by itself."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet. `port` is its source port, or the identifier of an ICMP echo."""

    source: IPv4Address
    destination: IPv4Address
    packet: Packet
    ident: int
    port: int

    @property
    def protocol(self) -> int:
        """IANA's number."""
        match self.packet:
            case Ports(protocol=protocol):
                return _NUMBERS[protocol]
            case ICMP():
                return _ICMP
        return OTHER_PROTOCOL

    def data(self) -> bytes:
        """From the IP header on; the kernel fills in its checksum."""
        payload = self._payload()
        head = struct.pack(
            "!BBHHHBBH4s4s",
            *(0x45, 0, 20 + len(payload), self.ident, 0, _TTL, self.protocol, 0),
            *(self.source.packed, self.destination.packed),
        )
        return head + payload

    def _payload(self) -> bytes:
        match self.packet:
            case Ports(protocol=Protocol.TCP, first=port):
                head = struct.pack("!HHIIBBHHH", self.port, port, self.ident, 0, 0x50, _SYN, _WINDOW, 0, 0)
                return _with_sum(head, 16, self._pseudo_header(len(head)))
            case Ports(protocol=Protocol.UDP, first=port):
                return _with_sum(struct.pack("!HHHH", self.port, port, 8, 0), 6, self._pseudo_header(8))
            case Ports(first=port):
                return _sctp_init(self.port, port)
            case ICMP(type=kind):
                return _with_sum(struct.pack("!BBHHH20x", kind, 0, 0, self.port, 1), 2)
        return bytes(8)

    def _pseudo_header(self, length: int) -> bytes:
        return self.source.packed + self.destination.packed + struct.pack("!BBH", 0, self.protocol, length)


class Numbers:
    """Gives every probe of a run an identification and a port that no other has."""

    def __init__(self) -> None:
        self._idents = _round(1, 0xFFFF)
        self._ports = _round(_FIRST_PORT, _LAST_PORT)

    def probe(self, source: IPv4Address, destination: IPv4Address, packet: Packet) -> Probe:
        """A new probe."""
        return Probe(source, destination, packet, next(self._idents), next(self._ports))


def _round(first: int, last: int) -> Iterator[int]:
    """From anywhere, so that two runs shortly after each other do not meet."""
    numbers = list(range(first, last + 1))
    start = random.randrange(len(numbers))
    return itertools.cycle(numbers[start:] + numbers[:start])


def _sctp_init(source: int, destination: int) -> bytes:
    chunk = struct.pack("!BBHIIHHI", _SCTP_INIT, 0, 20, 1, 65_536, 1, 1, 1)
    head = struct.pack("!HHI", source, destination, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def _with_sum(data: bytes, at: int, also: bytes = b"") -> bytes:
    """`data` with the Internet checksum (RFC 1071) at that offset, where zeros are now."""
    words = also + data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack("!H", ~total & 0xFFFF) + data[at + 2 :]


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A)."""
    crc = 0xFFFF_FFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF
