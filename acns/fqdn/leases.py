"""What the name cache keeps of a name and of each of its addresses, and what it says of them to others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector


class Stay(StrEnum):
    """Why an address is (still) there."""

    FRESH = "fresh"  # its TTL runs
    IN_USE = "in use"  # at the last collection a live connection went to it
    NAME_IN_USE = "name in use"  # … or to another address of its name
    GRACE = "grace"  # its TTL is over, its idle grace or the time to settle is not
    DUE = "due"  # the next collection lets it go


class End(StrEnum):
    """Why an address went."""

    EXPIRED = "expired"
    LIMIT_PER_NAME = "limit per name"
    LIMIT = "limit of all"


Ended = Callable[[Name | None, bytes, tuple[FQDNSelector, ...], End], None]
"""Told of each address that goes: its name, itself, the selectors that it was open for, why."""


class Known(NamedTuple):
    """One address, for those who look on. `name` None: found in the kernel at the start, with its selector.

    `selectors`: those that it is open for. `asked_by`: who was last told it, as the answer's learner said.
    `stay`: why it is there; `stays_until`: no collection lets it go before.
    """

    name: Name | None
    address: bytes
    selectors: tuple[FQDNSelector, ...]
    learned_at: float
    expires_at: float
    asked_by: str
    stay: Stay
    stays_until: float


class Census(NamedTuple):
    """Names with a living address, living addresses, and addresses past their TTL that connections keep."""

    names: int
    addresses: int
    kept: int


class Lease(NamedTuple):
    expires_at: float
    learned_at: float
    asked_by: str = ""
    kept_until: float = -math.inf
    """It was promised that it stays until then."""
    untold_s: float = 0.0
    """So much later than we know of may a pod use it (`untold`)."""


@dataclass(slots=True)
class Entry:
    """A name's addresses, and the selectors that match the name."""

    name: Name | None
    selectors: tuple[FQDNSelector, ...]
    leases: dict[bytes, Lease] = field(default_factory=dict)
    asked_by: str = ""
    """For whom they count, of those who learned one."""
    last_live: float = -math.inf
    """When a collection last saw a live connection to one of the addresses."""
    earliest: float = math.inf
    """No lease ends before; so a collection can pass most names by."""
