"""What a capture of 100,000 packets costs to read, to show and to import, beside tshark and scapy.

Each contender is a process of its own and gets the same file: its processor time, its wall time and its
largest memory are the kernel's (`wait4`). The file is of this kind: lookups over UDP heard at two taps, as a
capture of a node has them, connections with data, and lookups over TCP.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lab.errors import InputError
from lab.repro.reading.units import ACK, FIN, SYN
from lab.runtime.explaining import FORMAT_VERSION, remark

PACKETS: Final = 100_000
MOST_S, MOST_MIB = 20.0, 300.0
_POD, _SERVER, _WEB = b"\x0a\xf4\0\x05", b"\x0a\xf4\0\x02", b"\xc6\x33\x64\x07"
_NAME: Final = b"\x03api\x07example\x03com\0\0\1\0\1"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one contender, whole: start of its program, reading, and what it prints."""

    contender: str
    wall_s: float
    cpu_s: float
    memory_mib: float
    packets: int

    @property
    def is_within(self) -> bool:
        return self.cpu_s <= MOST_S and self.memory_mib <= MOST_MIB


def run(*, as_json: bool, packets: int = PACKETS, only: str = "") -> int:
    """Exit code 1 where reading, showing or importing takes more than 20 s of processor time, or 300 MiB."""
    with tempfile.TemporaryDirectory(prefix="acns-bench-") as folder:
        path = Path(folder, "x.pcap")
        _write(path, packets)
        costs = [_measured(name, argv, packets) for name, argv in _contenders(path, Path(folder), only)]
    if as_json:
        print(json.dumps({"version": FORMAT_VERSION, "costs": [asdict(one) for one in costs]}))
    else:
        _print(costs)
    return int(any(not one.is_within for one in costs if one.contender.startswith("ours")))


def _contenders(path: Path, folder: Path, only: str) -> Iterator[tuple[str, list[str]]]:
    invoke = [sys.executable, "-m", "invoke"]
    scapy = f"from scapy.utils import rdpcap; rdpcap({str(path)!r})"
    read = (
        f"from pathlib import Path; from lab.repro.reading import capture; capture.read(Path({str(path)!r}))"
    )
    found = {
        "ours: read": [sys.executable, "-c", read],
        "ours: repro.show": [*invoke, "repro.show", str(path), "--json"],
        "ours: repro.import": [*invoke, "repro.import", str(path), "--output", str(folder / "x.yaml")],
        "tshark": ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "dns.qry.name", "-e", "tcp.stream"],
        "scapy rdpcap": [sys.executable, "-c", scapy],
    }
    wanted = [name for name in found if only in name]
    if not wanted:
        raise InputError(f"no contender is called {only}", hint=", ".join(found))
    for name in wanted:
        if shutil.which(found[name][0]):
            yield name, found[name]
        else:
            remark(f"{name}: not there")


def _measured(name: str, argv: list[str], packets: int) -> Cost:
    remark(f"{name} …")
    begun = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{name} ended with {process.returncode}: {said.decode(errors='replace')[-500:]}")
    wall_s, cpu_s = time.monotonic() - begun, usage.ru_utime + usage.ru_stime
    return Cost(name, round(wall_s, 2), round(cpu_s, 2), round(usage.ru_maxrss / 1024, 1), packets)


def _print(costs: list[Cost]) -> None:
    print(f"{costs[0].packets} packets   wall s    cpu s   memory MiB")
    for one in costs:
        print(f"{one.contender:<18} {one.wall_s:>7.2f} {one.cpu_s:>8.2f} {one.memory_mib:>12.1f}")


# --- the file -----------------------------------------------------------------------------------------------


def _write(path: Path, packets: int) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, 1))
        for number, frame in zip(range(packets), _frames(), strict=False):
            at_s, at_ns = divmod(number * 50_000, 1_000_000_000)
            file.write(struct.pack("<IIII", 1_700_000_000 + at_s, at_ns, len(frame), len(frame)) + frame)


def _frames() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        query = struct.pack("!6H", number & 0xFFFF, 0x100, 1, 0, 0, 0) + _NAME
        answer = struct.pack("!6H", number & 0xFFFF, 0x8180, 1, 1, 0, 0) + _NAME
        answer += b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + _WEB[:3] + bytes((number % 250,))
        port = 20_000 + number % 30_000
        for payload, ends, ports in (
            (query, (_POD, _SERVER), (port, 53)),
            (answer, (_SERVER, _POD), (53, port)),
        ):
            body = struct.pack("!4H", *ports, 8 + len(payload), 0) + payload
            yield from (_ip(17, ends, body, number, ttl) for ttl in (64, 63))
        if number % 4 == 0:
            over_tcp = number % 8 == 0
            data = struct.pack("!H", len(query)) + query if over_tcp else bytes(500)
            yield from _connection(port, 53 if over_tcp else 443, data, number)


def _connection(port: int, to: int, data: bytes, number: int) -> Iterator[bytes]:
    for flags, seq, payload, back in (
        (SYN, 0, b"", False),
        (SYN | ACK, 0, b"", True),
        (ACK, 1, b"", False),
        (ACK, 1, data, False),
        (ACK, 1, b"", True),
        (FIN | ACK, 1 + len(data), b"", False),
    ):
        ends, ports = ((_WEB, _POD), (to, port)) if back else ((_POD, _WEB), (port, to))
        yield _ip(
            6,
            ends,
            struct.pack("!HHIIBBHHH", *ports, number + seq, 1, 0x50, flags, 9, 0, 0) + payload,
            number,
        )


def _ip(protocol: int, ends: tuple[bytes, bytes], body: bytes, number: int, ttl: int = 64) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number & 0xFFFF, 0, ttl, protocol, 0)
    return bytes(12) + b"\x08\0" + head + ends[0] + ends[1] + body
