"""When the shim told a policy, kept with it: on disk, and from one resolver to the next.

Of two that a resolver that starts may go on with, its predecessor's and the one on disk, neither is always
the newer: a predecessor's stream may have hung while another that has died since was told more. An older one
allows what has been withdrawn.

The moment is of the monotonic clock, and counts for this run of the machine. It is a field of the snapshot
that FQDNData does not know, so whoever knows nothing of it reads the snapshot as before, and passes it on.
"""

from __future__ import annotations

import time
from typing import Final

from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-not-found]  # no stubs

from acns import clock
from acns.api import fqdndata_pb2 as pb

_FIELD: Final = 50_000
_TAG: Final = b"\x82\xb5\x18"
"""Of that field, with a length and octets after it."""
OLDEST: Final = 0.0


def now(state: pb.PolicyState) -> None:
    """The shim tells it at this moment."""
    text = f"{clock.boot_id()} {time.monotonic()}".encode()
    state.MergeFromString(_TAG + bytes([len(text)]) + text)  # the last one counts


def at(state: pb.PolicyState) -> float:
    """OLDEST where it does not say, or by the clock of another run of the machine."""
    told = [field.data for field in UnknownFieldSet(state) if field.field_number == _FIELD]
    try:
        boot_id, moment = told[-1].decode().split(" ")
        return float(moment) if boot_id and boot_id == clock.boot_id() else OLDEST
    except (IndexError, AttributeError, ValueError):
        return OLDEST


def is_later(one: pb.PolicyState | None, other: pb.PolicyState) -> bool:
    """Whether the one was told later than the other."""
    return one is not None and at(one) > at(other)
