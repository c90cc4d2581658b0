"""`python -m acns.writer FD`: writes learned addresses into the kernel's set, for the resolver.

It is started by the resolver, which gives it the socket FD, and lives as long as that is open. It keeps
CAP_NET_ADMIN and gives up everything else. What it keeps true, whatever it is told: it touches nothing but
elements of the learned set of our table, adds and never removes, never lowers an expiry, writes no
address that a name may never open and no expiry beyond `LONGEST_S`. Elements that it makes carry the comment
`takeover`, by which the shim knows them.
"""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from acns import privileges
from acns.datapath.constants import TAKEOVER_COMMENT
from acns.datapath.elements import Elements, NoSuchSet
from acns.datapath.highest import HighestWins
from acns.datapath.selectors import id_of
from acns.errors import AcnsError, PeerError
from acns.fqdn.addresses import is_learnable_address
from acns.telemetry import log as logs
from acns.writer import wire
from acns.writer.wire import Lease, Outcome

log = logs.named(__name__)

LONGEST_S: Final = 400 * 86_400.0
"""From now. The longest TTL is a week, but the shim's grace is its operator's choice."""


def main(arguments: list[str]) -> int:
    """Serve until the resolver closes its end; returns the exit code."""
    # A terminal's Ctrl-C, or its end, goes to the whole group: the resolver may still need us as it drains.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(arguments[0])) as link:
        try:
            privileges.keep_only({privileges.NET_ADMIN})
            _serve(link, HighestWins(Elements(), TAKEOVER_COMMENT))
        except AcnsError as error:
            log.failure("writer ended", error)
            return error.exit_code
    return 0


def _serve(link: socket.socket, learned: HighestWins) -> None:
    with contextlib.suppress(ConnectionError):  # the resolver has ended, perhaps with an answer unread
        link.send(wire.answer(0, Outcome.WRITTEN))  # nobody asked: that is how it says that it is there
        while data := link.recv(wire.MAX_BYTES):
            sequence, leases = wire.read_request(data)
            link.send(wire.answer(sequence, _written(learned, leases)))


def _written(learned: HighestWins, leases: list[Lease]) -> Outcome:
    try:
        learned.put(_timeouts(leases, time.time()), time.monotonic())
    except NoSuchSet as error:
        log.failure("no rules of ours to write leases for", error)
        return Outcome.FAILED
    except PeerError as error:
        log.failure("lease refused", error)
        return Outcome.REFUSED
    except AcnsError as error:
        log.failure("leases not written", error)
        return Outcome.FAILED
    return Outcome.WRITTEN


def _timeouts(leases: Iterable[Lease], now: float) -> dict[str, dict[bytes, float]]:
    """Selector id → address → seconds from now. Raises PeerError for what may not be written, whoever says
    it."""
    wanted: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
    for selector, address, expires_at in leases:
        timeout_s = expires_at - now
        if not is_learnable_address(address) or not -math.inf < timeout_s <= LONGEST_S:
            raise PeerError(f"{address.hex()} for {timeout_s:g} s of selector {selector.hex()}")
        if timeout_s > 0:
            timeouts_s = wanted[id_of(selector)]
            timeouts_s[address] = max(timeout_s, timeouts_s.get(address, 0.0))
    return wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
