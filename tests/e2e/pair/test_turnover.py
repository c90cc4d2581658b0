"""Policies change under hundreds of connections: what both the old and the new allow loses no packet, what
the new denies is cut, and what neither allows never gets through.

Packets are counted by the kernel before and after the node's policy (`gauge`), so no verdict depends on how
fast anything went. Who may reach whom in each state the tests reckon by themselves (`turnover`). Names are
looked up once, at the start: whatever is open by name afterwards has survived every change in between.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from lab.runtime.lab import Lab

from . import turnover_world as world
from .gauge import PATIENCE_S, Counts, Gauge, Key
from .probes import happens
from .traffic import Connection, Knock, Traffic
from .turnover import Edit, Editor, Flow, changed_files
from .wire import NOERROR, Wire, query, rcode, seeded, until

pytestmark = pytest.mark.root

EDITS = 32
KINDS = {"add", "more", "less", "deny", "rename", "make", "label", "pod", "say", "touch", "remove"}


@dataclass(slots=True)
class Story:
    """What was seen while the policies changed. Packets are told by flow; a story without faults has none."""

    edits: list[str] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    """From each edit until the agents went by it."""
    connections: list[int] = field(default_factory=list)
    """How many TCP connections were open and allowed at each edit."""
    cut: int = 0
    opened: int = 0
    lost: list[str] = field(default_factory=list)
    """Packets of connections that were allowed all along."""
    silent: list[str] = field(default_factory=list)
    """Connections that were allowed and never made."""
    passed: list[str] = field(default_factory=list)
    """Packets of connections that had been cut."""
    leaked: list[str] = field(default_factory=list)
    """Packets that no policy, old or new, allowed."""
    lookups: int = 0
    """DNS queries that reached the Internet after the first look-ups."""


class Stage:
    """A lab under traffic, and the book kept of it."""

    def __init__(self, lab: Lab, gauge: Gauge, traffic: Traffic, rng: random.Random) -> None:
        self.story = Story()
        self.state = world.FIRST
        self._lab = lab
        self._gauge = gauge
        self._traffic = traffic
        self._editor = Editor(world.MATERIAL, rng)
        self._flows = world.flows(lab)
        self._live: dict[Flow, list[Connection]] = {}
        self._cut: dict[Flow, list[Connection]] = {}
        self._stopped_at: dict[Key, int] = {}
        """Packets through, of connections that are cut: not one more."""
        self._knocks: dict[Flow, Knock] = {}

    def begin(self) -> None:
        """All that is allowed connects, all that is not knocks."""
        self._open(flow for flow in self._flows if self.state.allows(flow))
        self._knock(
            flow for flow in (*self._flows, *world.shut_flows(self._lab)) if not self.state.allows(flow)
        )

    def change(self) -> None:
        """One edit, and what comes of it."""
        edit = self._editor.next(self.state)
        going = [flow for flow in self._live if not edit.state.allows(flow)]
        coming = [flow for flow in self._knocks if edit.state.allows(flow)]
        self._settle_accounts(going, f"before: {edit.what}")
        self._stop_knocking(coming)
        self._note(edit)
        self._write(edit)
        self._judge_cut(going, edit.what)
        self._open(coming)
        self._knock(going)
        self._judge_closed(edit.what)

    def end(self) -> None:
        """Let all fall silent, and count: packets, and messages that came back."""
        connections = [one for each in self._live.values() for one in each]
        self._traffic.pause(connections, True)
        happens(lambda: all(one.sent == one.echoed for one in connections), PATIENCE_S)
        self.story.lost += [
            f"{one.flow}: {one.sent} sent, {one.echoed} echoed"
            for one in connections
            if one.sent != one.echoed
        ]
        self._settle_accounts(list(self._live), "at the end")

    # --- steps ------------------------------------------------------------------------------------------

    def _note(self, edit: Edit) -> None:
        self.story.edits.append(edit.what)
        going_on = [flow for flow in self._live if flow.protocol == "TCP" and edit.state.allows(flow)]
        self.story.connections.append(sum(len(self._live[flow]) for flow in going_on))

    def _write(self, edit: Edit) -> None:
        started_s = time.monotonic()
        for file, text in changed_files(self.state, edit):
            if text is None:
                self._lab.remove_manifest(file)
            else:
                self._lab.write_manifest(file, text)
        if edit.state.labels != self.state.labels:
            self._lab.write_manifest("pods.yaml", world.pods_text(self._lab, edit.state))
        self.state = edit.state
        self._lab.wait_settled()
        self.story.took_s.append(time.monotonic() - started_s)
        self._traffic.check()

    def _settle_accounts(self, flows: list[Flow], when: str) -> None:
        """For a moment these connections fall silent, and all that they sent has come through."""
        connections = [one for flow in flows for one in self._live[flow]]
        self._traffic.pause(connections, True)
        missing = self._gauge.missing({one.key: str(one.flow) for one in connections})
        self.story.lost += [f"{when}: {text}" for text in missing]
        self._traffic.pause(connections, False)

    def _judge_cut(self, flows: list[Flow], when: str) -> None:
        """They go on sending, at both ends, and nothing of it comes through."""
        mark = self._gauge.read()
        for flow in flows:
            connections = self._cut[flow] = self._live.pop(flow)
            self._stopped_at |= {one.key: mark.after[one.key] for one in connections}
            self.story.cut += len(connections)
        keys = {one.key for flow in flows for one in self._cut[flow]}

        def all_have_tried() -> bool:
            now = self._gauge.read()
            return all(now.before[key] > mark.before[key] for key in keys)

        until(all_have_tried, f"{when}: what is cut goes on trying")

    def _judge_closed(self, when: str) -> None:
        keys = {knock.key for knock in self._knocks.values()}
        until(lambda: keys <= self._gauge.read().before.keys(), f"{when}: all have knocked")
        counts = self._gauge.read()
        self._judge_knocks(self._knocks.values(), counts, when)
        for flow, connections in self._cut.items():
            for one in connections:
                if more := counts.after[one.key] - self._stopped_at[one.key]:
                    self.story.passed.append(f"{when}: {more} packets of {flow}")

    def _judge_knocks(self, knocks: Iterable[Knock], counts: Counts, when: str) -> None:
        for knock in knocks:
            if through := counts.after[knock.key]:
                self.story.leaked.append(f"{when}: {through} packets of {knock.flow}")

    def _open(self, flows: Iterable[Flow]) -> None:
        """Connections of flows that are allowed now; those that were cut are made anew."""
        opened = []
        for flow in flows:
            self._live[flow] = [self._traffic.open(flow) for _ in range(world.copies(flow))]
            opened += self._live[flow]
        self.story.opened += len(opened)
        self.story.silent += self._traffic.silent(opened)

    def _knock(self, flows: Iterable[Flow]) -> None:
        self._knocks |= {flow: self._traffic.knock(flow) for flow in flows}
        self._traffic.use(self._knocks.values())

    def _stop_knocking(self, flows: list[Flow]) -> None:
        """Before they are allowed; until now nothing came through."""
        stopped = [self._knocks.pop(flow) for flow in flows]
        self._traffic.use(self._knocks.values())
        self._judge_knocks(stopped, self._gauge.read(), "until it was allowed")
        for flow in flows:
            self._traffic.close(self._cut.pop(flow, ()))


@contextmanager
def stage(rng: random.Random) -> Iterator[Stage]:
    """A lab in its first state, all names known, everybody talking."""
    with ExitStack() as stack:
        lab = Lab.up(world.topology(), name=f"t{os.getpid()}-turnover")
        stack.callback(lab.down)
        for policy in world.FIRST.policies.values():
            lab.write_manifest(policy.file, policy.text())
        lab.write_manifest("pods.yaml", world.pods_text(lab, world.FIRST))
        lab.wait_settled()
        look_up(lab, rng)
        gauge = stack.enter_context(Gauge.on(lab.nodes[0]))
        traffic = stack.enter_context(Traffic(lab, rng))
        for place in world.places(lab):
            served = lab.pod(place.pod) if place.pod else lab.internet
            traffic.serve(served, place.address, (world.STEADY_PORT, world.EDITED_PORT))
        made = Stage(lab, gauge, traffic, rng)
        made.begin()
        asked = len(lab.internet.queries())
        yield made
        made.story.lookups = len(lab.internet.queries()) - asked


def look_up(lab: Lab, rng: random.Random) -> None:
    """One pod asks for every name, once."""
    with Wire(lab, "c0", rng) as wire:
        for name in world.ADDRESSES:
            answer = wire.ask(wire.cluster_dns, query(name, ident=rng.getrandbits(16)))
            assert rcode(answer) == NOERROR


@pytest.fixture(scope="module")
def story() -> Story:
    with stage(seeded()) as lively:
        for _ in range(EDITS):
            lively.change()
        lively.end()
    print(f"{EDITS} edits, {lively.story.opened} connections; in force after", end=" ")
    print(f"{max(lively.story.took_s) * 1000:.0f} ms at most")
    print(*lively.story.edits, sep="\n")
    return lively.story


def test_edits_of_every_kind_were_made_under_two_hundred_connections(story: Story) -> None:
    kinds = Counter(what.split()[0] for what in story.edits)
    assert sum(kinds.values()) == EDITS
    assert kinds.keys() == KINDS
    assert min(story.connections) >= 200


def test_what_stays_allowed_loses_no_packet(story: Story) -> None:
    assert story.lost == []


def test_what_loses_its_permission_is_cut_in_both_directions(story: Story) -> None:
    assert story.cut > 0
    assert story.passed == []


def test_nothing_is_ever_open_that_neither_the_old_nor_the_new_policy_allows(story: Story) -> None:
    assert story.leaked == []


def test_what_was_learned_before_opens_whatever_policy_comes_later(story: Story) -> None:
    assert story.opened > 0
    assert story.silent == []
    assert story.lookups == 0
