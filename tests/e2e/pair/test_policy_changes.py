"""Manifests change under a running node: what is new applies, what is wrong changes nothing, what goes cuts.

The files are edited where the shim finds them; what comes of it is read from the kernel and from taps on both
sides of the node. `batch` has a policy of its own all along, so that a policy taken from it leaves it as
enforced as it was.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from acns.dns import pattern
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from . import wire
from .companions import Download, KernelWatch
from .desk import Desk, policy
from .probes import Answer, Segment, Sides, segments_in, segments_out
from .wire import NOERROR, fresh_address, fresh_label, more_names, until

pytestmark = pytest.mark.root

PORT = 443
OWN_ZONE = "storage.example.net"
"""What `batch` may always ask for and connect to."""
OTHER_ZONE = "example.org"
SERVER_NAME, SERVER = "evil.example.org", "198.51.100.99"
"""A web server that `batch` may only reach by a policy of these tests; its certificate has the name."""


@dataclass(frozen=True, slots=True)
class Room:
    """A desk to edit policies at, `batch` watched on both sides, and names to play with."""

    desk: Desk
    sides: Sides
    known: str
    """An address that is open all along."""
    names: dict[str, str]
    """Names of OTHER_ZONE that nobody has asked for yet, each with an address of its own."""

    def take(self) -> tuple[str, str]:
        return self.names.popitem()

    def open(self, *addresses: str) -> set[str]:
        """Those of the addresses, and of `known`, that a SYN gets through to."""
        return self.sides.let_out(addresses, PORT, known=self.known)

    def wait_open(self, address: str) -> None:
        until(lambda: address in self.open(address), f"{address} is open")

    def wait_answer(self, name: str) -> None:
        """Ask for a name until the resolver has the policy that allows it, a moment after the kernel."""
        until(lambda: self.sides.ask(name).rcode == NOERROR, f"{name} may be asked for")

    def upstream_queries(self, name: str) -> int:
        return sum(entry["name"] == f"{name}." for entry in self.desk.lab.internet.queries())


@pytest.fixture(scope="module")
def stocked(own_quickstart: Lab) -> Iterator[tuple[Sides, str, dict[str, str]]]:
    """`batch` with taps, an address it has learned, and new names."""
    rng = wire.seeded()
    known_name = f"{fresh_label(rng)}.{OWN_ZONE}"
    names = {f"{fresh_label(rng)}.{OTHER_ZONE}": fresh_address(rng) for _ in range(24)}
    records = {**names, known_name: fresh_address(rng)}
    zone = {name: InternetName(a=(IPv4Address(one),), ttl_s=600) for name, one in records.items()}
    with more_names(own_quickstart, zone), Sides.of(own_quickstart, "batch", rng) as sides:
        assert sides.ask(known_name) == Answer(NOERROR, (records[known_name],))
        yield sides, records[known_name], names


@pytest.fixture
def room(own_quickstart: Lab, stocked: tuple[Sides, str, dict[str, str]]) -> Iterator[Room]:
    sides, known, names = stocked
    with Desk.of(own_quickstart) as desk:
        sides.clear()
        yield Room(desk, sides, known, names)


# --- what is new, what is wrong ---------------------------------------------------------------------------


def test_a_new_file_is_in_the_kernel_within_a_second_or_so(room: Room) -> None:
    name, _ = room.take()
    started_s = time.monotonic()
    room.desk.write("new.yaml", policy("new", asks=[name], connects=[name]))
    room.desk.wait_in_kernel(name)
    took_s = time.monotonic() - started_s
    print(f"from the file to the kernel: {took_s * 1000:.0f} ms")
    assert took_s < 3.0


def test_a_lab_that_has_settled_goes_by_the_newest_manifests(room: Room) -> None:
    name, address = room.take()
    room.desk.lab.write_manifest("settled.yaml", policy("settled", asks=[name], connects=[name]))
    room.desk.lab.wait_settled()
    assert room.sides.ask(name).rcode == NOERROR, "the resolver has it"
    assert address in room.open(address), "and so has the kernel"


def test_a_wrong_file_changes_nothing_in_the_kernel(room: Room) -> None:
    before = room.desk.commits()
    room.desk.write("batch.yaml", wrong(room.desk.original("batch.yaml")))
    until(room.desk.problems, "the shim finds the wrong file")
    assert room.desk.commits() == before


def test_a_wrong_file_is_reported_with_line_and_column(room: Room) -> None:
    text = wrong(room.desk.original("batch.yaml"))
    room.desk.write("batch.yaml", text)
    [problem] = until(room.desk.problems, "the shim finds the wrong file")
    assert problem.startswith(f"{room.desk.path('batch.yaml')}:{position(text, 'toFQDN:')}: ")


def test_the_log_has_the_problem_of_a_wrong_file(room: Room) -> None:
    room.desk.write("wrong.yaml", wrong(policy("wrong", connects=[SERVER_NAME])))
    [problem] = until(room.desk.problems, "the shim finds the wrong file")
    lines = map(json.loads, room.desk.node.shim.log_file.read_text().splitlines())
    assert problem in [line.get("problem") for line in lines]


def test_another_file_applies_beside_a_wrong_one(room: Room) -> None:
    (wrong_name, _), (right_name, _) = room.take(), room.take()
    room.desk.write("wrong.yaml", wrong(policy("wrong", asks=[wrong_name], connects=[wrong_name])))
    room.desk.write("right.yaml", policy("right", asks=[right_name], connects=[right_name]))
    room.desk.wait_in_kernel(right_name)
    until(room.desk.problems, "the shim finds the wrong file")
    assert not room.desk.in_kernel(wrong_name)


@pytest.mark.parametrize("end", ["- toFQ", "matchNa", "'443"])
def test_a_half_written_edit_changes_nothing_until_it_is_whole(room: Room, end: str) -> None:
    (old_name, old), (new_name, new) = room.take(), room.take()
    room.desk.write("grows.yaml", policy("grows", asks=[old_name, new_name], connects=[old_name]))
    room.wait_answer(old_name)
    room.wait_answer(new_name)
    room.wait_open(old)
    before = room.desk.commits()
    text = policy("grows", asks=[old_name, new_name], connects=[old_name, new_name])
    half = text.index(end, text.index("- toFQDNs")) + len(end)
    with room.desk.path("grows.yaml").open("w") as file:
        file.write(text[:half])
        file.flush()
        until(room.desk.problems, "the shim finds the file half-written")
        meanwhile = room.desk.commits(), room.open(old, new)
        file.write(text[half:])
    room.wait_open(new)
    assert meanwhile == (before, {room.known, old})
    assert room.desk.problems() == []


# --- what goes, what stays --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """Connections of `batch` that live by one policy file: a download, and one on which the pod sends."""

    download: Download
    sender: socket.socket

    def send(self) -> None:
        self.sender.send(b"G")


@contextmanager
def connected(room: Room) -> Iterator[Connected]:
    """Both connections are made and carry data."""
    room.wait_answer(SERVER_NAME)
    room.wait_open(SERVER)
    with (
        Download(room.sides.wire.pod, SERVER_NAME, size_bytes=24 << 20) as download,
        room.sides.wire.connect(SERVER, PORT) as sender,
    ):
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = Connected(download, sender)
        wait_both_ways(room, made, time.time_ns())
        yield made


def test_removing_a_policy_cuts_its_connections_both_ways_at_once(room: Room) -> None:
    room.desk.write("extra.yaml", policy("extra", asks=[SERVER_NAME], connects=[SERVER_NAME]))
    room.desk.wait_in_kernel(SERVER_NAME)
    with connected(room) as made:
        room.desk.remove("extra.yaml")
        room.desk.wait_gone(SERVER_NAME)
        cut_ns = time.time_ns()
        made.send()
        pod, uplink = room.sides.wire.tap, room.sides.uplink
        until(lambda: after(cut_ns, segments_out(pod, SERVER)), "the pod goes on trying")
        until(lambda: len(after(cut_ns, segments_in(uplink, SERVER))) > 1, "the server goes on trying")
        assert after(cut_ns, segments_in(pod, SERVER)) == []
        assert after(cut_ns, segments_out(uplink, SERVER)) == []


def test_an_edit_that_keeps_the_rule_cuts_nothing(room: Room) -> None:
    other, _ = room.take()
    room.desk.write("extra.yaml", policy("extra", asks=[SERVER_NAME], connects=[SERVER_NAME]))
    room.desk.wait_in_kernel(SERVER_NAME)
    with connected(room) as made, watched(room) as watch:
        names = [other, SERVER_NAME]
        room.desk.write("extra.yaml", policy("extra", asks=names, connects=names))
        room.desk.wait_in_kernel(other)
        wait_both_ways(room, made, time.time_ns())
        assert made.download.finish() == (made.download.size_bytes, 0, "")
    assert watch.missing == {}


def test_a_rule_that_moves_to_another_file_is_never_gone_in_between(room: Room) -> None:
    (old_mark, _), (new_mark, _) = room.take(), room.take()
    room.desk.write("extra.yaml", policy("extra", asks=[SERVER_NAME], connects=[SERVER_NAME, old_mark]))
    room.desk.wait_in_kernel(old_mark)
    with connected(room) as made, watched(room) as watch:
        room.desk.write("moved.yaml", policy("moved", asks=[SERVER_NAME], connects=[SERVER_NAME, new_mark]))
        room.desk.remove("extra.yaml")
        room.desk.wait_in_kernel(new_mark)
        room.desk.wait_gone(old_mark)
        wait_both_ways(room, made, time.time_ns())
        assert made.download.finish() == (made.download.size_bytes, 0, "")
    assert watch.missing == {}


def test_a_selector_that_appears_opens_names_already_known(room: Room) -> None:
    name, address = room.take()
    room.desk.write("asks.yaml", policy("asks", asks=[name]))
    room.wait_answer(name)
    before, asked = room.open(address), room.upstream_queries(name)
    room.desk.write("connects.yaml", policy("connects", connects=[name]))
    room.wait_open(address)
    assert before == {room.known}
    assert room.upstream_queries(name) == asked


def test_a_selector_that_goes_takes_its_addresses_with_it(room: Room) -> None:
    name, address = room.take()
    room.desk.write("asks.yaml", policy("asks", asks=[name]))
    room.desk.write("connects.yaml", policy("connects", connects=[name]))
    room.wait_answer(name)
    room.wait_open(address)
    room.desk.remove("connects.yaml")
    room.desk.wait_gone(name)
    assert room.open(address) == {room.known}
    until(lambda: address not in room.desk.node.ruleset(), "it is not in the learned set any more")
    assert room.open(address) == {room.known}


@contextmanager
def watched(room: Room) -> Iterator[KernelWatch]:
    """The server's address must be in its learned set all along."""
    watch = KernelWatch(room.desk.node)
    watch.require(pattern.match_name(SERVER_NAME), SERVER)
    with watch.running():
        yield watch
    assert watch.samples > 0


