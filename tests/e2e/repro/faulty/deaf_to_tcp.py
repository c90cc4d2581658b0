"""A resolver that learns nothing from what comes over TCP."""

from __future__ import annotations

import sys

from acns.dns.message import Learned
from acns.resolver.__main__ import main
from acns.resolver.judged import Answer
from acns.resolver.query import Query

_teach = Query._teach


def _teach_udp_only(query: Query, answer: Answer, learned: Learned, now: float) -> None:
    if query.transport.name == "tcp":
        query.transport.context.new_names.is_empty(query.case)
        query._finish(answer, "not told")
    else:
        _teach(query, answer, learned, now)


Query._teach = _teach_udp_only  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
