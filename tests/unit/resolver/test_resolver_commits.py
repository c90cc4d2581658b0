"""Telling the agent, against an agent that is an async function: bursts, hangs, losses."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api import kept
from acns.api.codec import Mapping
from acns.api.ledger_file import Terms
from acns.fqdn.cache import PROMISED_AT_MOST_S
from acns.resolver.agent import AgentLink
from acns.resolver.commits import CALLS_AT_ONCE, Commits, Outcome
from acns.resolver.known import UNKNOWN
from acns.resolver.mapping_log import MappingLog
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.turns import Turns
from acns.resolver.unconfirmed import Unconfirmed
from acns.shim.ledger import Ledger
from acns.telemetry.journal import Journal

MAPPING = Mapping((b"www",), (b"\xc0\0\2\7",), 60, 1, b"\x0a\0\0\1")
POD = MAPPING.source
Agent = Callable[[pb.FQDNMapping], Awaitable[pb.UpdateMappingResponse]]


class Call:
    """To be awaited for the response; then it has trailing metadata."""

    def __init__(self, response: Coroutine[Any, Any, Any], promises_s: float) -> None:
        self._response = response
        self._metadata = kept.to_metadata(promises_s)

    def __await__(self) -> Any:
        return self._response.__await__()

    async def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata(*self._metadata)


class Stub:
    """The client's stub, with deadlines as gRPC keeps them."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.promises_s = 0.0
        self.running = self.most = 0

    def UpdateMappingRequest(self, request: pb.FQDNMapping, timeout: float, metadata: Any) -> Any:
        return Call(self._answer(request, timeout), self.promises_s)

    async def _answer(self, request: pb.FQDNMapping, timeout: float) -> pb.UpdateMappingResponse:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            async with asyncio.timeout(timeout):
                return await self._agent(request)
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED) from None
        finally:
            self.running -= 1


def _error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), None, None)


def commits(agent: Agent, timeout_s: float = 0.1, shim_ledger: Path | None = None) -> Commits:
    metrics, journal = ResolverMetrics(), Journal("", "resolver")
    link = AgentLink("unix:/nowhere", metrics, journal)
    link.stub = Stub(agent)  # type: ignore[assignment]
    link.connected.set()
    return Commits(link, timeout_s, Unconfirmed(10_000), None, metrics, journal, shim_ledger)


