"""What is promised of the addresses that a resolver reports."""

from __future__ import annotations

import asyncio
import struct
import time
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.api.answered import Answered
from acns.api.ledger_file import Terms
from acns.clock import steady
from acns.dns import message
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


async def test_what_the_longest_answer_holds_is_learned(mappings: Mappings) -> None:
    longest = bytes(2) + b"\x84\0\0\1\x11\x0f\0\0\0\0" + b"\0\0\1\0\1"
    longest += b"".join(b"\0\0\1\0\1\0\0\0\x3c\0\4" + struct.pack("!I", 0x08000000 + n) for n in range(4_367))
    assert len(longest) in range(message.MAX_MESSAGE_OCTETS - 15, message.MAX_MESSAGE_OCTETS + 1)
    addresses = message.learnable(message.read_answer(longest)).addresses
    whole = report()
    whole.record_ip.extend(addresses)
    assert len(addresses) == 4367
    assert (await mappings.update(whole)).code == pb.RESPONSE_CODE_NO_ERROR
    assert mappings.learned.cache.address_count == len(addresses)


async def test_too_many_addresses_are_refused_before_any_is_read(
    mappings: Mappings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "address_from_wire", lambda *_: pytest.fail("was read"))
    refused = report(*["192.0.2.7"] * (codec.MOST_ADDRESSES + 1))
    assert await mappings.update(refused) == Taken(pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT)


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
