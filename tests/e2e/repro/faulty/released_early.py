"""A resolver that answers first and has the addresses committed afterwards."""

from __future__ import annotations

import asyncio
import sys
import time

from acns.api.codec import Mapping
from acns.resolver.__main__ import main
from acns.resolver.judged import Answer
from acns.resolver.query import Query

LATER_S = 0.6
"""Before a SYN is repeated, and long after the first one, however busy the machine is."""


async def _release_then_commit(query: Query, answer: Answer, mapping: Mapping) -> None:
    query._finish(answer, "released early")
    await asyncio.sleep(LATER_S)
    await query.transport.context.commits.commit(mapping, time.monotonic())


Query._commit = _release_then_commit  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    sys.exit(main())
