"""A capture file as frames: which format it is, and how much of it is taken in.

The readers of pcap and pcapng are our own. The libraries for it were looked at: dpkt and scapy pass over what
is needed most here (names of addresses and interfaces, lost packets, sections of another byte order), and
python-pcapng, which has all of it, takes 54 µs a packet, three times what all the rest of reading takes; none
bounds what a hostile block may ask for. `lab.capture.pcapng` writes what is read here.
"""

from __future__ import annotations

import contextlib
import gzip
import heapq
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from lab.errors import InputError
from lab.repro.reading.evidence import Kind
from lab.repro.reading.notes import Notes

_GZIP: Final = b"\x1f\x8b"
_MAX_NS: Final = 1 << 62
_OUT_OF_ORDER: Final = 4_096
"""Frames of several taps are written down a little out of order: within so many it is put right."""
_NOT_READ: Final = {
    b"snoop\0\0\0": "a snoop file",
    b"GMBU": "a Network Monitor file",
    b"RTSS": "a Network Monitor 1 file",
    b"\x54\x52\x00\x64": "an NA Sniffer file",
    b"TRSNIFF data": "an NA Sniffer file",
    b"XCP\0": "a NetXRay file",
    b"PK\x03\x04": "a zip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x04\x22\x4d\x18": "an lz4 file",
}
_HINT: Final = (
    "a pcap or pcapng file, gzipped or not; Wireshark's `editcap -F pcapng IN OUT` makes one of most others"
)


class Frame(NamedTuple):
    """One frame of the file. `wire_bytes`: its length before something was cut off."""

    number: int
    at_ns: int
    tap: int
    link_type: int
    data: bytes
    wire_bytes: int
    comments: tuple[str, ...] = ()


class Source:
    """The file's bytes, no more of them than the limits let."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._left = most
        self._most = most

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end. Raises InputError past the limit."""
        self._left -= count
        if self._left < 0:
            raise InputError(
                f"the capture has more than {self._most >> 20} MiB", hint="cut it: `editcap -A … -B …`, `-i`"
            )
        data = self._file.read(count)
        while 0 < len(data) < count and (more := self._file.read(count - len(data))):
            data += more
        return data


def frames(path: Path, notes: Notes) -> Iterator[Frame]:
    """Its frames in the order of their times, as far as that is soon known. Raises InputError for what is no
    capture."""
    waiting: list[tuple[int, int, Frame]] = []
    waits = 0
    for frame in _as_written(path, notes):
        heapq.heappush(waiting, (frame.at_ns, frame.number, frame))
        waits += len(frame.data)
        while len(waiting) > _OUT_OF_ORDER or waits > notes.limits.waiting_bytes:
            first = heapq.heappop(waiting)[2]
            waits -= len(first.data)
            yield first
    while waiting:
        yield heapq.heappop(waiting)[2]


def sane_time(at_ns: int, before_ns: int) -> int:
    """A time that can be a time; the one before it for what cannot."""
    return at_ns if 0 <= at_ns < _MAX_NS else before_ns


def _as_written(path: Path, notes: Notes) -> Iterator[Frame]:
    with _opened(path) as file:
        source = Source(file, notes.limits.file_bytes)
        count = 0
        try:
            for frame in _reader(source, path, notes):
                count += 1
                if count > notes.limits.frames:
                    raise InputError(
                        f"{path} has more than {notes.limits.frames} frames", hint="cut it: `editcap`"
                    )
                yield frame
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            notes.trouble(0, Kind.ENDS_EARLY, f"the compression breaks off: {error}")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error


def _reader(source: Source, path: Path, notes: Notes) -> Iterator[Frame]:
    # Here, since both know `Frame`.
    from lab.repro.reading import pcap, pcapng

    start = source.take(4)
    if start == pcapng.SECTION_TYPE:
        return pcapng.read(source, notes)
    if start in pcap.MAGICS:
        return pcap.read(start, source, notes)
    what = next((text for magic, text in _NOT_READ.items() if start == magic[:4]), "")
    said = f"{path} is {what}, not a capture that is read" if what else f"{path} is no capture"
    raise InputError(f"{path} is empty" if not start else said, hint=_HINT)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if not path.is_file():
            raise InputError(f"{path} is no file" if path.exists() else f"there is no {path}", hint=_HINT)
        with path.open("rb") as file:
            is_packed = file.read(2) == _GZIP
            file.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_packed else file
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