def wrong(text: str) -> str:
    """The same policy with a field misspelt."""
    assert "toFQDNs:" in text
    return text.replace("toFQDNs:", "toFQDN:")


def position(text: str, word: str) -> str:
    """`line:column` of a word's first place in a text."""
    before = text[: text.index(word)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def after(time_ns: int, segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.time_ns > time_ns]


def wait_both_ways(room: Room, made: Connected, since_ns: int) -> None:
    """Wait until the download brings data to the pod, and what the pod sends leaves its node."""
    made.send()
    pod, uplink = room.sides.wire.tap, room.sides.uplink
    until(lambda: with_data(after(since_ns, segments_in(pod, SERVER))), "data comes to the pod")
    until(lambda: with_data(after(since_ns, segments_out(uplink, SERVER))), "the pod's data leaves its node")


def with_data(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.payload_bytes]


GHOST = """\
apiVersion: v1
kind: Pod
metadata: {name: ghost, namespace: default, labels: {app: ghost}}
spec: {nodeName: node1, containers: [{name: app, image: none}]}
status: {phase: Running, podIP: 10.244.0.99, podIPs: [{ip: 10.244.0.99}]}
---
"""


def test_a_selector_of_a_pod_that_has_no_interface_yet_opens_names_already_known_to_the_next(
    room: Room,
) -> None:
    """The object of a pod comes before its interface, and may stay the only user of a selector for long."""
    name, address = room.take()
    shim = room.desk.node.shim.pid
    of_ghost = policy("ghost", connects=[name]).replace("app: batch", "app: ghost")
    room.desk.write("ghost.yaml", GHOST + of_ghost)
    room.desk.write("asks.yaml", policy("asks", asks=[name]))
    room.wait_answer(name)
    assert room.open(address) == {room.known}
    room.desk.write("connects.yaml", policy("connects", connects=[name]))
    room.desk.wait_in_kernel(name)
    assert room.open(address) == {address, room.known}, "at once, nobody has asked again"
    assert room.desk.node.shim.pid == shim
