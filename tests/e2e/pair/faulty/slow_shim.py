"""A shim whose commits take their time: right, but slow.

The product's shim; every mapping waits before it is committed, so that whoever does not wait for the commit
is seen not to.
"""

from __future__ import annotations

import asyncio
import sys

from acns.api import fqdndata_pb2 as pb
from acns.api.answered import Answered
from acns.shim.__main__ import main
from acns.shim.mappings import Mappings, Taken

DELAY_S = 0.1

_update = Mappings.update


async def _late_update(
    mappings: Mappings, request: pb.FQDNMapping, answered: Answered | None = None
) -> Taken:
    await asyncio.sleep(DELAY_S)
    return await _update(mappings, request, answered)


Mappings.update = _late_update  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    sys.exit(main())
