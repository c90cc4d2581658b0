"""Packets by hand, for raw sockets (which add the IP header)."""

from __future__ import annotations

import socket
import struct


def icmp(kind: int, rest: bytes = bytes(4), code: int = 0) -> bytes:
    """An ICMP message: type, code, checksum, and the rest."""
    message = struct.pack(">BBH", kind, code, 0) + rest
    return message[:2] + checksum(message) + message[4:]


def port_unreachable(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """An ICMP error about a TCP segment between these."""
    segment = bytes.fromhex("4500 0028 0000 4000 4006 0000")
    segment += b"".join(socket.inet_aton(address) for address, _ in (source, destination))
    segment += b"".join(port.to_bytes(2, "big") for _, port in (source, destination)) + bytes(4)
    return icmp(3, bytes(4) + segment, code=3)


def sctp_init(source_port: int, destination_port: int) -> bytes:
    """An INIT that opens an association (RFC 9260, section 3.3.2)."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 0x1234, 65536, 1, 1, 1)
    header = struct.pack(">HHI", source_port, destination_port, 0)
    return header + struct.pack("<I", crc32c(header + bytes(4) + chunk)) + chunk


def sctp_init_ack(source_port: int, destination_port: int) -> bytes:
    """The answer to it (section 3.3.3), with its mandatory cookie."""
    cookie = struct.pack(">HH", 7, 8) + b"cook"
    chunk = struct.pack(">BBHIIHHI", 2, 0, 28, 0x4321, 65536, 1, 1, 1) + cookie
    header = struct.pack(">HHI", source_port, destination_port, 0x1234)
    return header + struct.pack("<I", crc32c(header + bytes(4) + chunk)) + chunk


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[index : index + 2], "big") for index in range(0, len(padded), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return (~(total + (total >> 16)) & 0xFFFF).to_bytes(2, "big")


def crc32c(data: bytes) -> int:
    """SCTP's checksum (RFC 9260, appendix A), bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
