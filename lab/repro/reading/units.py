"""What IP carries: TCP segments, UDP datagrams, ICMP errors; and what is between (fragments)."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Final, NamedTuple

from lab.repro.reading.evidence import Kind, Limits
from lab.repro.reading.ip import ICMP, ICMPV6, TCP, UDP, Packet
from lab.repro.reading.notes import Flaw

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
_TCP, _UDP = struct.Struct("!HHIIBB"), struct.Struct("!HHH")
_TCP_OCTETS, _UDP_OCTETS, _ICMP_OCTETS = 20, 8, 8
_ERRORS: Final = {ICMP: frozenset({3, 11, 12}), ICMPV6: frozenset({1, 3, 4})}
_TOO_BIG: Final = (3, 4)
"""Fragmentation needed: the sender goes on with smaller packets."""
_MAX_DATAGRAMS: Final = 4_096
_MAX_PIECES: Final = 8_192
_OVERHEAD_BYTES: Final = 512
_WAIT_NS: Final = 30_000_000_000


class Unit(NamedTuple):
    """One of them. `payload`: what is in the capture of `size` octets. `flags`, `seq`, `ack` of TCP; type and
    code of ICMP are `source_port` and `destination_port`."""

    packet: Packet
    source_port: int
    destination_port: int
    payload: bytes
    size: int
    flags: int = 0
    seq: int = 0
    ack: int = 0


class About(NamedTuple):
    """The packet that an ICMP error is about: as a key of flows."""

    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


def read(packet: Packet) -> Unit | None:
    """None for a protocol that is not read. Raises Flaw."""
    try:
        if packet.protocol == TCP:
            return _tcp(packet)
        if packet.protocol == UDP:
            return _udp(packet)
        if packet.protocol in _ERRORS:
            return Unit(packet, packet.body[0], packet.body[1], packet.body[_ICMP_OCTETS:], packet.size)
    except (struct.error, IndexError):
        raise Flaw(Kind.TRUNCATED, "a packet cut off within its ports") from None
    return None


def _tcp(packet: Packet) -> Unit:
    source, destination, seq, ack, octets, flags = _TCP.unpack_from(packet.body)
    start = (octets >> 4) * 4
    if start < _TCP_OCTETS or start > packet.size:
        raise Flaw(Kind.MALFORMED, "a TCP header that is none")
    return Unit(packet, source, destination, packet.body[start:], packet.size - start, flags, seq, ack)


def _udp(packet: Packet) -> Unit:
    source, destination, length = _UDP.unpack_from(packet.body)
    size = packet.size if length == 0 else length  # 0: more than 64 KiB (RFC 2675)
    if size < _UDP_OCTETS:
        raise Flaw(Kind.MALFORMED, "a UDP header that is none")
    size = min(size, packet.size) - _UDP_OCTETS
    return Unit(packet, source, destination, packet.body[_UDP_OCTETS : _UDP_OCTETS + size], size)


def about(unit: Unit) -> About | None:
    """None for what is no ICMP error, or says too little."""
    kind, code, body = unit.source_port, unit.destination_port, unit.payload
    protocol = unit.packet.protocol
    if kind not in _ERRORS.get(protocol, ()) or (protocol == ICMP and (kind, code) == _TOO_BIG):
        return None
    try:
        if protocol == ICMP:
            at, addresses, inner = (body[0] & 0xF) * 4, slice(12, 20), body[9]
        else:
            at, addresses, inner = 40, slice(8, 40), body[6]
        ports = struct.unpack_from("!HH", body, at)
    except (struct.error, IndexError):
        return None
    pair = body[addresses]
    half = len(pair) // 2
    return About(inner, pair[:half], ports[0], pair[half:], ports[1])


class _Pieces:
    """Of one datagram. `total`: None until the last piece is there."""

    def __init__(self, begun_ns: int) -> None:
        self.begun_ns = begun_ns
        self.packets: dict[int, Packet] = {}
        self.total: int | None = None

    def whole(self) -> Packet | None:
        """None while something is missing. Raises Flaw where pieces overlap."""
        if self.total is None or sum(one.size for one in self.packets.values()) < self.total:
            return None
        body, at = b"", 0
        for offset, one in sorted(self.packets.items()):
            if offset != at:
                raise Flaw(Kind.MALFORMED, "fragments that overlap")
            if len(body) == at:  # else something before was cut off: what is known ends there
                body += one.body
            at += one.size
        first = self.packets[0]
        return first._replace(offset=0, more=False, body=body, size=self.total)


class Fragments:
    """Puts them together, as long as not too much waits for its rest."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.waiting_bytes
        self._waiting: OrderedDict[tuple[bytes, bytes, int, int], _Pieces] = OrderedDict()
        self._bytes = 0
        self.given_up = 0

    def take(self, packet: Packet) -> tuple[Packet, list[int]] | None:
        """The whole, and the numbers of its frames; None as long as it is not there. Raises Flaw."""
        key = packet.source, packet.destination, packet.protocol, packet.ident
        self._forget(packet.frame.at_ns, _weight(packet))
        pieces = self._waiting.setdefault(key, _Pieces(packet.frame.at_ns))
        if packet.offset not in pieces.packets:
            pieces.packets[packet.offset] = packet
            self._bytes += _weight(packet)
        if not packet.more:
            pieces.total = packet.offset + packet.size
        try:
            if len(pieces.packets) > _MAX_PIECES or packet.offset + packet.size > 0xFFFF:
                raise Flaw(Kind.MALFORMED, "a datagram in too many fragments")
            whole = pieces.whole()
        except Flaw:
            self._drop(key)
            raise
        if whole is None:
            return None
        self._drop(key)
        return whole, [one.frame.number for one in pieces.packets.values()]

    def left(self) -> int:
        """How many datagrams never became whole."""
        return self.given_up + len(self._waiting)

    def _forget(self, now_ns: int, size: int) -> None:
        while self._waiting:
            key, oldest = next(iter(self._waiting.items()))
            is_late = abs(now_ns - oldest.begun_ns) > _WAIT_NS
            if not (is_late or len(self._waiting) >= _MAX_DATAGRAMS or self._bytes + size > self._most):
                return
            self._drop(key)
            self.given_up += 1

    def _drop(self, key: tuple[bytes, bytes, int, int]) -> None:
        gone = self._waiting.pop(key)
        self._bytes -= sum(map(_weight, gone.packets.values()))


def _weight(packet: Packet) -> int:
    """In bytes of memory, about."""
    return len(packet.frame.data) + len(packet.body) + _OVERHEAD_BYTES
