"""A scenario under a virtual clock: the agents' own code, no sockets, no kernel, no root; always the same.

It is the right version's answer: what these agents do if both are there, nothing is lost and each commit is
done before its answer leaves. Faults in time between the two, of sockets or of the kernel need a lab. That
one is killed or stopped changes nothing here.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

from acns.fqdn import gate
from acns.policy import verdict
from acns.policy.connections import Part, parts
from acns.policy.model import FQDN, Match, Ports, Protocol
from acns.policy.overview import Local
from acns.policy.routes import Outcome
from acns.resolver.judged import Case
from lab.errors import InputError
from lab.repro.running import agents, order, why
from lab.repro.running.agents import PROTOCOLS, Agents, Clock
from lab.repro.running.order import Found, Timing
from lab.repro.running.why import Why
from lab.repro.scenario import messages, packets, topology
from lab.repro.scenario.model import Answer, Scenario, Step, endpoint
from lab.spec.plan import Addressing

CLIENT_PATIENCE_MS: Final = 5_000.0
"""So long a client waits for an answer: a C library's first time-out."""
MAX_COLLECTIONS: Final = 100_000
_IDS: Final = 0x1000
_OVER: Final = {number: name for name, number in PROTOCOLS.items()}


class Run:
    """One run; `found` afterwards has a row per step."""

    def __init__(self, scenario: Scenario, made: Mapping[str, Agents], clock: Clock, timing: Timing) -> None:
        self._scenario = scenario
        self._nodes = made
        self._clock = clock
        self._timing = timing
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._texts = topology.policy_texts(scenario)
        addressing = Addressing.of(topology.topology(scenario))
        self._addresses = {pod.key: pod.address for pod in addressing.pods}
        self._waits_for = order.waits_for(scenario, timing.pace)
        self._waiting: dict[int, list[int]] = {}
        for index, needed in enumerate(self._waits_for):
            for other in needed:
                self._waiting.setdefault(other, []).append(index)
        self._sent_over = {step.send - 1 for step in scenario.steps if step.send is not None}
        self._opened: dict[int, tuple[Local, IPv4Address, int, tuple[Match, ...]]] = {}
        self.found: dict[int, Found] = {}

    def run(self) -> list[Found]:
        """Until the last step is done."""
        self._use_policies()
        self._schedule_collections()
        for index in range(len(self._scenario.steps)):
            self._when_free(index)
        while self._events and len(self.found) < len(self._scenario.steps):
            at_ms, _, happen = heapq.heappop(self._events)
            self._clock.now = max(self._clock.now, at_ms / 1000)
            happen()
        return [self.found[index] for index in range(len(self._scenario.steps))]

    # --- time -----------------------------------------------------------------------------------------------

    @property
    def _now_ms(self) -> float:
        return self._clock.now * 1000

    def _at(self, at_ms: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(at_ms, self._now_ms), next(self._count), happen))

    def _when_free(self, index: int) -> None:
        if self.found.keys() >= set(self._waits_for[index]):
            begin_ms = self._timing.ms(self._scenario.steps[index].at_ms)
            self._at(begin_ms, lambda: self._begin(index))

    def _conclude(self, index: int, outcome: str, reason: Why) -> None:
        if index in self.found:
            return
        step = self._scenario.steps[index]
        recorded = "" if outcome == order.NOT_PLAYED else step.outcome
        self.found[index] = Found(index + 1, recorded, outcome, reason.text, reason.causes)
        for other in self._waiting.get(index, ()):
            self._when_free(other)

    def _schedule_collections(self) -> None:
        every_ms = next(iter(self._nodes.values())).shim.fqdn_gc_interval_s * 1000
        count = 0

        def collect() -> None:
            nonlocal count
            count += 1
            if count > MAX_COLLECTIONS:
                raise InputError(f"more than {MAX_COLLECTIONS} collections", hint="fqdn_gc_interval_s")
            for one in self._nodes.values():
                one.collect()
            self._at(self._now_ms + every_ms, collect)

        self._at(every_ms, collect)

    # --- steps ----------------------------------------------------------------------------------------------

    def _begin(self, index: int) -> None:
        step = self._scenario.steps[index]
        match step.kind:
            case "ask":
                self._ask(index, step)
            case "connect":
                self._connect(index, step)
            case "send":
                self._send(index, step)
            case "fault":
                self._conclude(index, "", Why("nothing of it shows without a lab"))
            case "wire":
                self._conclude(index, order.NOT_PLAYED, self._why_wire(step))
            case _:
                self._change(index, step)

    def _change(self, index: int, step: Step) -> None:
        if step.apply is not None:
            self._texts[step.apply] = step.text or ""
        elif step.remove is not None:
            self._texts.pop(step.remove, None)
        self._use_policies()
        self._conclude(index, "", why.NOTHING)

    def _use_policies(self) -> None:
        cluster = topology.cluster(self._scenario, self._texts)
        for one in self._nodes.values():
            one.use(cluster)

    def _agents(self, pod: Local) -> Agents:
        """Of its node."""
        return self._nodes[pod.resident.node_name]

    def _source(self, step: Step) -> Local:
        pod = self._scenario.pod_of(step)
        node = self._nodes[self._scenario.node_of(pod)]
        return node.local(self._addresses[f"{pod.namespace}/{pod.name}"])

    # --- queries --------------------------------------------------------------------------------------------

    def _ask(self, index: int, step: Step) -> None:
        source, server = self._source(step), self._scenario.server_of(step).address
        packet = messages.query(step, _IDS + index)
        port = topology.DNS_PORT
        redirected = verdict.redirects(source.policy, source.node, server, PROTOCOLS[step.transport], port)
        self._at(self._now_ms + CLIENT_PATIENCE_MS, lambda: self._give_up(index, step))
        if not redirected:
            self._pass_by(index, step, source, server, packet)
            return
        node = self._agents(source)
        case = node.case(source.address, server, step.transport, packet)
        reason = self._why_asked(source, server, case)
        if case.refusal is not None:
            reply = case.refusal.packet if isinstance(case.refusal, gate.Reply) else None
            self._conclude(index, messages.outcome(packet, reply), reason)
            return
        for said in step.answers:
            self._at(
                self._now_ms + self._timing.delay_ms(said.after_ms),
                lambda said=said: self._answered(index, step, node, case, packet, said, reason),  # type: ignore[misc]
            )

    def _pass_by(self, index: int, step: Step, source: Local, server: IPv4Address, packet: bytes) -> None:
        """A server whose names are not looked at."""
        ways = self._ways(source, server, step.transport, topology.DNS_PORT)
        reason = why.of_connection(ways, self._agents(source).learnings(), self._clock.now)
        if not _passes(ways):
            self._conclude(index, messages.SILENT, reason)
            return
        for said in filter(_is_true, step.answers):
            self._at(
                self._now_ms + self._timing.delay_ms(said.after_ms),
                lambda said=said: self._conclude(  # type: ignore[misc]
                    index, messages.outcome(packet, messages.answer(said, packet)), reason
                ),
            )

    def _answered(
        self, index: int, step: Step, node: Agents, case: Case, packet: bytes, said: Answer, reason: Why
    ) -> None:
        """By somebody: only what comes from the server under the right ID gets as far as the judgement."""
        if index in self.found or not _is_true(said):
            return
        judged = node.answer(case, step.transport, messages.answer(said, packet))
        if judged.ignored is not None:
            return
        if judged.unusable is not None:
            self._conclude(index, "SERVFAIL", Why(f"of no use: {judged.unusable}", (str(judged.unusable),)))
            return
        if not node.commit(case, judged):
            self._conclude(index, "SERVFAIL", Why("the shim did not take its addresses"))
            return
        self._conclude(index, messages.outcome(packet, packet[:2] + judged.rest), reason)

    def _give_up(self, index: int, step: Step) -> None:
        self._conclude(index, messages.SILENT, Why("the server said nothing that counts"))

    def _why_asked(self, source: Local, server: IPv4Address, case: Case) -> Why:
        if case.question.query is None:
            assert case.refusal is not None
            return Why(f"not forwarded: {case.refusal.reason}", (str(case.refusal.reason),))
        known = self._agents(source).learnings()
        return why.of_query(self._agents(source).overview, source, server, case.question.query.name, known)

    # --- connections ----------------------------------------------------------------------------------------

    def _ways(self, source: Local, address: IPv4Address, over: str, port: int) -> Sequence[Part]:
        wanted = Ports(Protocol[over.upper()], port, port)
        return parts(self._agents(source).overview, source, address, wanted, self._agents(source).learnings())

    def _connect(self, index: int, step: Step) -> None:
        assert step.connect is not None
        source, (address, port) = self._source(step), endpoint(step.connect)
        ways = self._ways(source, address, step.transport, port)
        reason = why.of_connection(ways, self._agents(source).learnings(), self._clock.now)
        if not _passes(ways):
            rejects = self._agents(source).shim.deny_response == "icmp"
            self._conclude(index, "unreachable" if rejects else "silent", reason)
            return
        if step.outcome in ("reset", "unreachable"):
            self._conclude(index, step.outcome, reason._replace(text=f"{reason.text}; nobody is there"))
            return
        self._open(index, source, address, port, step)
        self._conclude(index, "established", reason)

    def _why_wire(self, step: Step) -> Why:
        """What policy says of the connection that a recorded packet would be of."""
        found = packets.unit(packets.parse(step.wire[0]))
        over = _OVER.get(found.packet.protocol) if found is not None else None
        if found is None or over is None or not found.destination_port:
            return why.NOTHING
        source = self._source(step)
        ways = self._ways(source, IPv4Address(found.packet.destination), over, found.destination_port)
        return why.of_connection(ways, self._agents(source).learnings(), self._clock.now)

    def _open(self, index: int, source: Local, address: IPv4Address, port: int, step: Step) -> None:
        """For as long as it is open its address is in use."""
        granting = self._granting(source, address, port, step.transport)
        self._opened[index] = (source, address, port, granting)
        live = self._agents(source).live
        live.add(address.packed)

        def close() -> None:
            self._opened.pop(index, None)
            if not any(
                one[1] == address and one[0].resident.node_name == source.resident.node_name
                for one in self._opened.values()
            ):
                live.discard(address.packed)

        if index in self._sent_over:
            return  # it stays as long as the scenario
        self._at(self._now_ms + self._timing.delay_ms(step.open_ms or 0.0), close)

    def _granting(self, source: Local, address: IPv4Address, port: int, over: str) -> tuple[Match, ...]:
        packet = Ports(Protocol[over.upper()], port, port)
        allows = source.policy.egress.allows
        known = self._agents(source).learnings().open
        return tuple(verdict.matching(allows, source.node, address, packet, known))

    def _send(self, index: int, step: Step) -> None:
        assert step.send is not None
        opened = self._opened.get(step.send - 1)
        if opened is None:
            self._conclude(index, "cut", Why("there is no connection"))
            return
        before, address, port, granting = opened
        source = self._agents(before).local(before.address)
        over = self._scenario.steps[step.send - 1].transport
        ways = self._ways(source, address, over, port)
        reason = why.of_connection(ways, self._agents(source).learnings(), self._clock.now)
        if _passes(ways):
            self._conclude(index, "passes", reason)
        elif kept := _kept(source, granting):
            self._conclude(index, "passes", why.of_grant(kept.origin))
        else:
            self._conclude(index, "cut", reason)


def run(scenario: Scenario, timing: Timing = Timing()) -> list[Found]:  # noqa: B008 - frozen
    """A row per step. Raises InputError where a policy has errors."""
    clock = Clock()
    with agents.made(scenario, clock) as made:
        return Run(scenario, made, clock, timing).run()


def _is_true(said: Answer) -> bool:
    """From the server that was asked, under the ID of the query: for anything else a socket has no ear."""
    return not said.wrong_id and said.sender is None


def _passes(ways: Sequence[Part]) -> bool:
    return bool(ways) and all(part.outcome is Outcome.ALLOWED for part in ways)


def _kept(source: Local, granting: Sequence[Match]) -> Match | None:
    """The rule that let a connection out and is still there: it lives on, whatever the name's TTL."""
    now = {(match.peer, match.traffic): match for match in source.policy.egress.allows}
    found = (now.get((match.peer, match.traffic)) for match in granting if isinstance(match.peer, FQDN))
    return next((match for match in found if match is not None), None)
