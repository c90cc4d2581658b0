"""What the writer makes of leases before it writes them."""

from __future__ import annotations

import pytest

from acns.datapath.selectors import id_of
from acns.writer.__main__ import _timeouts
from acns.writer.wire import Lease

SELECTOR, ADDRESS = bytes(5), b"\xc0\0\2\7"


@pytest.mark.parametrize("ends", [(300.0, 30.0), (30.0, 300.0)])
def test_of_two_leases_of_one_element_in_a_request_the_later_end_counts(ends: tuple[float, float]) -> None:
    leases = [Lease(SELECTOR, ADDRESS, end) for end in ends]
    assert _timeouts(leases, 0.0) == {id_of(SELECTOR): {ADDRESS: 300.0}}
