"""What is promised of the addresses that a resolver reports."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api.ledger_file import Terms
from acns.dns.pattern import match_name
from acns.fqdn.cache import NameCache
from acns.policy.model import Endpoint, EndpointPolicy, NodePolicy
from acns.shim.flowlog import FlowLog
from acns.shim.kernel import Kernel
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.mappings import Mappings, Taken
from acns.telemetry.journal import Journal

TERMS = Terms(min_ttl_s=0, margin_s=60)
FRONTEND = Endpoint("default", "frontend", IPv4Address("10.244.0.2"), frozenset({"k8s:app=frontend"}))
POD, NODE, CLUSTER_IP = (IPv4Address(text) for text in ("10.244.0.9", "172.18.0.2", "10.96.0.10"))
POLICY = NodePolicy(
    "node1",
    (EndpointPolicy(FRONTEND),),
    cluster_addresses=frozenset({FRONTEND.address, POD}),
    service_addresses=frozenset({CLUSTER_IP}),
    node_addresses=frozenset({NODE}),
)


@pytest.fixture
def mappings(tmp_path: Path) -> Mappings:
    """A name is looked for, and its set is on its way to the kernel, which is not asked for anything."""
    kernel = cast(Kernel, SimpleNamespace(lock=asyncio.Lock()))
    learned = Learned(NameCache(), kernel, margin_s=60.0, clock=lambda: 1000.0)
    learned.cache.set_selectors([match_name("a.example.com")])
    flows = FlowLog("", "drops", "node1", Ledger(tmp_path / "ledger.log", TERMS))
    made = Mappings(learned, flows, Journal("", "shim"), min_ttl_s=0)
    made.use(POLICY)
    return made


def report(*addresses: str) -> pb.FQDNMapping:
    return pb.FQDNMapping(
        fqdn="a.example.com.",
        record_ip=[address.encode() for address in addresses],
        ttl=60,
        source_ip=str(FRONTEND.address).encode(),
    )


async def test_an_answer_that_is_learned_whole_is_promised_for_its_ttl(mappings: Mappings) -> None:
    taken = await mappings.update(report("192.0.2.7", "192.0.2.8"))
    assert taken == Taken(pb.RESPONSE_CODE_NO_ERROR, kept_s=60.0)


@pytest.mark.parametrize("left_out", [POD, NODE, CLUSTER_IP], ids=["a pod", "a node", "a Service"])
async def test_nothing_is_promised_of_an_answer_with_an_address_that_is_left_out(
    mappings: Mappings, left_out: IPv4Address
) -> None:
    """It may be learnable when the answer comes again, and would not be told then."""
    taken = await mappings.update(report("192.0.2.7", str(left_out)))
    assert taken == Taken(pb.RESPONSE_CODE_NO_ERROR, kept_s=0.0)
