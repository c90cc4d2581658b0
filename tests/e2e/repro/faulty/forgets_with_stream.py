"""A shim that forgets all addresses when the resolver goes away."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

from acns.api import fqdndata_pb2 as pb
from acns.datapath.selectors import selector_id
from acns.shim.__main__ import main
from acns.shim.service import FQDNDataService

_stream = FQDNDataService.StreamPolicyState


async def _stream_then_forget(
    service: FQDNDataService, acks: AsyncIterator[pb.PolicyStateResponse], context: Any
) -> AsyncIterator[pb.PolicyState]:
    try:
        async for state in _stream(service, acks, context):
            yield state
    finally:
        learned = service.mappings.learned
        known = {one: frozenset(learned.cache.elements(one)) for one in learned.in_kernel}
        learned.cache._names.clear()
        for selector, addresses in known.items():
            learned.cache._elements.remove(selector)
            learned.cache._elements.add(selector)
            if addresses:
                learned.kernel.delete({selector_id(selector): addresses})
        learned.cache._elements.take()


FQDNDataService.StreamPolicyState = _stream_then_forget  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
