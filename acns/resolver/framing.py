"""DNS messages on a byte stream: two octets of length, then the message (RFC 1035 section 4.2.2)."""

from __future__ import annotations

from typing import Final

LENGTH_BYTES: Final = 2


def framed(message: bytes) -> bytes:
    """`message` as it goes on the stream; it must not exceed 65,535 bytes."""
    return len(message).to_bytes(LENGTH_BYTES) + message


class Frames:
    """Bytes in, whole messages out. Holds what was fed and not yet taken.

    What comes in whole frames is cut where it lies. Of an incomplete frame each byte is copied twice, in
    however many pieces it comes: a peer that sends byte by byte pays more than we do.
    """

    __slots__ = ("_at", "_missing", "_part", "_whole")

    def __init__(self) -> None:
        self._whole = b""
        self._at = 0  # what of it is taken
        self._part = bytearray()
        self._missing = 0  # how long `_part` has to be before there is anything to take

    def feed(self, data: bytes) -> None:
        if self._missing:
            self._part += data
            if len(self._part) < self._missing:
                return
            data, self._missing = bytes(self._part), 0
            self._part.clear()
        elif self._at < len(self._whole):
            data = self._whole[self._at :] + data
        self._whole, self._at = data, 0

    def take(self) -> bytes | None:
        """The next whole message; None while it is incomplete. An empty frame gives an empty message."""
        whole, start = self._whole, self._at + LENGTH_BYTES
        there = len(whole)
        if start > there:
            if self._at < there:
                self._wait_for(LENGTH_BYTES)
            elif there:
                self._whole, self._at = b"", 0
            return None
        end = start + (whole[start - 2] << 8 | whole[start - 1])
        if end > there:
            self._wait_for(end - self._at)
            return None
        self._at = end
        return whole[start:end]

    def _wait_for(self, length: int) -> None:
        self._part += self._whole[self._at :]
        self._missing = length
        self._whole, self._at = b"", 0

    def unread(self) -> bytes:
        """What was fed and not taken, for another reader."""
        return self._whole[self._at :] + bytes(self._part)

    @property
    def has_some(self) -> bool:
        """Whether there may be something to take."""
        return self._at < len(self._whole)

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._whole) - self._at + len(self._part)
