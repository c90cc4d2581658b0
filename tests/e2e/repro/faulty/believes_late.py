"""A resolver that learns from whatever comes under the ID of a query, be it late, be it from anybody."""

from __future__ import annotations

import asyncio
import sys
import time

from acns.api.codec import Mapping
from acns.dns import message
from acns.resolver.__main__ import main
from acns.resolver.intercept import Address
from acns.resolver.udp_query import ANSWERED, Port, Waiting
from acns.resolver.udp_upstream import UDPUpstream

_end, _ignore = Port.end, UDPUpstream.ignore
_ended: dict[int, Waiting] = {}


def _end_and_remember(port: Port, ident: int, how: int = ANSWERED) -> Waiting:
    _ended[ident] = _end(port, ident, how)
    return _ended[ident]


def _believe(upstream: UDPUpstream, port: Port, packet: bytes, source: Address) -> None:
    waiting = _ended.get(int.from_bytes(packet[:2]))
    if waiting is None or waiting.case.question.query is None:
        _ignore(upstream, port, packet, source)
        return
    learned = message.learnable(message.read_answer(packet))
    asker = waiting.case.asker
    name = waiting.case.question.query.name
    mapping = Mapping(name, learned.addresses, learned.ttl_s, asker.source_identity, asker.source)
    commits = upstream._clients.transport.context.commits
    asyncio.get_running_loop().create_task(commits.commit(mapping, time.monotonic()))


Port.end = _end_and_remember  # type: ignore[method-assign]
UDPUpstream.ignore = _believe  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
