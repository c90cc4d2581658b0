"""What the kernel really does with a pod's packets: they are sent, and followed through every node they meet.

Nothing is guessed from silence: a packet has passed when it is seen behind the last rule of the last node
on its way, and is denied when a rule is seen to drop it. One of which neither is seen in time is reported so.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from acns.datapath import base, constants
from acns.errors import PeerError
from acns.policy.routes import Outcome
from acns.policy.traffic import Packet
from lab.policy_tools import tracing
from lab.policy_tools.packets import Numbers, Probe
from lab.policy_tools.tracing import Key, NodeTrace, Step
from lab.runtime.lab import Lab
from lab.world import kubeproxy

PATIENCE_S = 3.0
ANSWER_S = 0.5
ANSWER_DROPPED = "its answer is dropped"
AT_ONCE = 64
"""So many packets' steps fit into the buffers of netlink."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One packet from a pod (`namespace/name`) to an address as the pod names it."""

    pod: str
    destination: IPv4Address
    packet: Packet


@dataclass(frozen=True, slots=True)
class KernelRule:
    """A rule that decided: `id` is the agents' (or `TABLE CHAIN` of somebody else's rule)."""

    node: str
    id: str
    comment: str
    of_services: bool = False
    """It translates Services: what that drops is no matter of policy."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """`outcome` None: the packet was lost on the way. `reached`: who got it, after Service translation.

    `answer`: what became of the answer, where it was waited for and came.
    """

    outcome: Outcome | None
    rules: tuple[KernelRule, ...] = ()
    reached: IPv4Address | None = None
    answer: str = ""


Sighting = tuple[str, Step]
"""Node and step."""


@dataclass(slots=True)
class _Journey:
    """A probe and what has been seen of it, and of its answer, so far."""

    probe: Probe
    steps: list[Sighting] = field(default_factory=list)
    answers: list[Sighting] = field(default_factory=list)


class Witness:
    """Traces all nodes of a lab from construction to `close`."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._numbers = Numbers()
        self._sockets: dict[str, socket.socket] = {}
        self._owners = dict(_owners(lab))
        self._nodes: dict[str, NodeTrace] = {}
        try:
            for node in lab.nodes:
                self._nodes[node.name] = _traced(node.netns_fd())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        for trace in self._nodes.values():
            trace.close()

    def testify(self, asks: Sequence[Ask], *, with_answers: bool = False) -> list[Testimony]:
        """What becomes of each packet. Raises PeerError when the kernel lost some of its reports."""
        found: list[Testimony] = []
        for start in range(0, len(asks), AT_ONCE):
            found += self._testify(asks[start : start + AT_ONCE], with_answers)
        return found

    def _testify(self, asks: Sequence[Ask], with_answers: bool) -> list[Testimony]:
        journeys = [_Journey(self._probe(ask)) for ask in asks]
        for trace in self._nodes.values():
            trace.announce(one.probe for one in journeys)
        by_key = {key: one for one in journeys for key in _keys(one.probe)}
        for ask, one in zip(asks, journeys, strict=True):
            if one.probe.source != one.probe.destination:
                self._send(ask, one.probe.data())
        self._watch(by_key, PATIENCE_S, lambda: all(map(self._is_over, journeys)))
        if with_answers:
            self._watch(by_key, ANSWER_S, lambda: all(map(self._is_answered, journeys)))
        for trace in self._nodes.values():
            trace.read_comments()
        return [self._testimony(one) for one in journeys]

    def _probe(self, ask: Ask) -> Probe:
        return self._numbers.probe(self._lab.pod(ask.pod).address, ask.destination, ask.packet)

    def _socket(self, pod: str) -> socket.socket:
        if pod not in self._sockets:
            made = self._lab.pod(pod).open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)  # of the pods' network, for one
            self._sockets[pod] = made
        return self._sockets[pod]

    def _send(self, ask: Ask, packet: bytes) -> None:
        try:
            self._socket(ask.pod).sendto(packet, (str(ask.destination), 0))
        except OSError as error:
            raise PeerError(f"{ask.pod} cannot send to {ask.destination}: {error.strerror}") from error

    def _watch(
        self, journeys: Mapping[Key, _Journey], patience_s: float, is_over: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + patience_s
        while not is_over() and (left_s := deadline - time.monotonic()) > 0:
            select.select(list(self._nodes.values()), [], [], left_s)
            for node, step in self._new():
                if journey := journeys.get(step.key):
                    seen = journey.steps if step.key == tracing.probe_key(journey.probe) else journey.answers
                    seen.append((node, step))

    def _new(self) -> Iterator[Sighting]:
        for node, trace in self._nodes.items():
            while (steps := trace.read()) is not None:
                yield from ((node, step) for step in steps)

    def _is_over(self, journey: _Journey) -> bool:
        probe = journey.probe
        return probe.source == probe.destination or _end(journey.steps, self._owners) is not None

    def _is_answered(self, journey: _Journey) -> bool:
        """There is nothing to wait for after a drop, and at the resolver nobody answers an empty query."""
        end = _end(journey.steps, self._owners)
        if end is None or end[1].drops or journey.probe.packet is None:
            return True
        return _end(journey.answers, self._owners) is not None

    def _testimony(self, journey: _Journey) -> Testimony:
        if journey.probe.source == journey.probe.destination:
            return Testimony(Outcome.ALLOWED, reached=journey.probe.destination)
        end = _end(journey.steps, self._owners)
        rules = tuple(self._rules(journey.steps))
        if end is None:
            return Testimony(None, rules)
        reached = next((step.destination for _, step in reversed(journey.steps) if step.destination), None)
        outcome = Outcome.DENIED if end[1].drops else Outcome.ALLOWED
        if outcome is Outcome.ALLOWED and any(rule.id.startswith("q_") for rule in rules):
            outcome = Outcome.REDIRECTED
        return Testimony(outcome, rules, reached, self._answer(journey))

    def _answer(self, journey: _Journey) -> str:
        end = _end(journey.answers, self._owners)
        if end is None:
            return ""
        if not end[1].drops:
            return "answered"
        *_, last = self._rules(journey.answers)
        return f"{ANSWER_DROPPED} on {last.node} by {last.id}"

    def _rules(self, steps: Iterable[Sighting]) -> Iterator[KernelRule]:
        """Those that carry out policy, and whoever else has dropped the packet or let it past policy."""
        told: set[str] = set()
        for node, step in steps:
            comment = self._nodes[node].comment(step)
            id_ = comment.partition(" ")[0]
            if step.table == constants.TABLE and (id_.startswith(_POLICY_PREFIXES) or id_ == step.chain):
                told.add(id_)
                yield KernelRule(node, id_, comment)
            elif (step.drops and not _is_told(step, told)) or _is_exception(step):
                yield self._other(node, step)

    def _other(self, node: str, step: Step) -> KernelRule:
        """A rule that stands for no rule of policy."""
        counter = step.chain.removeprefix("x_")
        if step.table == constants.TABLE and counter in base.COUNTERS:
            return KernelRule(node, counter, base.COUNTERS[counter])
        comment = self._nodes[node].comment(step)
        if step.table == constants.TABLE:
            comment = comment.partition(" ")[2]
        id_, of_services = f"{step.table} {step.chain}", step.table == kubeproxy.TABLE
        return KernelRule(node, id_, comment or "a rule without a comment", of_services)


_DENY_PREFIXES = ("de_", "di_")
_POLICY_PREFIXES = ("re_", "ri_", *_DENY_PREFIXES, "q_")
"""Of the ids of rules: allows and denies, egress and ingress, and redirections."""
_CLOSING_PREFIXES = ("eg_", "er_", "in_", "ir_")
"""Of the chains whose last rules drop what no rule allowed; a counter called after the chain tells it."""


def _is_told(step: Step, told: Set[str]) -> bool:
    """Whether it only carries out what a rule before it has said: a deny, or a closing chain's counter."""
    if step.table != constants.TABLE:
        return False
    denies = step.chain.startswith("x_") and step.chain.removeprefix("x_") not in base.COUNTERS
    return step.chain in told or (denies and any(id_.startswith(_DENY_PREFIXES) for id_ in told))


def _is_exception(step: Step) -> bool:
    """A rule that lets a packet past policy, such as a pod's to itself."""
    return step.accepts and step.table == constants.TABLE and step.chain.startswith(_CLOSING_PREFIXES)


def _keys(probe: Probe) -> tuple[Key, Key]:
    return tracing.probe_key(probe), tracing.answer_key(probe)


def _end(steps: Sequence[Sighting], owners: Mapping[IPv4Address, str]) -> Sighting | None:
    """Where a journey has ended: in a drop, at a node, or on the far side of the last node on its way."""
    destinations: dict[str, IPv4Address] = {}
    for node, step in steps:
        if step.destination is not None:
            destinations[node] = step.destination
        if step.drops or (step.table == tracing.TABLE and step.chain == tracing.DELIVERED):
            return node, step
        if step.table == tracing.TABLE and step.chain == tracing.LEFT:
            owner = owners.get(destinations[node]) if node in destinations else None
            if owner in (None, node):
                return node, step
    return None


def _owners(lab: Lab) -> Iterator[tuple[IPv4Address, str]]:
    """Address → node that it is on."""
    for pod in lab.addressing.pods:
        yield pod.address, pod.node
    for node in lab.addressing.nodes:
        yield node.address, node.name
        yield node.pod_gateway, node.name


def _traced(namespace: int) -> NodeTrace:
    try:
        return NodeTrace(namespace)
    finally:
        with contextlib.suppress(OSError):
            os.close(namespace)
