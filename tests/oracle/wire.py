"""First packets of connections as bytes: whatever protocol, the last four bytes tell which one it is."""

from __future__ import annotations

import socket
import struct

from .cluster import Packet

NUMBERS = {"ICMP": 1, "TCP": 6, "UDP": 17, "GRE": 47, "SCTP": 132}
FIRST_PORT = 40_000
_TAG = struct.Struct("!I")


def source_port(tag: int) -> int:
    """Each packet is a connection of its own."""
    return FIRST_PORT + tag % 20_000


def packed(packet: Packet, tag: int) -> bytes:
    """The IPv4 packet as it leaves its sender."""
    source, destination = socket.inet_aton(packet.source), socket.inet_aton(packet.destination)
    number = NUMBERS[packet.protocol]
    inside = _transport(packet, tag)
    if packet.protocol in ("TCP", "UDP"):
        pseudo = source + destination + struct.pack("!HH", number, len(inside))
        place = 16 if packet.protocol == "TCP" else 6
        inside = inside[:place] + struct.pack("!H", _sum(pseudo + inside)) + inside[place + 2 :]
    elif packet.protocol == "ICMP":
        inside = inside[:2] + struct.pack("!H", _sum(inside)) + inside[4:]
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(inside), tag & 0xFFFF, 0, 64, number, 0, source, destination
    )
    return head + inside


def tag_of(data: bytes) -> int:
    """Of an IPv4 packet, or of what one carried."""
    if len(data) >= 20 and data[0] == 0x45:
        data = data[: struct.unpack_from("!H", data, 2)[0]]
    if len(data) < 4:
        return -1
    tag: int = _TAG.unpack(data[-4:])[0]
    return tag


def _transport(packet: Packet, tag: int) -> bytes:
    last, sport = _TAG.pack(tag), source_port(tag)
    match packet.protocol:
        case "TCP":
            return struct.pack("!HHIIBBHHH", sport, packet.port, tag, 0, 5 << 4, 0x02, 8192, 0, 0) + last
        case "UDP":
            return struct.pack("!HHHH", sport, packet.port, 12, 0) + last
        case "SCTP":  # an INIT; the kernel that only tracks it is told not to look at the checksum
            head = struct.pack("!HHII", sport, packet.port, 0, 0)
            return head + struct.pack("!BBHIIHH", 1, 0, 20, tag or 1, 8192, 1, 1) + last
        case "ICMP":
            return struct.pack("!BBHHH", packet.port, 0, 0, sport, 1) + bytes(8) + last
        case "GRE":
            return struct.pack("!HH", 0, 0x0800) + last
    raise AssertionError(packet)


def _sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
