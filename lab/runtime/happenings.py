"""`invoke lab.events`: what happened to a lab and its agents, in the order of time.

The lab's own journal and those of all agents, without what is about single queries: for those there is
`lab.observe`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from acns.telemetry.journal import Event
from lab.errors import InputError
from lab.report import flows as flow_report
from lab.report import journal as report
from lab.runtime.commands import FORMAT_VERSION, remark
from lab.runtime.growing import GrowingFile
from lab.runtime.lab import Lab
from lab.runtime.merging import HELD_NS, POLL_S, Merged
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

    def __init__(self, path: Path, node: str = "") -> None:
        self.unreadable = 0
        self._file = GrowingFile(path)
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
    if last < 0:
        raise InputError(f"{last} is no number of events", hint="as in --last 20")
    lab = Lab.attach(name)
    sources = sources_of(lab)
    events: Merged[Happening] = Merged(sources, lambda _: True)
    events.take_in()
    if last:
        events.keep_last(last)
    with contextlib.suppress(KeyboardInterrupt):
        while follow and lab.record.alive():
            _show(events.until(time.time_ns() - HELD_NS), as_json)
            time.sleep(POLL_S)
            events.take_in()
    _show(events.until(None), as_json)
    if unreadable := sum(source.unreadable for source in sources):
        remark(f"{unreadable} lines of the journals could not be read")
    return 0


def sources_of(lab: Lab) -> list[HappeningFile]:
    """The lab's journal and its agents'."""
    agents = [
        HappeningFile(lab.folder.node(node.name) / f"{agent}-journal.jsonl", node.name)
        for node in lab.nodes
        for agent in AGENTS
    ]
    return [HappeningFile(lab.folder.events_file), *agents]


def _show(happenings: Iterable[Happening], as_json: bool) -> None:
    for one in happenings:
        sys.stdout.write((one.json() if as_json else one.text()) + "\n")
    sys.stdout.flush()
