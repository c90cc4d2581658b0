"""Answers that wait for their commit, and how many octets of them one endpoint may have wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from acns.api.codec import Mapping
from acns.dns import message, wire
from acns.fqdn.table import PolicyTable
from acns.resolver.budget import LARGE_OF_ENDPOINT_BYTES
from acns.resolver.commits import Outcome
from acns.resolver.judged import Case
from acns.resolver.metrics import TCP
from acns.resolver.query import Query, Transport
from tests.unit.resolver import alone
from tests.unit.resolver.alone import ADDRESS, QUERY, QUESTION, under_id

OCTETS = 60_000
WAIT_S = 10.0


class Recorded(Query):
    """Notes the codes that its pod gets."""

    __slots__ = ("codes",)

    def __init__(self, transport: Transport, case: Case, packet: bytes, codes: list[int]) -> None:
        super().__init__(transport, case, packet, 0.0)
        self.codes = codes

    def deliver(self, packet: bytes | None) -> None:
        if packet is not None:
            self.codes.append(packet[3] & 0xF)


class Pod:
    """Asks for one name again and again; the agent confirms its addresses when it `may`."""

    def __init__(self) -> None:
        self.proxy = alone.proxy()
        self.transport = self.proxy.transports[TCP]
        self.codes: list[int] = []
        self.may = asyncio.Event()
        self.outcome: Outcome | BaseException = Outcome.COMMITTED
        self.proxy._link.stub = object()  # type: ignore[assignment]
        self.proxy.context.commits.commit = self._commit  # type: ignore[method-assign]

    async def _commit(self, mapping: Mapping, learned_at: float) -> Outcome:
        await self.may.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def ask(self, count: int, octets: int = OCTETS) -> None:
        """So many queries, each with an answer of about so many octets."""
        address = b"\xc0\x0c" + wire.record_tail(wire.TYPE_A, 1, 60, ADDRESS)
        filling = b"\xc0\x0c" + wire.record_tail(wire.TYPE_TXT, 1, 60, bytes(octets))
        answer = bytes.fromhex("8180 0001 0002 0000 0000") + QUESTION + address + filling
        for number in range(count):
            query = under_id(QUERY, number)
            case = alone.case_of(self.proxy, query)
            assert self.proxy.own_reply(self.transport, case, query) is None
            Recorded(self.transport, case, query, self.codes).answered_by(answer, 0.0)

    @property
    def over_budget(self) -> int:
        return self.proxy.metrics.over_budget.count(TCP, "in_flight")

    async def all_ended(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.proxy.in_flight:
                await asyncio.sleep(0)
        assert self.proxy.context.budget.large_bytes == 0


async def test_an_answer_whose_name_is_taken_away_while_it_waits_for_its_commit_is_denied() -> None:
    pod = Pod()
    pod.ask(1, octets=10)
    pod.proxy._link.table = PolicyTable()
    pod.may.set()
    await pod.all_ended()
    assert pod.codes == [wire.RCODE_REFUSED]


async def test_answers_that_wait_for_their_commit_have_a_bound_in_octets() -> None:
    pod, most = Pod(), LARGE_OF_ENDPOINT_BYTES // OCTETS
    pod.ask(most + 10)
    assert pod.codes == [message.RCODE_SERVFAIL] * 10
    assert pod.over_budget == 10
    assert 0 < pod.proxy.context.budget.large_bytes <= LARGE_OF_ENDPOINT_BYTES
    pod.may.set()
    await pod.all_ended()
    assert pod.codes.count(message.RCODE_NOERROR) == most


async def test_small_answers_wait_in_any_number() -> None:
    pod = Pod()
    pod.ask(1_000, octets=1_000)
    assert pod.codes == []
    pod.may.set()
    await pod.all_ended()
    assert pod.codes == [message.RCODE_NOERROR] * 1_000


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.SLOW, RuntimeError("a bug")], ids=repr)
async def test_room_for_large_answers_comes_back_however_the_commit_ends(outcome: Any) -> None:
    pod = Pod()
    pod.outcome = outcome
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    pod.ask(5)
    assert pod.proxy.context.budget.large_bytes > 0
    pod.may.set()
    await pod.all_ended()


async def test_an_answer_that_its_pod_may_not_bring_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = Pod()
    monkeypatch.setattr(pod.proxy.context.new_names, "commit", lambda *_: False)
    pod.ask(1)
    assert pod.codes == [message.RCODE_SERVFAIL]
    await pod.all_ended()
