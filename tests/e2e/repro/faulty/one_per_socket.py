"""A resolver that has room for one query of each client socket: the second is lost."""

from __future__ import annotations

import sys

from acns.resolver.__main__ import main
from acns.resolver.udp_query import Waiting, source_of
from acns.resolver.udp_upstream import UDPUpstream

_send = UDPUpstream.send


def _send_the_first(upstream: UDPUpstream, waiting: Waiting) -> None:
    source = source_of(waiting.key)
    on_their_way = (one for port in upstream.ports for one in port.waiting.values())
    if not any(source_of(one.key) == source for one in on_their_way):
        _send(upstream, waiting)


UDPUpstream.send = _send_the_first  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
