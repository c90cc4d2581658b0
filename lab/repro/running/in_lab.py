"""A scenario in a real lab: live sockets in pods, the agents as they are, the kernel's own verdicts.

One lab serves many runs: between two of them both agents are ended, their table and their state are removed,
and they start as on a new node. Where an agent is to be another program than the product's, `agents` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import Final

from lab.backends.order import Agents
from lab.errors import EnvironmentFault, InputError
from lab.repro.running import clients, journals, order, pure
from lab.repro.running.cables import Cables
from lab.repro.running.clients import Connecting, Resolving
from lab.repro.running.far_ends import FarEnds
from lab.repro.running.order import Found, Timing
from lab.repro.running.upstream import Upstream
from lab.repro.scenario import messages, topology
from lab.repro.scenario.model import Scenario, Step, endpoint
from lab.runtime import enter
from lab.runtime.faults import inflict
from lab.runtime.faults import model as faults
from lab.runtime.handles import NodeHandle, PodHandle
from lab.runtime.lab import Lab
from lab.runtime.progress import Progress, silent

_TABLE: Final = ("nft", "delete", "table", "inet", "acns")
_MADE_FROM: Final = ("nodes", "pods", "servers", "policies", "shim", "resolver")
_FIRST_ID: Final = 0x1000
_READY_S: Final = 60.0
_ENDS_S: Final = 10.0
_JOINED_S: Final = 20.0
_WRITTEN_S: Final = 1.0
_NETLINK_NETFILTER: Final = 12
_CT_DELETE: Final = 0x0102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, of all without a tuple
_REQUEST_ACK: Final = 5
_NLMSG_OCTETS: Final = 16
_ALL_IPV4: Final = bytes((socket.AF_INET, 0, 0, 0))
_REPLY_OCTETS: Final = 8_192
_WITHOUT_WORDS: Final = ("", messages.SILENT, "passes", "cut")


class Stage:
    """A lab for a scenario; `fresh` while nothing has happened in it."""

    def __init__(self, lab: Lab, scenario: Scenario) -> None:
        self.lab = lab
        self.scenario = scenario
        self.fresh = True

    @classmethod
    @contextlib.contextmanager
    def up(
        cls,
        scenario: Scenario,
        agents: Agents | None = None,
        name: str | None = None,
        progress: Progress = silent,
    ) -> Iterator[Stage]:
        """For the block's time; nothing is left of it. Raises InputError where a policy has errors."""
        topology.cluster(scenario, topology.policy_texts(scenario))
        made = topology.topology(scenario)
        lab = Lab.up(made, name or f"repro-{os.getpid()}", progress, agents=agents, is_tied=True)
        try:
            # Who listens on the Internet is decided by the scenario alone.
            lab.internet.web.hold()
            stage = cls(lab, scenario)
            for file, text in topology.policy_texts(scenario).items():
                lab.write_manifest(file, text)
            lab.wait_settled()
            yield stage
        finally:
            lab.down()
            _wait_ended()

    def serves(self, other: Scenario) -> bool:
        """Whether another scenario, one with less in it say, can be run here as well."""
        ours, theirs = self.scenario, other
        same = all(getattr(ours, part) == getattr(theirs, part) for part in _MADE_FROM)
        return same and topology.outside(theirs) <= topology.outside(ours)

    def run(
        self,
        timing: Timing = Timing(),  # noqa: B008 - frozen
        other: Scenario | None = None,
        *,
        by_wire: bool = False,
    ) -> list[Found]:
        """A row per step. `other`: one that this `serves`. `by_wire`: recorded packets are sent."""
        if not self.fresh:
            self._as_new()
        self.fresh = False
        return asyncio.run(_Run(self.lab, other or self.scenario, timing, by_wire=by_wire).run())

    def _as_new(self) -> None:
        nodes, wanted = self.lab.nodes, topology.policy_texts(self.scenario)
        gone = {step.apply for step in self.scenario.steps if step.apply is not None} - wanted.keys()
        for node in nodes:
            self._forget(node, gone)
        for file, text in wanted.items():
            self.lab.write_manifest(file, text)
        agents = [agent for node in nodes for agent in (node.shim, node.resolver)]
        for agent in agents:
            agent.start()
        for agent in agents:
            agent.wait_ready(_READY_S)
        self.lab.wait_settled()
        _wait_joined(nodes)

    def _forget(self, node: NodeHandle, files: Set[str]) -> None:
        """What its agents and its kernel know, and these manifests; both agents are down afterwards."""
        for agent in (node.resolver, node.shim):
            agent.hold()
        _forget_connections(node)
        done = node.run(_TABLE)
        if done.returncode:
            raise EnvironmentFault(f"the agents' table could not be removed: {done.stderr}")
        home = self.lab.folder.node(node.name)
        for state in ("shim-state", "resolver-state"):
            shutil.rmtree(home / state, ignore_errors=True)
        for file in files:
            (node.manifests / file).unlink(missing_ok=True)


