"""How an element is refreshed: added again or, before Linux 6.12, taken out and in within one batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from acns.datapath import elements, nfnetlink
from acns.datapath.elements import Elements
from acns.datapath.netlink import Lost
from acns.datapath.nfnetlink import Message


class Recorder:
    """Stands for the netlink socket: keeps the types of the messages of each batch, loses some answers."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.losses = 0

    def batch(self, messages: Sequence[Message], what: str, *, generation: int | None = None) -> None:
        self.batches.append([message.type for message in messages])
        if self.losses:
            self.losses -= 1
            raise Lost(what)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(elements, "NetfilterSocket", lambda: made)
    return made


ADD, DELETE = nfnetlink.NEWSETELEM, nfnetlink.DELSETELEM
WANTED = {"fqdn_0000000001": {b"\xc0\0\2\1": 60.0}}


@pytest.mark.parametrize(("by_re_adding", "types"), [(True, [ADD]), (False, [ADD, DELETE, ADD])])
def test_a_refresh_is_what_the_kernel_understands(
    recorder: Recorder, by_re_adding: bool, types: list[int]
) -> None:
    Elements(refresh_by_re_adding=by_re_adding).put(WANTED)
    assert recorder.batches == [types]


def test_a_batch_whose_answer_was_lost_is_sent_again(recorder: Recorder) -> None:
    recorder.losses = 2
    Elements(refresh_by_re_adding=True).put(WANTED)
    assert recorder.batches == [[ADD]] * 3
