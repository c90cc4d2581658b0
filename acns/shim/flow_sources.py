"""Where flows come from: the kernel's log of dropped packets, and its news of connections.

Each source has an allowance of its own, so that a flood of connections hides no drop. `teller` is asked for
at each event: what is committed while a batch is being told tells the rest of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from acns.datapath import constants
from acns.datapath.ctevents import ConntrackEvents
from acns.datapath.nflog import NflogSocket
from acns.shim.allowance import Allowance
from acns.shim.flow_teller import Teller
from acns.telemetry.flows import Flow

FLOWS_PER_S: Final = 250.0
BURST: Final = 1000.0
_AT_ONCE: Final = 32


class Source(Protocol):
    """Readable when there is something; `lost` is how much was lost since it was made, at least."""

    allowance: Allowance

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    @property
    def lost(self) -> int: ...
    def flows(self, teller: Callable[[], Teller]) -> Iterator[Flow]: ...


class Drops:
    """What the ruleset drops."""

    def __init__(self) -> None:
        self.allowance = Allowance(FLOWS_PER_S, BURST)
        self._socket = NflogSocket(constants.NFLOG_GROUP)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def lost(self) -> int:
        return self._socket.lost

    def flows(self, teller: Callable[[], Teller]) -> Iterator[Flow]:
        """A batch's."""
        batch = self._socket.read() or []
        self.allowance.spend(len(batch))
        for logged in batch:
            if flow := teller().dropped(logged, time.time_ns()):
                yield flow


class Connections:
    """What begins."""

    def __init__(self) -> None:
        self.allowance = Allowance(FLOWS_PER_S, BURST)
        self._socket = ConntrackEvents()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def lost(self) -> int:
        return self._socket.overruns

    def flows(self, teller: Callable[[], Teller]) -> Iterator[Flow]:
        """Those of some connections: the kernel sends them one by one."""
        for _ in range(_AT_ONCE):
            opened = self._socket.read()
            if opened is None:
                return
            self.allowance.spend(len(opened))
            for one in opened:
                yield from teller().opened(one, time.time_ns())
