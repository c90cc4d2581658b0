"""The headers of a packet that a pod made: where from, where to, what kind. Nothing of it is to be trusted.

Any bytes are answered with what can be read of them, in bounded time, and never with an exception: a header
that is cut off, lies about its length or says nonsense is one whose fields are missing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
WITH_PORTS = frozenset({TCP, UDP, SCTP})

_IPV4_BYTES, _IPV6_BYTES = 20, 40
_FRAGMENT_OFFSET = 0x1FFF
_TCP_FLAGS_AT = 12
_NEXT_HEADERS = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options (RFC 8200 section 4)
_FRAGMENT = 44
_MOST_EXTENSIONS = 8


@dataclass(frozen=True, slots=True)
class Headers:
    """What is None could not be read, or this protocol has none. `tcp_flags`: FIN is bit 0, NS is bit 8."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    tcp_flags: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


def parse(packet: bytes) -> Headers | None:
    """The headers of an IPv4 or IPv6 packet, which may be cut off; None when it is neither."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_BYTES:
        return _ipv4(packet)
    if version == 6 and len(packet) >= _IPV6_BYTES:
        return _ipv6(packet)
    return None


def _ipv4(packet: bytes) -> Headers:
    length = 4 * (packet[0] & 0xF)
    fragment = int.from_bytes(packet[6:8], "big") & _FRAGMENT_OFFSET
    # Only the first fragment has the next header.
    rest = b"" if fragment or length < _IPV4_BYTES else packet[length:]
    return _with_transport(IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[9], rest)


def _ipv6(packet: bytes) -> Headers:
    protocol, rest = _after_extensions(packet[6], packet[_IPV6_BYTES:])
    return _with_transport(IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), protocol, rest)


def _after_extensions(protocol: int, rest: bytes) -> tuple[int, bytes]:
    """The protocol behind the extension headers, as far as they can be followed, and what it starts with."""
    for _ in range(_MOST_EXTENSIONS):
        if len(rest) < 8:
            break
        if protocol == _FRAGMENT:
            offset = int.from_bytes(rest[2:4], "big") >> 3
            protocol, rest = rest[0], b"" if offset else rest[8:]
        elif protocol in _NEXT_HEADERS:
            protocol, rest = rest[0], rest[8 + 8 * rest[1] :]
        else:
            break
    return protocol, rest


def _with_transport(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: int, rest: bytes
) -> Headers:
    if protocol in WITH_PORTS and len(rest) >= 4:
        source_port, destination_port = struct.unpack_from("!HH", rest)
        return Headers(source, destination, protocol, source_port, destination_port, _flags(protocol, rest))
    if protocol in (ICMP, ICMPV6) and len(rest) >= 2:
        return Headers(source, destination, protocol, icmp_type=rest[0], icmp_code=rest[1])
    return Headers(source, destination, protocol)


def _flags(protocol: int, rest: bytes) -> int | None:
    if protocol != TCP or len(rest) < _TCP_FLAGS_AT + 2:
        return None
    return int.from_bytes(rest[_TCP_FLAGS_AT : _TCP_FLAGS_AT + 2], "big") & 0x1FF