async def confirm(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
    await asyncio.sleep(0.005)
    return pb.UpdateMappingResponse(response=pb.RESPONSE_CODE_NO_ERROR)


async def hang(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
    await asyncio.Event().wait()
    raise AssertionError


class _Unhurried(selectors.SelectSelector):
    """Where a loop would wait, its clock moves on instead: bounds are met exactly on a busy machine too."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


InVirtualTime = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> InVirtualTime:
    """Runs a test on a loop whose clock, and `time.monotonic` with it, moves only by what it waits for."""

    def run(behaviour: Coroutine[Any, Any, None]) -> None:
        clock = _Unhurried()
        loop = asyncio.SelectorEventLoop(clock)
        monkeypatch.setattr(loop, "time", lambda: clock.now)
        monkeypatch.setattr(time, "monotonic", lambda: clock.now)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(behaviour)
        monkeypatch.undo()

    return run


def test_a_burst_that_takes_longer_than_the_bound_is_committed_to_the_last(
    in_virtual_time: InVirtualTime,
) -> None:
    in_virtual_time(_burst_is_committed())


async def _burst_is_committed() -> None:
    made = commits(confirm, timeout_s=0.1)
    started = time.monotonic()
    outcomes = Counter(await asyncio.gather(*(made.commit(MAPPING, time.monotonic()) for _ in range(1500))))
    assert outcomes == {Outcome.COMMITTED: 1500}
    assert time.monotonic() - started > 0.2  # longer than the bound, or this shows nothing
    assert made._link.stub.most == CALLS_AT_ONCE  # type: ignore[union-attr]


def test_datagrams_go_between_the_calls_of_a_burst() -> None:
    asyncio.run(_datagrams_go_between())


async def _datagrams_go_between() -> None:
    made, order = commits(confirm), list[str]()

    class AsGRPC(Stub):
        """A call that is made begins in the loop's next round."""

        def UpdateMappingRequest(self, request: pb.FQDNMapping, timeout: float, metadata: Any) -> Any:
            asyncio.get_running_loop().call_soon(order.append, "a call")
            return super().UpdateMappingRequest(request, timeout, metadata)

    made._link.stub = AsGRPC(confirm)  # type: ignore[assignment]
    made.let_through = lambda: order.append("datagrams")
    await asyncio.gather(*(made.commit(MAPPING, time.monotonic()) for _ in range(4)))
    assert order == ["a call", "datagrams"] * 4


def test_a_hung_agent_holds_up_a_burst_no_longer_than_the_bound(in_virtual_time: InVirtualTime) -> None:
    in_virtual_time(_hung_agent_holds_up_to_the_bound())


async def _hung_agent_holds_up_to_the_bound() -> None:
    made = commits(hang, timeout_s=0.1)
    started = time.monotonic()
    mappings = [replace(MAPPING, name=(b"n%d" % number,)) for number in range(500)]
    outcomes = Counter(await asyncio.gather(*(made.commit(one, started) for one in mappings)))
    assert outcomes == {Outcome.SLOW: 500}
    assert time.monotonic() - started == pytest.approx(0.1)
    assert len(made.unconfirmed) == 500


async def test_a_lost_agent_lets_those_in_line_go_at_once() -> None:
    gone = asyncio.Event()

    async def dies(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
        await gone.wait()
        raise _error(grpc.StatusCode.UNAVAILABLE)

    made = commits(dies, timeout_s=10)
    waiting = [asyncio.create_task(made.commit(MAPPING, time.monotonic())) for _ in range(100)]
    await asyncio.sleep(0)
    gone.set()
    async with asyncio.timeout(2):
        assert Counter(await asyncio.gather(*waiting)) == {Outcome.LOST: 100}


async def test_nothing_is_waited_for_without_a_connection() -> None:
    made = commits(hang, timeout_s=10)
    made._link.stub = None
    async with asyncio.timeout(1):
        assert await made.commit(MAPPING, time.monotonic()) is Outcome.LOST


class Instead:
    """Commits in the agent's stead, and looks what is on disk by then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.on_disk: list[bytes] = []

    async def commit(self, mapping: Mapping, age_s: float) -> bool:
        self.on_disk.append(b"".join(path.read_bytes() for path in self._folder.iterdir()))
        return True


async def test_what_is_committed_in_the_agents_stead_is_on_disk_before(tmp_path: Path) -> None:
    metrics, journal, instead = ResolverMetrics(), Journal("", "resolver"), Instead(tmp_path)
    link, kept_back = AgentLink("unix:/nowhere", metrics, journal), Unconfirmed(10, MappingLog(tmp_path))
    kept_back.open()
    made = Commits(link, 0.1, kept_back, instead, metrics, journal)  # type: ignore[arg-type]
    assert await made.commit(MAPPING, time.monotonic()) is Outcome.TAKEN_OVER
    kept_back.close()
    address = MAPPING.addresses[0].hex().encode()
    assert [address in found for found in instead.on_disk] == [True]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL]
)
async def test_an_error_of_the_agent_is_a_refusal_and_is_not_told_again(code: grpc.StatusCode) -> None:
    async def refuse(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
        raise _error(code)

    made = commits(refuse)
    assert await made.commit(MAPPING, time.monotonic()) is Outcome.REFUSED
    assert len(made.unconfirmed) == 0


async def answer_what_is_none(request: pb.FQDNMapping) -> Any:
    """What gRPC makes of an answer that it cannot decode."""
    return None


async def test_an_answer_of_the_agent_that_cannot_be_decoded_is_a_refusal() -> None:
    made = commits(answer_what_is_none)
    assert await made.commit(MAPPING, time.monotonic()) is Outcome.REFUSED
    made.keep(MAPPING)
    await replayed(made)
    assert len(made.unconfirmed) == 0
    assert made._metrics.mappings.count("refused") == 2


async def test_what_waited_is_told_when_the_agent_is_there_again() -> None:
    told: list[str] = []

    async def record(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
        told.append(request.fqdn)
        return await confirm(request)

    made = commits(record)
    for number in range(3):
        made.keep(Mapping((b"n%d" % number,), (b"\xc0\0\2\7",), 60, 1, b"\x0a\0\0\1"))
    await replayed(made)
    assert told == ["n0.", "n1.", "n2."]


@pytest.mark.parametrize(("age_s", "told"), [(10.0, ["www."]), (301.0, [])])
async def test_what_waited_is_told_as_long_as_the_agent_counts_its_ttl(
    tmp_path: Path, age_s: float, told: list[str]
) -> None:
    shims = Ledger(tmp_path / "ledger.log", Terms(min_ttl_s=300, margin_s=60.0))
    shims.save({})
    shims.close()
    heard: list[str] = []

    async def record(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
        heard.append(request.fqdn)
        return await confirm(request)

    made = commits(record, shim_ledger=tmp_path / "ledger.log")
    made.unconfirmed.add(replace(MAPPING, ttl_s=5), time.monotonic() - age_s)
    await made.take_up_orphans()
    await replayed(made)
    assert heard == told


def failing(times: int, told: list[str]) -> Agent:
    """So often it cannot commit what it is told first."""

    async def behave(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
        told.append(request.fqdn)
        if told.count("n0.") <= times and request.fqdn == "n0.":
            return pb.UpdateMappingResponse(response=pb.RESPONSE_CODE_SERVER_FAILURE)
        return await confirm(request)

    return behave


@pytest.mark.parametrize(("times", "told"), [(3, ["n0."] * 4 + ["n1."]), (100, ["n0."] * 20 + ["n1."])])
def test_what_the_agent_could_not_commit_is_told_again_and_not_for_ever(
    in_virtual_time: InVirtualTime, times: int, told: list[str]
) -> None:
    seen: list[str] = []
    counted: list[int] = []

    async def behaviour() -> None:
        made = commits(failing(times, seen))
        for number in range(2):
            made.keep(replace(MAPPING, name=(b"n%d" % number,)))
        replay = asyncio.create_task(made.run())
        while len(made.unconfirmed):
            await asyncio.sleep(0.01)
        replay.cancel()
        counted.extend(made._metrics.mappings.count(outcome) for outcome in ("replayed", "failed", "refused"))

    in_virtual_time(behaviour())
    assert seen == told
    assert counted == ([2, 0, 0] if times < 20 else [1, 1, 0])


async def test_a_mapping_that_waits_already_is_not_counted_as_queued_again() -> None:
    made = commits(confirm)
    for _ in range(5):
        made.keep(MAPPING)
    made.keep(replace(MAPPING, name=(b"other",)))
    assert (made._metrics.mappings.count("queued"), len(made.unconfirmed)) == (2, 2)


async def test_an_agent_that_cannot_commit_gets_the_pod_no_answer() -> None:
    told: list[str] = []
    made = commits(failing(1, told))
    assert await made.commit(replace(MAPPING, name=(b"n0",)), time.monotonic()) is Outcome.FAILED
    assert await made.commit(replace(MAPPING, name=(b"n0",)), time.monotonic()) is Outcome.COMMITTED


async def test_a_promise_ends_with_the_answers_ttl_however_late_it_is_told() -> None:
    made = commits(confirm)
    made._link.stub.promises_s = 60.0  # type: ignore[union-attr]
    learned_at = time.monotonic() - 40
    assert await made.commit(MAPPING, learned_at) is Outcome.COMMITTED
    assert made.known.promise(MAPPING.name, MAPPING.addresses).kept_until == learned_at + MAPPING.ttl_s


@pytest.mark.parametrize("promises_s", [0.0, 30.0])
async def test_the_agents_word_counts_and_not_what_was_committed_in_its_stead(
    tmp_path: Path, promises_s: float
) -> None:
    made, for_a_day = commits(hang, timeout_s=0.01), replace(MAPPING, ttl_s=86_400)
    made._takeover = Instead(tmp_path)  # type: ignore[assignment]

    def promised_s() -> float:
        return made.known.promise(for_a_day.name, for_a_day.addresses).kept_until - time.monotonic()

    assert await made.commit(for_a_day, time.monotonic()) is Outcome.TAKEN_OVER
    assert 0 < promised_s() <= PROMISED_AT_MOST_S
    made._link.stub = Stub(confirm)  # type: ignore[assignment]
    made._link.stub.promises_s = promises_s
    await replayed(made)
    assert promised_s() <= promises_s
    assert (promised_s() > 0) == (promises_s > 0)


async def test_what_the_agent_refuses_is_no_longer_taken_for_promised(tmp_path: Path) -> None:
    made = commits(hang, timeout_s=0.01)
    made._takeover = Instead(tmp_path)  # type: ignore[assignment]
    assert await made.commit(MAPPING, time.monotonic()) is Outcome.TAKEN_OVER

    async def refuse(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
        raise _error(grpc.StatusCode.INVALID_ARGUMENT)

    made._link.stub = Stub(refuse)  # type: ignore[assignment]
    await replayed(made)
    assert made.known.promise(MAPPING.name, MAPPING.addresses) == UNKNOWN


async def replayed(made: Commits) -> None:
    """Until nothing waits to be told again."""
    replay = asyncio.create_task(made.run())
    async with asyncio.timeout(2):
        while len(made.unconfirmed) and not replay.done():
            await asyncio.sleep(0.001)
    assert not replay.done()
    replay.cancel()


async def test_what_an_old_connection_confirmed_is_not_known_under_a_new_one() -> None:
    async def confirm_late(request: pb.FQDNMapping) -> pb.UpdateMappingResponse:
        made._link._established(Stub(confirm))  # type: ignore[arg-type]
        return await confirm(request)

    made = commits(confirm_late)
    made._link.stub.promises_s = 60.0  # type: ignore[union-attr]
    assert await made.commit(MAPPING, time.monotonic()) is Outcome.COMMITTED
    assert made.known.promise(MAPPING.name, MAPPING.addresses) == UNKNOWN


async def test_an_agent_that_hung_is_asked_again_when_what_waited_has_run_out() -> None:
    made = commits(hang, timeout_s=0.01)
    lasts_not = replace(MAPPING, ttl_s=0)
    assert await made.commit(lasts_not, time.monotonic()) is Outcome.SLOW
    made._link.stub = Stub(confirm)  # type: ignore[assignment]
    replay = asyncio.create_task(made.run())
    async with asyncio.timeout(2):
        while len(made.unconfirmed):
            await asyncio.sleep(0.001)
    made._timeout_s = 1.0
    assert await made.commit(lasts_not, time.monotonic()) is Outcome.COMMITTED
    replay.cancel()


# --- turns -----------------------------------------------------------------------------------------------


async def test_turns_are_taken_in_order() -> None:
    turns, order = Turns(1, patience_s=10), []

    async def work(number: int) -> None:
        assert await turns.take(POD)
        order.append(number)
        await asyncio.sleep(0)
        turns.give()

    await asyncio.gather(*(work(number) for number in range(20)))
    assert order == list(range(20))


async def test_who_brings_a_thousand_holds_up_nobody_who_brings_one() -> None:
    turns, order = Turns(1, patience_s=10), []

    async def work(pod: bytes) -> None:
        assert await turns.take(pod)
        order.append(pod)
        await asyncio.sleep(0)
        turns.give()

    await asyncio.gather(*(work(b"many") for _ in range(1_000)), work(b"one"), work(b"one"))
    assert [place for place, pod in enumerate(order) if pod == b"one"] == [2, 4]


async def test_who_waited_too_long_is_sent_away_when_a_turn_comes() -> None:
    turns = Turns(1, patience_s=-1)
    assert await turns.take(POD)
    late = asyncio.create_task(turns.take(POD))
    await asyncio.sleep(0)
    turns.give()
    assert not await late
    assert await turns.take(POD)  # the turn was not lost with the one sent away


@pytest.mark.parametrize("granted", [False, True])
async def test_one_who_leaves_the_line_takes_no_turn_along(granted: bool) -> None:
    turns = Turns(1, patience_s=10)
    assert await turns.take(POD)
    leaving = asyncio.create_task(turns.take(POD))
    await asyncio.sleep(0)
    if granted:
        turns.give()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    if not granted:
        turns.give()
    async with asyncio.timeout(1):
        assert await turns.take(POD)
