"""A report of a mapping is answered by the node's shim, or by nobody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from acns.api import fqdndata_pb2 as pb
from acns.errors import EnvironmentFault
from acns.shim.metrics import ShimMetrics
from acns.shim.service import FQDNDataService


class Ended(Exception):
    """What gRPC raises out of `abort`."""


class Context:
    """Of one call."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code = code
        raise Ended(details)


def overtaken() -> None:
    raise EnvironmentFault("another shim has taken this one's place")


async def test_one_that_is_overtaken_confirms_nothing_and_sends_its_peer_to_the_other() -> None:
    """An answer with a code would be the node's word; UNAVAILABLE is a connection that is lost."""
    learned = SimpleNamespace(kernel=SimpleNamespace(fence=overtaken))
    service = FQDNDataService(cast(Any, None), cast(Any, SimpleNamespace(learned=learned)), ShimMetrics())
    context = Context()
    with pytest.raises(Ended, match="another shim"):
        await service.UpdateMappingRequest(pb.FQDNMapping(fqdn="a.example.com."), context)
    assert context.code is grpc.StatusCode.UNAVAILABLE
