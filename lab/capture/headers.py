"""What a captured frame is about, as far as a decision can name it: who to whom, and what DNS asks.

Frames are anybody's bytes, cut off perhaps: what cannot be read is None, never an error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from acns.dns import name as names
from acns.dns.name import MalformedDNS
from acns.dns.wire import read_header, read_question

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
DNS_PORT: Final = 53
_IPV4, _IPV6 = 0x0800, 0x86DD
_ETHERNET_OCTETS, _IPV4_OCTETS, _IPV6_OCTETS = 14, 20, 40
_FRAGMENT: Final = 44
_SYN, _ACK = 0x02, 0x10


@dataclass(frozen=True, slots=True)
class Asked:
    """The question of a DNS message. `name` in lower case, with its final dot."""

    name: str
    type: int
    is_answer: bool


@dataclass(frozen=True, slots=True)
class Heads:
    """`source_port` is the type of an ICMP message. `opens`: it may be the first packet of a connection."""

    source: str
    destination: str
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    opens: bool = True
    asked: Asked | None = None


def heads(frame: bytes) -> Heads | None:
    """None for what is not IP, or cut off before its ports."""
    try:
        kind = int.from_bytes(frame[12:14], "big")
        if kind == _IPV4:
            return _ipv4(frame)
        return _ipv6(frame) if kind == _IPV6 else None
    except (struct.error, IndexError, ValueError):
        return None


def _ipv4(frame: bytes) -> Heads | None:
    start = _ETHERNET_OCTETS
    if len(frame) < start + _IPV4_OCTETS or int.from_bytes(frame[start + 6 : start + 8], "big") & 0x1FFF:
        return None
    source = str(IPv4Address(frame[start + 12 : start + 16]))
    destination = str(IPv4Address(frame[start + 16 : start + 20]))
    return _upper(frame, start + 4 * (frame[start] & 0xF), frame[start + 9], source, destination)


def _ipv6(frame: bytes) -> Heads | None:
    start = _ETHERNET_OCTETS
    if len(frame) < start + _IPV6_OCTETS or frame[start + 6] == _FRAGMENT:
        return None
    source = str(IPv6Address(frame[start + 8 : start + 24]))
    destination = str(IPv6Address(frame[start + 24 : start + 40]))
    return _upper(frame, start + _IPV6_OCTETS, frame[start + 6], source, destination)


def _upper(frame: bytes, at: int, protocol: int, source: str, destination: str) -> Heads:
    if protocol in (ICMP, ICMPV6):
        return Heads(source, destination, protocol, frame[at])
    if protocol not in (TCP, UDP):
        return Heads(source, destination, protocol)
    source_port, destination_port = struct.unpack_from("!HH", frame, at)
    opens, payload = True, at + 8
    if protocol == TCP:
        opens, payload = frame[at + 13] & (_SYN | _ACK) == _SYN, at + 4 * (frame[at + 12] >> 4)
    asked = None
    if DNS_PORT in (source_port, destination_port):
        asked = _asked(frame[payload + (2 if protocol == TCP else 0) :])
    return Heads(source, destination, protocol, source_port, destination_port, opens, asked)


def _asked(message: bytes) -> Asked | None:
    """Of a DNS message that begins here."""
    try:
        header = read_header(message)
        question = read_question(message, header)
    except MalformedDNS:
        return None
    return Asked(names.to_text(question.name).lower(), question.qtype, header.is_response)
