"""The connection to the shim, and the policy that comes through it.

The policy stream is kept open: lost, it is opened again after 50 ms, then twice that, up to 2 s, and after
50 ms again where it had lasted or another shim is in its place. Each
snapshot replaces the table whole, so a rule that it lacks is gone; one that cannot be understood changes
nothing and is acknowledged with an error. While the shim is away the last table goes on serving.

"Connected" means that this connection has brought a snapshot, be it one that was refused while there is
another in force. Only then are mappings sent through it: a dead shim is known at once, without a time-out (a
unix socket tells). One that hangs tells nothing. Where another takes its place meanwhile, the link at the
address says so: it leads elsewhere, and there this process connects at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from acns import pieces
from acns.api import codec, hung
from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.api.address import for_grpc
from acns.errors import cut
from acns.fqdn.gate import PolicyTable
from acns.resolver import told
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.policy_file import PolicyFile
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

if TYPE_CHECKING:
    from acns.api.fqdndata_pb2_grpc import FQDNDataAsyncStub

log = logs.named(__name__)

FIRST_RETRY_S: Final = 0.05
LAST_RETRY_S: Final = 2.0
LASTED_S: Final = 2.0
"""From a connection's first snapshot on: one that ends sooner is no reason to hurry back."""
SAME_AGAIN_S: Final = 60.0
"""How often it is said that snapshots are refused for the same reason as before."""
FRESH_POLICY_S: Final = 1.0
"""How long a resolver that starts waits for the shim's snapshot before it serves by the one on disk; not at
all where nobody takes the connection."""
LOOK_S: Final = 0.25
"""How often it is looked where the link at the address leads: microseconds each."""
KEEP_AGAIN_S: Final = 1.0
KEEP_AT_MOST_S: Final = 0.25
MAX_SNAPSHOT_BYTES: Final = 256 << 20
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_SNAPSHOT_BYTES),
    ("grpc.enable_http_proxy", 0),
    # Every attempt is a new channel with its own sockets: the back-off is ours alone.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", int(LAST_RETRY_S * 1000)),
    # As Cilium's proxy: a hung agent's connection ends within seconds.
    ("grpc.keepalive_time_ms", 10_000),
    *hung.within_ms(1_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True)
class _End:
    """Of a connection."""

    reason: str
    served: bool
    """It brought a snapshot."""
    in_order: bool
    """It had lasted, or another shim has come."""


