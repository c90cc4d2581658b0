"""One pod past its share: `python -m lab.bench.dns_floods KIND SERVER NUMBER SECONDS`, beside the others.

* `datagrams`: ten times a thousand queries a second, known names.
* `subdomains`: as many names that nobody has asked for, each forwarded, learned, committed.
* `half-open`: 10,000 connections of which only the first segment comes.
* `slow-readers`: connections that ask without end and take no answer.

NUMBER is the pod that does it, as `dns_names` counts them.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from lab.bench import dns_names
from lab.bench.dns_load import query

KINDS: Final = ("datagrams", "subdomains", "half-open", "slow-readers")
RATE: Final = 10_000
"""Queries a second; the real service warns at a tenth of it."""
HALF_OPEN: Final = 10_000
NO_RESETS: Final = """
table ip quiet {
  chain out { type filter hook output priority 0; tcp flags & rst == rst drop; }
}
"""
"""For the pod's namespace: its kernel leaves connections half open that it knows nothing of."""
_READERS: Final = 100
_FIRST_NEW_NAME: Final = 5_000_000  # far behind what other parts ask for
_BINDTODEVICE: Final = getattr(socket, "SO_BINDTODEVICE", 25)
_STEP_S: Final = 0.005
_SMOOTH_S: Final = 0.001
"""Datagrams come as evenly as that: in longer bursts it would be measured how long others wait behind one."""


def _steps(seconds: float, step_s: float = _STEP_S) -> Iterator[float]:
    """Every few milliseconds: how much of the time has passed."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        yield passed
        time.sleep(step_s)


def _bound(made: socket.socket, number: int) -> socket.socket:
    """A socket of that pod's."""
    made.setsockopt(socket.SOL_SOCKET, _BINDTODEVICE, dns_names.pod_interface(number).encode())
    made.bind((str(dns_names.pod(number)), 0))
    return made


def _asking(name_of: Callable[[int], str], server: str, number: int, seconds: float) -> None:
    pod = _bound(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), number)
    pod.connect((server, 53))
    pod.setblocking(False)
    sent = 0
    for passed in _steps(seconds, _SMOOTH_S):
        while sent < passed * RATE:
            with contextlib.suppress(BlockingIOError):
                pod.send(query(name_of(sent), sent & 0xFFFF))
            sent += 1
        with contextlib.suppress(BlockingIOError):
            while True:
                pod.recv(4096)


def datagrams(server: str, number: int, seconds: float) -> None:
    _asking(lambda sent: dns_names.known(sent % 100), server, number, seconds)


def subdomains(server: str, number: int, seconds: float) -> None:
    first = _FIRST_NEW_NAME + time.monotonic_ns() // 1000 % 1_000_000
    _asking(lambda sent: dns_names.new(first + sent), server, number, seconds)


def half_open(server: str, number: int, seconds: float) -> None:
    """The pod's kernel knows nothing of them; what it says to the answers is dropped by who calls this."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    raw.setsockopt(socket.SOL_SOCKET, _BINDTODEVICE, dns_names.pod_interface(number).encode())
    source, ports = str(dns_names.pod(number)), itertools.count(1_024)
    raw.bind((source, 0))
    for passed in _steps(seconds):
        while next(ports) < 1_024 + min(passed / seconds * 2, 1.0) * HALF_OPEN:
            raw.sendto(syn(source, next(ports) & 0xFFFF, server), (server, 0))


def slow_readers(server: str, number: int, seconds: float) -> None:
    message = query(dns_names.known(0), 1)
    frames = (struct.pack("!H", len(message)) + message) * 100
    kept: list[socket.socket] = []
    for _ in _steps(seconds):
        if len(kept) < _READERS:
            made = _bound(socket.socket(socket.AF_INET, socket.SOCK_STREAM), number)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            made.settimeout(1)
            with contextlib.suppress(OSError):
                made.connect((server, 53))
                made.setblocking(False)
                kept.append(made)
        for one in kept:
            with contextlib.suppress(OSError):
                one.send(frames)


def syn(source: str, port: int, server: str) -> bytes:
    """The TCP segment that asks a DNS server for a connection; the kernel puts the IP header before it."""
    header = struct.pack("!HHIIBBHHH", port, 53, port, 0, 5 << 4, 0x02, 65_535, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(server) + struct.pack("!BBH", 0, 6, len(header))
    return header[:16] + struct.pack("!H", _checksum(pseudo + header)) + header[18:]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main() -> None:
    kind, server, number, seconds = sys.argv[1:]
    floods = dict(zip(KINDS, (datagrams, subdomains, half_open, slow_readers), strict=True))
    floods[kind](server, int(number), float(seconds))


if __name__ == "__main__":
    main()
