"""What the writer makes of leases before it writes them."""

from __future__ import annotations

import pytest

from acns.datapath.sets import fqdn_set_of
from acns.writer.__main__ import _timeouts
from acns.writer.wire import Lease

SET, ADDRESS = bytes(5), b"\xc0\0\2\7"


@pytest.mark.parametrize("ends", [(300.0, 30.0), (30.0, 300.0)])
def test_of_two_leases_of_one_element_in_a_request_the_later_end_counts(ends: tuple[float, float]) -> None:
    leases = [Lease(SET, ADDRESS, end) for end in ends]
    assert _timeouts(leases, 0.0) == {fqdn_set_of(SET): {ADDRESS: 300.0}}
