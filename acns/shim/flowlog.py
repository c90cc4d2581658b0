"""The flow log: what the kernel dropped, and on request what it let through, as JSON lines in Hubble's shape.

A thread of its own reads the kernel's reports and writes the file; commits only leave it the plan that they
carried out and the names of an answer, which costs next to nothing. What a flood of packets can cost is
bounded at each step: the ruleset logs few packets of each rule, the thread takes in so many flows a second
and lets the kernel throw away the rest (counted, and said in the log), and the file has a bound. After each
flow the thread sleeps for a moment, so that a mapping never waits for the interpreter longer than one flow
takes.

Once it has begun, failing is all it does when something fails: the policy is enforced without a log.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal

from acns.datapath import ctevents
from acns.datapath.nflog import Taken
from acns.dns.name import Name
from acns.errors import AcnsError, Bug
from acns.shim.flow_names import FlowNames
from acns.shim.flow_scene import Scene
from acns.shim.flow_sources import Connections, Drops, Source
from acns.shim.flow_teller import Teller
from acns.shim.ledger import Ledger
from acns.shim.planner import Plan
from acns.telemetry import flow_json
from acns.telemetry import log as logs
from acns.telemetry.bounded_file import BoundedFile
from acns.telemetry.flows import Lost

log = logs.named(__name__)

What = Literal["drops", "all"]

MAX_BYTES: Final = 16 << 20
RETRY_S: Final = 1.0
_TICK_S: Final = 1.0
_MOMENT_S: Final = 50e-6  # not 0: who lets go of the interpreter for no time gets it back before a waiter


class FlowLog:
    """`use` and `learned` are for the event loop; with an empty `file` all of it does nothing."""

    def __init__(
        self, file: str, what: What, node: str, ledger: Ledger, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self.on = bool(file)
        self._names = FlowNames()
        self._file = BoundedFile(Path(file), "flow_log_file", max_bytes)
        self._what = what
        self._node = node
        self._ledger = ledger
        self._scene: Scene | None = None
        self._stopping = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if self.on else -1
        self._thread = threading.Thread(target=self._run, name="flows", daemon=True)

    def start(self) -> None:
        """Open the file and begin. Raises EnvironmentFault where the file cannot be written."""
        if self.on:
            self._file.open()
            self._thread.start()

    def use(self, plan: Plan, interfaces: Mapping[IPv4Address, str]) -> None:
        """This was committed just now: the flows from now on are told by it."""
        if not self.on:
            return
        first = self._scene is None
        self._scene = Scene.of(plan, interfaces, self._ledger, self._scene)
        if first:
            os.eventfd_write(self._bell, 1)

    def learned(self, name: Name, addresses: Iterable[bytes], ttl_s: float) -> None:
        """An answer said this."""
        if self.on:
            self._names.learned(name, addresses, ttl_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop; what the kernel still holds is not read any more."""
        if not self.on:
            return
        self.on, self._stopping = False, True
        os.eventfd_write(self._bell, 1)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            os.close(self._bell)

    # --- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        seldom = logs.Seldom(60.0)
        while not self._stopping:
            try:
                with contextlib.ExitStack() as stack:
                    self._follow(list(self._sources(stack)))
            except Taken as taken:  # a shim that is on its way out
                if seldom():
                    log.warning("flow log waits for its turn", reason=str(taken))
            except (AcnsError, OSError) as error:  # a full disk may have room again
                if seldom():
                    log.failure("flow log interrupted", error, again_every_s=RETRY_S)
            except Exception as error:  # noqa: BLE001 - a bug of ours, which a packet found, costs a batch
                log.failure("unexpected error, please report", error)
            self._wait((), 0.0 if self._stopping else RETRY_S)
        self._file.close()

    def _sources(self, stack: contextlib.ExitStack) -> Iterator[Source]:
        yield stack.enter_context(contextlib.closing(Drops()))
        if self._what == "drops":
            return
        if problem := ctevents.problem():
            log.warning("connections are not logged", problem=str(problem))
            return
        yield stack.enter_context(contextlib.closing(Connections()))

    def _follow(self, sources: list[Source]) -> None:
        """Until it is time to stop."""
        lost = _LostCount(self._node)
        while not self._stopping:
            if self._scene is None:
                self._wait((), _TICK_S)
                continue
            waits_s = {source: source.allowance.recovers_in_s() for source in sources}
            able = [source for source in sources if not waits_s[source]]
            self._wait(able, min((wait_s for wait_s in waits_s.values() if wait_s), default=_TICK_S))
            self._names.take_in()
            lines = [line for source in able for line in self._lines(source)]
            lines += lost.lines(sum(source.lost for source in sources))
            if lines:
                self._file.append("".join(lines))

    def _lines(self, source: Source) -> Iterator[str]:
        for flow in source.flows(self._teller):
            yield flow_json.line(flow)
            time.sleep(_MOMENT_S)

    def _teller(self) -> Teller:
        if self._scene is None:
            raise Bug("a flow is told before there is anything to tell it by")
        return Teller(self._node, self._scene, self._names)

    def _wait(self, sources: Iterable[Source], timeout_s: float) -> None:
        """Until there is something to read, the bell rings, or it takes too long."""
        poll = select.poll()
        for descriptor in (self._bell, *(source.fileno() for source in sources)):
            poll.register(descriptor, select.POLLIN)
        poll.poll(timeout_s * 1000)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)


class _LostCount:
    """Says now and then how many flows were lost since it last did."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._said = 0
        self._now_and_then = logs.Seldom(_TICK_S)

    def lines(self, lost: int) -> list[str]:
        if lost == self._said or not self._now_and_then():
            return []
        count, self._said = lost - self._said, lost
        return [flow_json.line(Lost(time.time_ns(), self._node, count))]
