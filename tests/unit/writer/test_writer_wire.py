"""The words between the resolver and its writer: nothing but leases of addresses to selectors can be said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.errors import PeerError
from acns.writer import wire
from acns.writer.wire import Lease, Outcome

LEASES = st.builds(
    Lease,
    st.binary(min_size=5, max_size=5),
    st.binary(min_size=4, max_size=4),
    st.floats(allow_nan=False),
)
SEQUENCES = st.integers(min_value=0, max_value=2**32 - 1)


@given(SEQUENCES, st.lists(LEASES, max_size=20))
def test_a_request_is_read_as_it_was_written(sequence: int, leases: list[Lease]) -> None:
    assert wire.read_request(wire.request(sequence, leases)) == (sequence, leases)


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_as_leases_or_refused(data: bytes) -> None:
    try:
        _, leases = wire.read_request(data)
    except PeerError:
        return
    assert len(data) == 4 + 17 * len(leases)
    assert all(len(lease.selector) == 5 and len(lease.address) == 4 for lease in leases)


def test_the_largest_request_fits_into_one_message_and_a_larger_one_is_refused() -> None:
    leases = [Lease(bytes(5), bytes(4), 0.0)] * wire.MOST
    assert len(wire.request(1, leases)) <= wire.MAX_BYTES
    assert wire.read_request(wire.request(1, leases)) == (1, leases)
    with pytest.raises(PeerError):
        wire.read_request(wire.request(1, [*leases, leases[0]]))


@given(SEQUENCES, st.sampled_from(Outcome))
def test_an_answer_is_read_as_it_was_written(sequence: int, outcome: Outcome) -> None:
    assert wire.read_answer(wire.answer(sequence, outcome)) == (sequence, outcome)


@given(st.binary(max_size=20))
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    if len(data) != 5 or data[4] > 2:
        with pytest.raises(PeerError):
            wire.read_answer(data)
