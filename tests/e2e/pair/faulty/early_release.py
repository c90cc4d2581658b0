"""A resolver that answers before the commit: the mistake that the pair must not make.

The product's resolver with one method replaced: the answer leaves at once, and the mapping is told to the
shim afterwards.
"""

from __future__ import annotations

import sys
import time

from acns.api.codec import Mapping
from acns.resolver.__main__ import main
from acns.resolver.judged import Answer
from acns.resolver.query import Query


async def _release_then_commit(query: Query, answer: Answer, mapping: Mapping) -> None:
    query._finish(answer, "released early")
    await query.transport.context.commits.commit(mapping, time.monotonic())


Query._commit = _release_then_commit  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    sys.exit(main())
