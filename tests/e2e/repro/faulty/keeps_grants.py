"""A shim that never takes a grant away: what was let out once stays, whatever the policy says."""

from __future__ import annotations

import sys

from acns.datapath import chains
from acns.datapath.model import ChainSpec
from acns.policy.model import Direction
from acns.shim.__main__ import main

_live_chain = chains._live_chain
_ever: dict[Direction, set[int]] = {direction: set() for direction in Direction}


def _every_grant(direction: Direction, grants: list[int]) -> ChainSpec | None:
    _ever[direction] |= set(grants)
    return _live_chain(direction, sorted(_ever[direction]))


chains._live_chain = _every_grant

if __name__ == "__main__":
    sys.exit(main())
