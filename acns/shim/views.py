"""What may be looked at of the shim, over its HTTP socket: read-only, JSON, for people who ask why.

`/cache`: every address that names have opened, from which query it is known, since when, until when, and why
it is still there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.fqdn.cache import Known
from acns.shim.learned import Learned

VERSION = 1
CACHE = "/cache"


def of(learned: Learned) -> Mapping[str, Callable[[], object]]:
    """Path → view."""
    return {CACHE: lambda: cache(learned)}


def cache(learned: Learned, wall_clock: Callable[[], float] = time.time) -> dict[str, object]:
    """Times are seconds since the epoch; `opens` are keys of the selectors that hold the address."""
    now, wall = learned.clock(), wall_clock()
    return {
        "version": VERSION,
        "now": wall,
        "addresses": [_entry(one, learned, wall - now) for one in learned.cache.known(now)],
    }


def _entry(known: Known, learned: Learned, stepped_s: float) -> dict[str, object]:
    """An address that an earlier run has learned has no name, and when that was is not known."""
    found = known.name is None
    return {
        "name": "" if known.name is None else names.to_text(known.name),
        "address": str(IPv4Address(known.address)),
        "opens": [one.key for one in known.selectors if one in learned.in_kernel],
        "learned_at": None if found else known.learned_at + stepped_s,
        "expires_at": known.expires_at + stepped_s,
        "asked_by": known.asked_by,
        "stay": known.stay,
        "stays_until": known.stays_until + stepped_s,
    }
