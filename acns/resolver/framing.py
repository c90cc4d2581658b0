"""DNS messages on a byte stream: two octets of length, then the message (RFC 1035 section 4.2.2)."""

from __future__ import annotations

from typing import Final

LENGTH_BYTES: Final = 2


def framed(message: bytes) -> bytes:
    """`message` as it goes on the stream; it must not exceed 65,535 bytes."""
    return len(message).to_bytes(LENGTH_BYTES) + message


class Frames:
    """Bytes in, whole messages out. Holds what was fed and not yet taken."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> bytes | None:
        """The next whole message; None while it is incomplete. An empty frame gives an empty message."""
        if len(self._buffer) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES])
        if len(self._buffer) < end:
            return None
        message = bytes(self._buffer[LENGTH_BYTES:end])
        del self._buffer[:end]
        return message

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._buffer)
