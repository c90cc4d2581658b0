"""`invoke lab.observe`: the flows of all nodes in the order of their times, as lines or as Hubble's JSON.

Each node's shim writes what its kernel did with packets, its resolver keeps a journal of what it did with
names; here the two come together. Followed, flows are held back for a moment, so that those of another node
or file that are a little late can still go before them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from acns import settings as settings_files
from acns.resolver.settings import ResolverSettings
from acns.shim.settings import ShimSettings
from acns.telemetry import dns_flows, flow_json, flow_reading
from acns.telemetry.flows import Record
from lab.errors import InputError
from lab.report import flows as report
from lab.runtime.commands import FORMAT_VERSION, remark
from lab.runtime.dns_view import DNSView, View
from lab.runtime.flow_filter import FlowFilter
from lab.runtime.growing import GrowingFile
from lab.runtime.lab import Lab
from lab.runtime.merging import HELD_NS, POLL_S, Merged

Settings = TypeVar("Settings")

FOLLOWED_FROM: Final = 20
"""Flows shown before those to come, where nobody says how many; as in Hubble."""


@dataclass(frozen=True, slots=True)
class Typed:
    """The options as they were typed. Without `last` it is all there is, or `FOLLOWED_FROM` with `follow`."""

    pod: str | None = None
    verdict: str | None = None
    fqdn: str | None = None
    last: str | None = None
    follow: bool = False
    json: bool = False


class Growing(Protocol):
    """A file that grows, wherever it is."""

    def new_lines(self) -> Iterator[bytes]: ...


class FlowFile:
    """The flow log of a node's shim. `unreadable` counts lines that are no flows."""

    def __init__(self, file: Growing) -> None:
        self.unreadable = 0
        self._file = file

    def new(self) -> Iterator[Record]:
        for line in self._file.new_lines():
            try:
                yield flow_reading.read(line.decode())
            except ValueError:
                self.unreadable += 1


class JournalFile:
    """What of a resolver's journal is about names."""

    def __init__(self, file: Growing, node: str, view: View) -> None:
        self.unreadable = 0
        self._file = file
        self._node = node
        self.view = view

    def new(self) -> Iterator[Record]:
        self.view.refresh()
        for line in self._file.new_lines():
            if b'"dns.' not in line:  # most lines are about something else, and reading them takes its time
                continue
            try:
                flow = dns_flows.from_journal(json.loads(line), self._node, self.view.who)
            except ValueError:
                self.unreadable += 1
                continue
            if flow is not None:
                yield self.view.explained(flow)


Source = FlowFile | JournalFile


def run(name: str | None, typed: Typed) -> int:
    """What `invoke lab.observe` does. Raises InputError for what cannot be meant."""
    from lab.backends.kind import commands as on_kind

    if kind := on_kind.lab(name):
        return kind.observe(typed)
    lab = Lab.attach(name)
    pod = None if typed.pod is None else lab.pod(typed.pod).plan.key
    return show(lambda: sources_of(lab), typed, pod, alive=lab.record.alive)


def show(
    find: Callable[[], Sequence[Source]],
    typed: Typed,
    pod: str | None,
    *,
    alive: Callable[[], bool],
    poll_s: float = POLL_S,
) -> int:
    """Print what these sources have, which are looked for when it is clear what is meant; with `follow`, go
    on as long as the lab is `alive`."""
    wanted = FlowFilter.of(pod=pod, verdict=typed.verdict, fqdn=typed.fqdn)
    last = _count(typed)
    sources = find()
    line = _printer(typed.json, nodes=sum(isinstance(one, FlowFile) for one in sources) > 1)
    flows = Merged(sources, wanted.wants)
    flows.take_in()
    if last is not None:
        flows.keep_last(last)
    with contextlib.suppress(KeyboardInterrupt):
        while typed.follow and alive():
            _show(flows.until(time.time_ns() - HELD_NS), line)
            time.sleep(poll_s)
            flows.take_in()
    _show(flows.until(None), line)
    if unreadable := sum(source.unreadable for source in sources):
        remark(f"{unreadable} lines of the logs could not be read")
    return 0


def sources_of(lab: Lab) -> list[Source]:
    """Whatever the agents write. Raises InputError where none writes flows."""
    found: list[Source] = []
    silent = []
    for node in lab.nodes:
        shim = _settings(ShimSettings, lab.folder.node(node.name) / "shim.toml")
        resolver = _settings(ResolverSettings, lab.folder.node(node.name) / "resolver.toml")
        if shim is not None and shim.flow_log_file:
            found.append(FlowFile(GrowingFile(Path(shim.flow_log_file))))
            if resolver is not None and resolver.journal_file:
                journal = GrowingFile(Path(resolver.journal_file))
                found.append(JournalFile(journal, node.name, DNSView(node, shim)))
        else:
            silent.append(node.name)
    if not found:
        raise InputError(
            f"lab {lab.name} keeps no flow log",
            hint="its shims do not run, or `flow_log_file` is off in its topology, or older code made it",
        )
    if silent:
        remark(f"no flow log on {', '.join(silent)}")
    return found


def _settings(kind: type[Settings], path: Path) -> Settings | None:
    """What an agent was started with; None when there is none."""
    return settings_files.load(kind, path) if path.exists() else None


def _count(typed: Typed) -> int | None:
    if typed.last is None:
        return FOLLOWED_FROM if typed.follow else None
    if not typed.last.isascii() or not typed.last.isdigit() or int(typed.last) == 0:
        raise InputError(f"'{typed.last}' is no number of flows", hint="as in --last 20")
    return int(typed.last)


def _printer(as_json: bool, *, nodes: bool) -> Callable[[Record], str]:
    if as_json:
        return lambda record: json.dumps({"version": FORMAT_VERSION, **flow_json.to_json(record)}) + "\n"
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    colours = sys.stdout.isatty() and not plain
    return lambda record: report.text(record, nodes=nodes, colours=colours) + "\n"


def _show(records: Iterable[Record], line: Callable[[Record], str]) -> None:
    for record in records:
        sys.stdout.write(line(record))
    sys.stdout.flush()
