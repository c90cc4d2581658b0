"""Frames and capture files, made octet by octet: what is read is compared with what was put in."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

from lab.repro.reading import capture
from lab.repro.reading.evidence import Evidence, Limits

POD, SERVICE, SERVER, WEB = "10.244.0.5", "10.96.0.10", "10.244.0.2", "198.51.100.7"
T0_S = 1_700_000_000
T0 = T0_S * 1_000_000_000
MS = 1_000_000
QUERY = bytes.fromhex("1234010000010000000000000361706907657861 6d706c6503636f6d0000010001".replace(" ", ""))
ANSWER = (
    QUERY[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + QUERY[12:] + bytes.fromhex("c00c000100010000001e0004c6336407")
)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

At = tuple[int, bytes]
"""Time in nanoseconds, frame."""


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    body: bytes,
    *,
    ident: int = 1,
    ttl: int = 64,
    fragment: int = 0,
) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    return (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, fragment, ttl, protocol, 0)
        + addresses
        + body
    )


def ipv6(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + addresses + body


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def tcp(source: int, destination: int, flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", source, destination, seq, ack, 0x50, flags, 512, 0, 0) + payload


def ethernet(packet: bytes) -> bytes:
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0"
    return bytes.fromhex("020000000001020000000002") + kind + packet


def asked(
    payload: bytes = QUERY, *, port: int = 40_000, ident: int = 1, ttl: int = 64, to: str = SERVER
) -> bytes:
    return ethernet(ipv4(POD, to, 17, udp(port, 53, payload), ident=ident, ttl=ttl))


def answered(
    payload: bytes = ANSWER, *, port: int = 40_000, ident: int = 2, ttl: int = 64, by: str = SERVER
) -> bytes:
    return ethernet(ipv4(by, POD, 17, udp(53, port, payload), ident=ident, ttl=ttl))


class Talk:
    """A TCP connection of POD's, segment by segment, each with an identification of its own."""

    def __init__(self, server: str, port: int = 443, *, client_port: int = 50_000, isn: int = 1_000) -> None:
        self.server, self.port, self.client_port, self.isn = server, port, client_port, isn
        self.ident = 100

    def out(self, flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> bytes:
        self.ident += 1
        body = tcp(self.client_port, self.port, flags, self.isn + seq & 0xFFFFFFFF, ack, payload)
        return ethernet(ipv4(POD, self.server, 6, body, ident=self.ident))

    def back(self, flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> bytes:
        self.ident += 1
        body = tcp(self.port, self.client_port, flags, 5_000 + seq, self.isn + ack & 0xFFFFFFFF, payload)
        return ethernet(ipv4(self.server, POD, 6, body, ident=self.ident))

    def handshake(self) -> list[bytes]:
        return [self.out(SYN, 0), self.back(SYN | ACK, 0, 1), self.out(ACK, 1, 5_001)]


def paced(frames: Iterable[bytes], step_ns: int = MS) -> list[At]:
    return [(T0 + number * step_ns, frame) for number, frame in enumerate(frames)]


def pcap(
    frames: Iterable[At], *, order: str = "<", nanoseconds: bool = True, link: int = 1, snap: int = 65_535
) -> bytes:
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1_000)
    file = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snap, link)
    for at_ns, frame in frames:
        kept = frame[:snap]
        head = (at_ns // 10**9, at_ns % 10**9 // unit, len(kept), len(frame))
        file += struct.pack(f"{order}IIII", *head) + kept
    return file


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)


def options(*given: tuple[int, bytes], order: str = "<") -> bytes:
    parts = [
        struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in given
    ]
    return b"".join(parts) + bytes(4)


def section(*given: tuple[int, bytes], order: str = "<") -> bytes:
    return block(
        0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1) + options(*given, order=order), order
    )


def interface(*given: tuple[int, bytes], link: int = 1, order: str = "<") -> bytes:
    return block(1, struct.pack(f"{order}HHI", link, 0, 0) + options(*given, order=order), order)


def enhanced(number: int, units: int, frame: bytes, *given: tuple[int, bytes], order: str = "<") -> bytes:
    head = struct.pack(f"{order}IIIII", number, units >> 32, units & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, head + frame + bytes(-len(frame) % 4) + options(*given, order=order), order)


def taps(*heard: Sequence[At], names: Sequence[str] = ()) -> bytes:
    """A pcapng with an interface for each of them, frames in the order of their times."""
    called = list(names) or [f"tap{number}" for number in range(len(heard))]
    frames = sorted((at, number, frame) for number, frames in enumerate(heard) for at, frame in frames)
    nanoseconds = (9, b"\x09")
    return (
        section()
        + b"".join(interface((2, name.encode()), nanoseconds) for name in called)
        + b"".join(enhanced(number, at, frame) for at, number, frame in frames)
    )


def evidence(file: bytes, folder: Path, limits: Limits | None = None) -> Evidence:
    path = folder / "x.pcap"
    path.write_bytes(file)
    return capture.read(path, limits)
