"""What is promised of the addresses that a resolver reports."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api.answered import Answered
from acns.api.ledger_file import Terms
from acns.clock import steady
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


@pytest.mark.parametrize("step_s", [-7200.0, 7200.0], ids=["back", "forward"])
async def test_a_step_of_the_wall_clock_ends_no_promise_and_prolongs_nothing(
    step_s: float, mappings: Mappings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's time-outs and the resolver's promises know nothing of it."""
    mappings.learned.clock = steady
    await mappings.update(report("192.0.2.7"))
    before = steady()
    stepped = time.time() + step_s
    monkeypatch.setattr(time, "time", lambda: stepped)
    mappings.wall_clock = time.time
    assert steady() == pytest.approx(before, abs=5.0)
    assert mappings.learned.promise((b"a", b"example", b"com"), [b"\xc0\0\2\7"]) == pytest.approx(60, abs=5)
    assert mappings.learned.cache.collect(steady(), frozenset()).delete == {}
    taken = await mappings.update(report("192.0.2.9"), Answered(time.time(), 60))
    assert taken.kept_s == pytest.approx(60, abs=5)


def test_what_is_learned_lives_by_the_clock_that_nobody_sets() -> None:
    assert Learned(NameCache(), cast(Any, None), margin_s=60.0).clock is steady
