"""`invoke lab.events`: what happened to a lab and its agents, in the order of time.

The lab's own journal and those of all agents, without what is about single queries: for those there is
`lab.observe`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from acns.telemetry.journal import Event
from lab.errors import InputError
from lab.report import flows as flow_report
from lab.report import journal as report
from lab.runtime.commands import FORMAT_VERSION, remark
from lab.runtime.growing import GrowingFile
from lab.runtime.lab import Lab
from lab.runtime.merging import HELD_NS, POLL_S, Merged
from lab.runtime.observe import Growing
from lab.spec.topology import AGENTS

_OF_QUERIES: Final = frozenset({Event.DNS_QUERY, Event.DNS_ANSWER, Event.DNS_IGNORED})
_YEAR_10000_S: Final = 253_402_300_800


@dataclass(frozen=True, slots=True)
class Happening:
    """One line. `node` is "" where it is the lab's own. `fields` as they were written."""

    time_ns: int
    node: str
    fields: dict[str, Any]

    def text(self) -> str:
        """For people: `Nov 28 11:14:40.993 node1/shim: policy.committed endpoints=5`."""
        agent = self.fields["agent"]
        who = f"{self.node}/{agent}" if self.node else agent
        return f"{flow_report.when(self.time_ns)} {who}: {report.text(self.fields)}"

    def json(self) -> str:
        return json.dumps({"version": FORMAT_VERSION, "node": self.node, **self.fields})


class HappeningFile:
    """A journal. `unreadable` counts lines that are none of its."""

    def __init__(self, file: Growing, node: str = "") -> None:
        self.unreadable = 0
        self._file = file
        self._node = node

    def new(self) -> Iterator[Happening]:
        for line in self._file.new_lines():
            if b'"event": "dns.' in line:  # most lines: not worth being read
                continue
            found = happening(line, self._node)
            if found is None:
                self.unreadable += 1
            elif found.fields["event"] not in _OF_QUERIES:
                yield found


def happening(line: bytes, node: str) -> Happening | None:
    """None for what no journal has written."""
    try:
        value = json.loads(line)
        time_s = value["ts"]
        known = isinstance(value["event"], str) and isinstance(value["agent"], str)
        if not known or not 0 <= time_s < _YEAR_10000_S:
            return None
        return Happening(round(time_s * 1_000_000) * 1000, node, value)
    except (ValueError, KeyError, TypeError):
        return None


def run(name: str | None, *, follow: bool, last: int, as_json: bool) -> int:
    """What `invoke lab.events` does; `last` 0 is all there is."""
    from lab.backends.kind import commands as on_kind

    typed = Typed(follow=follow, last=last, json=as_json)
    if kind := on_kind.lab(name):
        return kind.events(typed)
    lab = Lab.attach(name)
    return show(sources_of(lab), typed, alive=lab.record.alive)


@dataclass(frozen=True, slots=True)
class Typed:
    """The options as they were typed; `last` 0 is all there is."""

    follow: bool = False
    last: int = 0
    json: bool = False


def show(
    sources: Sequence[HappeningFile],
    typed: Typed,
    *,
    alive: Callable[[], bool],
    poll_s: float = POLL_S,
) -> int:
    """Print what these have; with `follow`, go on as long as the lab is `alive`."""
    if typed.last < 0:
        raise InputError(f"{typed.last} is no number of events", hint="as in --last 20")
    events: Merged[Happening] = Merged(sources, lambda _: True)
    events.take_in()
    if typed.last:
        events.keep_last(typed.last)
    with contextlib.suppress(KeyboardInterrupt):
        while typed.follow and alive():
            _show(events.until(time.time_ns() - HELD_NS), typed.json)
            time.sleep(poll_s)
            events.take_in()
    _show(events.until(None), typed.json)
    if unreadable := sum(source.unreadable for source in sources):
        remark(f"{unreadable} lines of the journals could not be read")
    return 0


def sources_of(lab: Lab) -> list[HappeningFile]:
    """The lab's journal and its agents'."""
    agents = [
        HappeningFile(GrowingFile(lab.folder.node(node.name) / f"{agent}-journal.jsonl"), node.name)
        for node in lab.nodes
        for agent in AGENTS
    ]
    return [HappeningFile(GrowingFile(lab.folder.events_file)), *agents]


def _show(happenings: Iterable[Happening], as_json: bool) -> None:
    for one in happenings:
        sys.stdout.write((one.json() if as_json else one.text()) + "\n")
    sys.stdout.flush()