class AgentLink:
    """Holds the policy stream open. `table` is the policy in force, None before the first snapshot."""

    def __init__(
        self, address: str, metrics: ResolverMetrics, journal: Journal, kept: PolicyFile | None = None
    ) -> None:
        """`kept`: where the last snapshot outlives this process; None: nowhere."""
        self.address = address
        self.table: PolicyTable | None = None
        self.has_table = asyncio.Event()
        self.connected = asyncio.Event()
        self.stub: FQDNDataAsyncStub | None = None
        """For calls while connected; None otherwise."""
        self.on_connected: Callable[[], object] = lambda: None
        """Called before the first call of a connection can be made."""
        self.on_policy: Callable[[], object] = lambda: None
        """Called when another table is in force."""
        self._metrics = metrics
        self._journal = journal
        self._refused = ""
        self._said_refused = ""
        """The reason that was logged last, since the last good one."""
        self._log_refused, self._log_again = logs.Seldom(), logs.Seldom(SAME_AGAIN_S)
        self._said_contradiction = ""
        self._log_contradiction = logs.Seldom()
        self._connected_at = 0.0
        """On the loop's clock."""
        self._reader = codec.PolicyReader()
        self._kept = kept
        self._in_force: pb.PolicyState | None = None
        """The snapshot that `table` was made of."""
        self._was_told = False
        """Whether the shim itself has sent this process a policy."""
        self._keeping: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        """A connection has failed."""

    @property
    def refused(self) -> str:
        """Why the newest snapshot was not taken; empty when it was."""
        return self._refused

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """For ever: connect, follow the stream, wait, again."""
        retry_s = FIRST_RETRY_S
        while True:
            end = await self._connection()
            self._tried.set()
            retry_s = FIRST_RETRY_S if end.in_order else retry_s
            if end.served or retry_s == FIRST_RETRY_S:
                log.warning("policy stream lost", peer=self.address, reason=end.reason)
                self._journal.record(Event.AGENT_LOST, peer=self.address, reason=end.reason)
            await sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    async def _connection(self) -> _End:
        """One connection from beginning to end."""
        at, moved = leads_to(self.address), False
        channel = grpc.aio.insecure_channel(for_grpc(self.address), options=CHANNEL_OPTIONS)
        try:
            stub = rpc.FQDNDataStub(channel)
            moved = await first_done(self._follow(stub), self._until_another_is_at_its_place(at)) == 1
            reason = "another has taken its place" if moved else "closed by peer"
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {cut(str(error.details()))}"
        finally:
            served = self.connected.is_set()
            self.connected.clear()
            self.stub = None
            await channel.close(None)
        if served:
            self._metrics.stream_errors.add("policy_stream_recv")
        else:
            self._metrics.agent_errors.add("open_policy_stream")
        lasted = served and asyncio.get_running_loop().time() - self._connected_at >= LASTED_S
        return _End(reason, served, lasted or moved)

    async def restore(self) -> None:
        """Serve by the policy on disk when the shim does not come up with one; then returns."""
        if self._kept is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FRESH_POLICY_S):
                await self._tried.wait()
        state = await asyncio.to_thread(self._kept.load)
        table = await self._understood(state) if state is not None and self.table is None else None
        if state is not None and table is not None and self.table is None:
            self._use(table, state, "restored")
            log.warning("serving by the policy on disk: the agent does not answer", peer=self.address)

    async def kept(self) -> bytes | None:
        """The policy in force, for a successor to go on with; it is on disk too by then. A disk that stands
        still does not hold this up: nobody answers pods meanwhile."""
        if self._keeping is not None:
            await asyncio.wait({self._keeping}, timeout=KEEP_AT_MOST_S)
        return None if self._in_force is None else self._in_force.SerializeToString()

    async def catch_up(self, handed_over: bytes | None) -> None:
        """Serve by what a predecessor serves by, if that is not older than what was on disk when this process
        started; only the shim itself knows better, and what it says meanwhile comes after this. `handed_over`
        None: it is what is on disk now."""
        if self._was_told:
            return
        state = await self._predecessors(handed_over)
        table = await self._understood(state) if state is not None and not self._was_told else None
        if state is not None and table is not None and not self._was_told:
            self._use(table, state, "restored")
            log.info("serving by the policy that the predecessor had")
            self.keep()  # its disk may have taken nothing

    async def _predecessors(self, handed_over: bytes | None) -> pb.PolicyState | None:
        """None: there is none, or an older one than ours."""
        if handed_over is not None:
            state = pb.PolicyState.FromString(handed_over)
            if not told.is_later(self._in_force, state):
                return state
            log.info("the policy on disk is newer than the one that the predecessor had")
            return None
        return await asyncio.to_thread(self._kept.load) if self._kept else None

    async def _until_another_is_at_its_place(self, at: str) -> None:
        """A link that is gone leads to nobody else: the connection stays as long as it lasts. `at`: where the
        link led before the connection was made; empty: it comes with whom this one is made to."""
        while not (at and leads_to(self.address) not in ("", at)):
            at = at or leads_to(self.address)
            await asyncio.sleep(LOOK_S)

    async def _follow(self, stub: FQDNDataAsyncStub) -> None:
        call = stub.StreamPolicyState()  # type: ignore[call-arg]  # grpc-stubs: the iterator is optional
        async for state in call:
            answer = await self._answer(state)
            try:
                await call.write(answer)
            except asyncio.InvalidStateError:
                continue  # the shim has gone meanwhile: how, the next read says
            if self.table is not None and not self.connected.is_set():
                self._established(stub)

    def _established(self, stub: FQDNDataAsyncStub) -> None:
        self.on_connected()
        self.stub = stub
        self._connected_at = asyncio.get_running_loop().time()
        self.connected.set()
        log.info("policy stream open", peer=self.address)
        self._journal.record(Event.AGENT_CONNECTED, peer=self.address)

    async def _answer(self, state: pb.PolicyState | None) -> pb.PolicyStateResponse:
        """`state` None: gRPC could not decode it (its stubs do not say so), and nobody knows its id."""
        if state is None:
            return pb.PolicyStateResponse(response=self._not_decoded())
        return pb.PolicyStateResponse(response=await self._take(state), request_id=state.request_id)

    def _not_decoded(self) -> pb.ResponseCode.ValueType:
        self._refuse("the snapshot cannot be decoded")
        self._metrics.snapshots.add("refused")
        self._journal.record(Event.POLICY_SNAPSHOT, outcome="refused")
        return pb.RESPONSE_CODE_FORMAT_ERROR

    async def _take(self, state: pb.PolicyState) -> pb.ResponseCode.ValueType:
        """Make the snapshot the policy in force, and keep it, or say why not. Nobody waits for the disk."""
        told.now(state)
        table = await self._understood(state)
        if table is None:
            return pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT
        self._use(table, state, "applied")
        self._was_told = True
        self.keep()
        return pb.RESPONSE_CODE_NO_ERROR

    def keep(self) -> None:
        """See to it that the policy in force is on disk, or a later one."""
        if self._kept is not None and (self._keeping is None or self._keeping.done()):
            self._keeping = asyncio.create_task(self._keep(self._kept))

    async def _keep(self, kept: PolicyFile) -> None:
        """Until the newest is kept: a disk that took nothing may have room again later."""
        while (state := self._in_force) is not None:
            is_kept = await asyncio.to_thread(kept.save, state)
            if self._in_force is state:
                if is_kept:
                    return
                await asyncio.sleep(KEEP_AGAIN_S)

    async def _understood(self, state: pb.PolicyState) -> PolicyTable | None:
        """The table of a snapshot; None where it cannot be understood. Pods are answered meanwhile, by the
        table before."""
        try:
            return await pieces.done(self._reader.read(state))
        except codec.BadMessage as error:
            self._refuse(str(error), cut(state.request_id))
            self._snapshot(state, "refused")
            return None

    def _refuse(self, reason: str, request_id: str = "") -> None:
        """A shim may send it as often as it likes: it is said where it is news, and now and then."""
        self._refused = reason
        if (reason != self._said_refused or self._log_again()) and self._log_refused():
            self._said_refused = reason
            log.error("policy snapshot refused", error=reason, peer=self.address, request_id=request_id)

    def _remark(self, contradiction: str) -> None:
        """A snapshot that says two things of one address is taken; each such address is logged once."""
        if contradiction in ("", self._said_contradiction) or not self._log_contradiction():
            return
        self._said_contradiction = contradiction
        log.warning(
            "policy snapshot contradicts itself, what it says last counts",
            reason=contradiction,
            peer=self.address,
        )

    def _use(self, table: PolicyTable, state: pb.PolicyState, outcome: str) -> None:
        self.table, self._in_force = table, state
        self._refused = self._said_refused = ""
        self._remark(table.contradiction)
        self.has_table.set()
        self._snapshot(state, outcome)
        self.on_policy()

    def _snapshot(self, state: pb.PolicyState, outcome: str) -> None:
        self._metrics.snapshots.add(outcome)
        self._journal.record(
            Event.POLICY_SNAPSHOT,
            request_id=cut(state.request_id),
            rules=len(state.egress_l7_dns_policy),
            endpoints=len({policy.source_endpoint_id for policy in state.egress_l7_dns_policy}),
            outcome=outcome,
        )


def leads_to(address: str) -> str:
    """Where the link at `unix:PATH` leads: another shim's is another. Empty where it is none."""
    if not address.startswith("unix:"):
        return ""
    try:
        return os.readlink(address.removeprefix("unix:"))
    except OSError:
        return ""


async def first_done(*awaited: Coroutine[Any, Any, None]) -> int:
    """Which of these ends first; the others are cancelled. Raises what that one raises."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(number for number, task in enumerate(tasks) if task in done)
        await tasks[first]
        return first
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
