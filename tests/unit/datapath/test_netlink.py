"""What the netlink socket makes of answers that a kernel gives rarely: changed dumps, overruns."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.datapath import netlink
from acns.datapath.netlink import Lost, NetlinkSocket, Refused

Answer = bytes | OSError
OBJECT, INTERRUPTED, MULTI = 100, netlink.NLM_F_DUMP_INTR, 2


class ScriptedSocket:
    """A kernel that answers each request with the next piece of a script."""

    def __init__(self, script: list[Callable[[int], list[Answer]]]) -> None:
        self.script = script
        self.answers: list[Answer] = []
        self.requests = 0

    def bind(self, address: Any) -> None: ...

    def setsockopt(self, *option: Any) -> None: ...

    def sendto(self, data: bytes, address: Any) -> None:
        sequence = struct.unpack_from("=I", data, 8)[0]
        self.answers += self.script[self.requests](sequence)
        self.requests += 1

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags or not self.answers:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def found(sequence: int, body: bytes, flags: int = MULTI) -> bytes:
    return netlink.packed(OBJECT, flags, sequence, body)


def done(sequence: int, number: int = 0) -> bytes:
    return netlink.packed(netlink.DONE, MULTI, sequence, struct.pack("=i", -number))


def refused(sequence: int, number: int) -> bytes:
    return netlink.packed(netlink.ERROR, 0, sequence, struct.pack("=i", -number))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., NetlinkSocket]:
    def make(*script: Callable[[int], list[Answer]]) -> NetlinkSocket:
        monkeypatch.setattr("acns.datapath.netlink.socket.socket", lambda *_: ScriptedSocket(list(script)))
        return NetlinkSocket(netlink.NETFILTER)

    return make


def test_a_dump_during_which_something_changed_is_taken_again(scripted: Callable[..., NetlinkSocket]) -> None:
    made = scripted(
        lambda number: [found(number, b"old!", MULTI | INTERRUPTED) + done(number)],
        lambda number: [refused(number, errno.EINTR)],
        lambda number: [found(number, b"one!") + found(number, b"two!"), done(number)],
    )
    assert made.dump(1, b"", "reading") == [b"one!", b"two!"]


def test_a_dump_that_never_holds_still_is_given_up(scripted: Callable[..., NetlinkSocket]) -> None:
    made = scripted(*[lambda number: [done(number, errno.EINTR)]] * 50)
    with pytest.raises(Lost):
        made.dump(1, b"", "reading")


def test_answers_to_an_earlier_request_are_not_taken_for_this_ones(
    scripted: Callable[..., NetlinkSocket],
) -> None:
    made = scripted(lambda number: [refused(number - 1, errno.EPERM), refused(number, 0)])
    made.request(1, 0, b"", "changing")


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EAGAIN])
def test_lost_answers_are_reported_as_lost(scripted: Callable[..., NetlinkSocket], number: int) -> None:
    made = scripted(lambda _: [OSError(number, "")])
    with pytest.raises(Lost):
        made.request(1, 0, b"", "changing")


def test_a_refusal_carries_the_errno_and_what_was_asked(scripted: Callable[..., NetlinkSocket]) -> None:
    made = scripted(lambda number: [refused(number, errno.EPERM)])
    with pytest.raises(Refused, match=r"changing x.*EPERM") as caught:
        made.request(1, 0, b"", "changing x")
    assert caught.value.number == errno.EPERM


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=5))
def test_attributes_are_read_as_they_were_written(values: dict[int, bytes]) -> None:
    data = b"".join(netlink.attribute(kind, value) for kind, value in values.items())
    assert netlink.attributes(data) == values
    assert len(data) % 4 == 0


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_attributes_fail_or_hang(data: bytes) -> None:
    netlink.attributes(data)
