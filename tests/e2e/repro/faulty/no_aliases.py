"""A resolver that learns only the addresses that stand under the very name asked for."""

from __future__ import annotations

import sys

from acns.dns import message
from acns.dns.message import Answer, Learned
from acns.resolver.__main__ import main

_learnable = message.learnable


def _without_aliases(answer: Answer) -> Learned:
    return (
        Learned((), 0)
        if any(one.type == message.TYPE_CNAME for one in answer.records)
        else _learnable(answer)
    )


message.learnable = _without_aliases

if __name__ == "__main__":
    sys.exit(main())
