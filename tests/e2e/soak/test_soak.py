"""Minutes of storm over steady traffic, the same seed each time. ACNS_SOAK_MINUTES: how many, 0 for none."""

from __future__ import annotations

import os

import pytest

from ...soak.__main__ import soak

pytestmark = pytest.mark.root

MINUTES = float(os.environ.get("ACNS_SOAK_MINUTES", "3"))
SEED = 20_240
OVERHEAD_S = 60


@pytest.mark.skipif(not MINUTES, reason="ACNS_SOAK_MINUTES is 0")
@pytest.mark.timeout(MINUTES * 60 + OVERHEAD_S)
def test_a_storm_neither_locks_anybody_in_nor_lets_anybody_out() -> None:
    tally = soak(SEED, MINUTES * 60)
    print(tally.table())
    assert tally.violations == []
    assert tally.counts["connections must not pass"] > 0 < tally.counts["connections must pass"]
    assert tally.counts["queries answered"] > 0 < tally.counts["queries refused"]
    assert tally.counts["queries lost to a fault"] > 0 < tally.counts["downloads"]
    assert tally.counts["edits of policies"] > 0 < tally.counts["queries at the DNS server"]
    assert (
        tally.counts["mappings looked up in the kernel"] > 0 < tally.counts["mappings looked up in the shim"]
    )
    assert tally.counts["queries that no fault excused"] > tally.counts["queries"] / 10
    assert tally.counts["queries that no fault excused, without a shim"] > 0