class Stages:
    """A stage for whatever scenario comes next; the one that is up is used as long as it serves. Close it."""

    def __init__(self, agents: Agents | None, progress: Progress = silent, *, by_wire: bool = False) -> None:
        self._agents = agents
        self._by_wire = by_wire
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self._stage: Stage | None = None

    def run(self, scenario: Scenario, timing: Timing) -> list[Found]:
        """A row per step."""
        if self._stage is None or not self._stage.serves(scenario):
            self.close()
            self._stage = self._stack.enter_context(Stage.up(scenario, self._agents, progress=self._progress))
        return self._stage.run(timing, scenario, by_wire=self._by_wire)

    def close(self) -> None:
        self._stack.close()
        self._stage = None


class _Run:
    """One run."""

    def __init__(self, lab: Lab, scenario: Scenario, timing: Timing, *, by_wire: bool) -> None:
        self._lab = lab
        self._by_wire = by_wire
        self._scenario = scenario
        self._timing = timing
        self._waits_for = order.waits_for(scenario, timing.pace)
        self._done = [asyncio.Event() for _ in scenario.steps]
        self._found: dict[int, Found] = {}
        self._began_s: dict[int, float] = {}
        self._sockets: dict[tuple[str, str, str, str], Resolving] = {}
        self._connections: dict[int, Connecting] = {}
        self._loose: list[Resolving] = []
        self._upstream: Upstream
        self._cables: Cables
        self._start_s = 0.0

    async def run(self) -> list[Found]:
        seen = journals.begin(self._lab)
        with (
            Upstream.listening(self._lab, self._scenario, self._timing) as self._upstream,
            FarEnds.listening(self._lab, self._scenario),
            Cables.open(self._lab, self._scenario, self._by_wire) as self._cables,
        ):
            try:
                self._start_s = asyncio.get_running_loop().time()
                await asyncio.gather(*map(self._step, range(len(self._scenario.steps))))
            finally:
                for asking in (*self._sockets.values(), *self._loose):
                    asking.close()
                for connection in self._connections.values():
                    connection.close()
        rows = [self._found[index] for index in range(len(self._scenario.steps))]
        told = _explained(self._scenario, rows, self._began_s, seen)
        return _with_reasons(self._scenario, self._timing, told)

    async def _step(self, index: int) -> None:
        step = self._scenario.steps[index]
        for other in self._waits_for[index]:
            await self._done[other].wait()
        begin_s = self._start_s + self._timing.ms(step.at_ms) / 1000
        # What takes time is ready before: who connects the instant an answer is there waits for nothing.
        if (early_s := begin_s - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(early_s)
        self._began_s[index] = time.time()
        outcome = await getattr(self, f"_{step.kind}")(index, step)
        recorded = "" if outcome == order.NOT_PLAYED else step.outcome
        self._found[index] = Found(index + 1, recorded, outcome)
        self._done[index].set()

    def _pod(self, step: Step) -> PodHandle:
        pod = self._scenario.pod_of(step)
        return self._lab.pod(f"{pod.namespace}/{pod.name}")

    async def _ask(self, index: int, step: Step) -> str:
        query = messages.query(step, _FIRST_ID + index & 0xFFFF)
        self._upstream.expect(step, query)
        slowest_s = max((self._timing.delay_ms(one.after_ms) for one in step.answers), default=0.0) / 1000
        if step.wire and self._by_wire:
            _, replies = await self._cables.send(self._pod(step), step, slowest_s)
            return messages.outcome(query, next(iter(replies), None))
        reply = await self._asking(step).ask(query, clients.patience_s(step.outcome, slowest_s))
        return messages.outcome(query, reply)

    async def _wire(self, index: int, step: Step) -> str:
        if not self._by_wire:
            return order.NOT_PLAYED
        outcome, _ = await self._cables.send(self._pod(step), step)
        return outcome

    def _asking(self, step: Step) -> Resolving:
        server = str(self._scenario.server_of(step).address)
        pod = self._pod(step)
        if step.socket is None:
            made = clients.resolving(pod, step.transport, server)
            self._loose.append(made)
            return made
        key = (pod.name, step.transport, server, step.socket)
        if key not in self._sockets:
            self._sockets[key] = clients.resolving(pod, step.transport, server)
        return self._sockets[key]

    async def _connect(self, index: int, step: Step) -> str:
        assert step.connect is not None
        address, port = endpoint(step.connect)
        made = clients.connecting(self._pod(step), step.transport, (str(address), port))
        self._connections[index] = made
        outcome = await made.connect(clients.patience_s(step.outcome))
        if not any(other.send == index + 1 for other in self._scenario.steps):
            open_s = self._timing.delay_ms(step.open_ms or 0.0) / 1000
            asyncio.get_running_loop().call_later(open_s, made.close)
        return outcome

    async def _send(self, index: int, step: Step) -> str:
        assert step.send is not None
        connection = self._connections.get(step.send - 1)
        return await connection.passes(clients.patience_s(step.outcome)) if connection else "cut"

    async def _apply(self, index: int, step: Step) -> str:
        assert step.apply is not None
        await asyncio.to_thread(self._lab.write_manifest, step.apply, step.text or "")
        await asyncio.to_thread(self._lab.wait_settled)
        return ""

    async def _remove(self, index: int, step: Step) -> str:
        assert step.remove is not None
        await asyncio.to_thread(self._lab.remove_manifest, step.remove)
        await asyncio.to_thread(self._lab.wait_settled)
        return ""

    async def _fault(self, index: int, step: Step) -> str:
        await asyncio.to_thread(_inflict, self._lab, step.fault or "")
        return ""


def _forget_connections(node: NodeHandle) -> None:
    """Recorded packets have the same ports each time: what conntrack knows would judge them."""
    with node.open_socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asking:
        header = struct.pack("=IHHII", len(_ALL_IPV4) + _NLMSG_OCTETS, _CT_DELETE, _REQUEST_ACK, 1, 0)
        asking.settimeout(_ENDS_S)
        asking.send(header + _ALL_IPV4)
        (error,) = struct.unpack_from("=i", asking.recv(_REPLY_OCTETS), _NLMSG_OCTETS)
    if error:
        raise EnvironmentFault(f"the node's connections could not be forgotten: {os.strerror(-error)}")


def _inflict(lab: Lab, text: str) -> None:
    """Returns when it has had its effect: whoever comes back is back."""
    fault = faults.read(text)
    assert isinstance(fault, faults.AgentFault)
    fault = replace(fault, node=fault.node or lab.nodes[0].name)
    if fault.action == "cont":
        inflict.mend(lab, fault)
    else:
        inflict.inflict(lab, fault)
    if not fault.lasts:
        lab.process(f"{fault.node}/{fault.agent}").wait_ready()
        _wait_joined([lab.node(fault.node)])


def _wait_ended() -> None:
    """A lab's holder is our descendant, and what stands between ends a moment after it."""
    deadline = time.monotonic() + _ENDS_S
    while not enter.all_ended() and time.monotonic() < deadline:
        time.sleep(0.01)


def _wait_joined(nodes: Sequence[NodeHandle]) -> None:
    """Until each resolver has its shim's policy, where both are up."""
    deadline = time.monotonic() + _JOINED_S
    while not all(node.has_joined() for node in nodes):
        if time.monotonic() >= deadline:
            text = f"a resolver has not met its shim within {_JOINED_S:g} s"
            raise EnvironmentFault(text, hint="lab.logs")
        time.sleep(0.02)


def _explained(
    scenario: Scenario, rows: Sequence[Found], began_s: dict[int, float], seen: journals.Begun
) -> list[Found]:
    """The journals are written a moment after what they tell of."""
    deadline = time.monotonic() + _WRITTEN_S
    while True:
        said = journals.read(seen)
        explained = [
            replace(row, why=said.about(scenario, step, began_s[index]))
            for index, (step, row) in enumerate(zip(scenario.steps, rows, strict=True))
        ]
        if not any(map(_is_untold, explained)) or time.monotonic() > deadline:
            return explained
        time.sleep(0.02)


def _is_untold(row: Found) -> bool:
    """Whether the journals have nothing yet of what must be in them."""
    if row.outcome in ("established", "late"):
        return row.why.startswith(journals.NOT_LEARNED)
    return not row.why and row.outcome not in _WITHOUT_WORDS


def _with_reasons(scenario: Scenario, timing: Timing, rows: list[Found]) -> list[Found]:
    """Beside what the agents wrote, what the model says of each step: policy, rule, mapping."""
    try:
        model = pure.run(scenario, timing)
    except InputError:  # a policy that a step brings has mistakes: the shim has refused it
        return rows
    return [replace(row, why=_both(row, said)) for row, said in zip(rows, model, strict=True)]


def _both(row: Found, said: Found) -> str:
    differs = "" if said.outcome in (row.outcome, order.NOT_PLAYED) else f"the model says '{said.outcome}': "
    return "; ".join(filter(None, (f"{differs}{said.why}" if said.why else "", row.why)))
