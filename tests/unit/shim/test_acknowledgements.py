"""Each acknowledgement is taken for the snapshot it is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.message import DecodeError

from acns.api import fqdndata_pb2 as pb
from acns.errors import PeerError
from acns.shim.acknowledgements import UNREAD, Acknowledgements

REFUSED = pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT


class ScriptedStream:
    """What a peer sends, when the test says so."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[pb.PolicyStateResponse | DecodeError | None] = asyncio.Queue()
        self.taken = 0

    def send(
        self, *request_ids: str, response: pb.ResponseCode.ValueType = pb.RESPONSE_CODE_NO_ERROR
    ) -> None:
        for request_id in request_ids:
            self.sent.put_nowait(pb.PolicyStateResponse(request_id=request_id, response=response))

    def end(self) -> None:
        self.sent.put_nowait(None)

    def garble(self) -> None:
        """Send what is no message: to the servicer gRPC raises what the decoder does."""
        self.sent.put_nowait(DecodeError("Error parsing message"))

    async def __aiter__(self) -> AsyncIterator[pb.PolicyStateResponse]:
        while (ack := await self.sent.get()) is not None:
            self.taken += 1
            if isinstance(ack, DecodeError):
                raise ack
            yield ack


async def settle() -> None:
    """Let the reader read what there is."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_an_empty_id_is_about_the_snapshot_that_waits() -> None:
    stream, unasked = ScriptedStream(), list[int]()
    acks = Acknowledgements(stream.__aiter__(), lambda: unasked.append(1))
    stream.send("", response=REFUSED)
    ack = await asyncio.wait_for(acks.of("one"), 1)
    assert ack is not None
    assert (ack.response, unasked) == (REFUSED, [])
    acks.close()


async def test_a_second_acknowledgement_is_not_taken_for_the_next_snapshots() -> None:
    stream, unasked = ScriptedStream(), list[int]()
    acks = Acknowledgements(stream.__aiter__(), lambda: unasked.append(1))
    stream.send("", "")
    await acks.of("one")
    await settle()
    acks.forget()
    waiting = asyncio.create_task(acks.of("two"))
    await settle()
    assert not waiting.done()
    assert unasked == [1]
    stream.send("one", "two")
    ack = await asyncio.wait_for(waiting, 1)
    assert ack is not None
    assert (ack.request_id, unasked) == ("two", [1, 1])
    acks.close()


async def test_the_end_of_the_stream_is_told_also_when_it_came_before() -> None:
    stream = ScriptedStream()
    acks = Acknowledgements(stream.__aiter__(), lambda: None)
    stream.send("")
    stream.end()
    await settle()
    acks.forget()
    assert await asyncio.wait_for(acks.of("one"), 1) is None
    acks.close()


@pytest.mark.parametrize("before", [0, UNREAD])
@pytest.mark.parametrize("forgets", [True, False])
async def test_whoever_waits_is_told_of_one_that_cannot_be_read_also_when_it_came_before(
    before: int, forgets: bool
) -> None:
    stream = ScriptedStream()
    acks = Acknowledgements(stream.__aiter__(), lambda: None)
    stream.send(*["another"] * before)
    stream.garble()
    stream.send("one")
    await settle()
    if forgets:
        acks.forget()
    with pytest.raises(PeerError, match="cannot be read"):
        await asyncio.wait_for(acks.of("one"), 1)
    acks.close()


async def test_a_peer_that_floods_is_not_read_on() -> None:
    stream = ScriptedStream()
    acks = Acknowledgements(stream.__aiter__(), lambda: None)
    stream.send(*[""] * 1000)
    for _ in range(50):
        await settle()
    assert stream.taken <= UNREAD + 1
    acks.close()
