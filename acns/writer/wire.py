"""The words between the resolver and its writer: fixed-size records over a SOCK_SEQPACKET socket pair.

A request is a sequence number and up to `MOST` leases; its answer is that number and an outcome. A record has
no text and no lengths: a selector is the five octets of its id, so no set but the learned one can be named at
all. Both ends are programs of this package, of the same version.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from acns.errors import PeerError

MOST: Final = 1000
MAX_BYTES: Final = 65_536

_HEAD = struct.Struct("=I")
_LEASE = struct.Struct("=5s4sd")
_ANSWER = struct.Struct("=IB")


class Lease(NamedTuple):
    """An address (4 raw bytes) that a selector (its id, 5 raw bytes) is to open until `expires_at`, in
    seconds since the epoch."""

    selector: bytes
    address: bytes
    expires_at: float


class Outcome(IntEnum):
    """WRITTEN: the kernel has them."""

    WRITTEN = 0
    REFUSED = 1
    """The leases are not such as may be written; a bug of the asker's."""
    FAILED = 2
    """The kernel did not take them, or has no rules of ours."""


def request(sequence: int, leases: Sequence[Lease]) -> bytes:
    """At most `MOST` leases."""
    return _HEAD.pack(sequence) + b"".join(_LEASE.pack(*lease) for lease in leases)


def read_request(data: bytes) -> tuple[int, list[Lease]]:
    """The sequence number and the leases. Raises PeerError."""
    body = data[_HEAD.size :]
    if len(data) < _HEAD.size or len(body) % _LEASE.size or len(body) > MOST * _LEASE.size:
        raise PeerError(f"a request of {len(data)} octets is none")
    return _HEAD.unpack_from(data)[0], [Lease(*fields) for fields in _LEASE.iter_unpack(body)]


def answer(sequence: int, outcome: Outcome) -> bytes:
    return _ANSWER.pack(sequence, outcome)


def read_answer(data: bytes) -> tuple[int, Outcome]:
    """The sequence number and the outcome. Raises PeerError."""
    try:
        sequence, outcome = _ANSWER.unpack(data)
        return sequence, Outcome(outcome)
    except (struct.error, ValueError) as error:
        raise PeerError(f"an answer of {len(data)} octets is none") from error
