"""The shim as any client of the contract sees it: a scripted peer on its socket, the kernel as the judge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.api import kept
from lab.runtime.lab import Lab

pytestmark = pytest.mark.root

NEVER = 4_294_967_295  # the ttl with which real peers report a query


@pytest.fixture
async def peer(quickstart: Lab) -> AsyncIterator[rpc.FQDNDataStub]:
    socket = quickstart.folder.socket(0, "fqdndata")
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        yield rpc.FQDNDataStub(channel)


def mapping(name: str, *addresses: bytes, source: bytes = b"10.244.0.2", ttl: int = 5) -> pb.FQDNMapping:
    """frontend (10.244.0.2) has resolved `name`."""
    return pb.FQDNMapping(fqdn=name, record_ip=addresses, ttl=ttl, source_ip=source)


def opened(lab: Lab) -> str:
    """The kernel's rules and sets on the node."""
    return lab.node("node1").ruleset()


async def test_the_stream_brings_a_full_snapshot_at_once(quickstart: Lab, peer: rpc.FQDNDataStub) -> None:
    stream = peer.StreamPolicyState()
    state = await stream.read()
    infos = [info for entry in state.identity_to_endpoint_mapping for info in entry.endpoint_info]
    assert quickstart.pod("frontend").address.packed in {bytes(ip) for info in infos for ip in info.ip}
    assert any("api.example.com." in policy.dns_pattern for policy in state.egress_l7_dns_policy)
    assert state.request_id
    stream.cancel()


async def test_a_mapping_is_in_the_kernel_when_it_is_answered(
    quickstart: Lab, peer: rpc.FQDNDataStub
) -> None:
    answer = await peer.UpdateMappingRequest(mapping("api.example.com.", b"192.0.2.71"))
    assert answer.response == pb.RESPONSE_CODE_NO_ERROR
    assert "192.0.2.71 " in opened(quickstart)


@pytest.mark.parametrize(
    ("name", "address", "text"),
    [
        ("API.example.com", b"192.0.2.72", "192.0.2.72"),
        ("api.example.com.", bytes([192, 0, 2, 73]), "192.0.2.73"),
    ],
    ids=["no trailing dot, upper case", "raw address"],
)
async def test_the_quirks_of_real_peers_are_understood(
    quickstart: Lab, peer: rpc.FQDNDataStub, name: str, address: bytes, text: str
) -> None:
    answer = await peer.UpdateMappingRequest(mapping(name, address))
    assert answer.response == pb.RESPONSE_CODE_NO_ERROR
    assert f"{text} " in opened(quickstart)


@pytest.mark.parametrize(
    "address",
    [
        *(b"127.0.0.1", b"169.254.169.254", b"224.0.0.1", b"255.255.255.255", b"0.0.0.0"),
        *(b"10.244.0.53", b"172.18.0.2", b"10.96.20.20", b"2001:db8::1"),
    ],
    ids=bytes.decode,
)
async def test_no_peer_can_open_what_a_name_never_opens(
    quickstart: Lab, peer: rpc.FQDNDataStub, address: bytes
) -> None:
    answer = await peer.UpdateMappingRequest(mapping("api.example.com.", address, b"192.0.2.74"))
    assert answer.response == pb.RESPONSE_CODE_NO_ERROR
    learned = [line for line in opened(quickstart).splitlines() if "expires" in line]
    assert any("192.0.2.74 " in line for line in learned)
    assert not any(f"{address.decode()} " in line for line in learned)


async def test_nothing_is_promised_of_an_answer_with_an_address_that_no_peer_can_open(
    peer: rpc.FQDNDataAsyncStub,
) -> None:
    assert await promised_s(peer, mapping("api.example.com.", b"192.0.2.78")) > 0
    assert await promised_s(peer, mapping("api.example.com.", b"192.0.2.78", b"10.244.0.53")) == 0


async def promised_s(peer: rpc.FQDNDataAsyncStub, request: pb.FQDNMapping) -> float:
    """For how long the shim keeps what it has just confirmed."""
    call = peer.UpdateMappingRequest(request)
    assert (await call).response == pb.RESPONSE_CODE_NO_ERROR
    return kept.from_metadata(await call.trailing_metadata())


async def test_a_name_that_no_selector_matches_opens_nothing(quickstart: Lab, peer: rpc.FQDNDataStub) -> None:
    answer = await peer.UpdateMappingRequest(mapping("evil.example.org.", b"192.0.2.75"))
    assert answer.response == pb.RESPONSE_CODE_NO_ERROR
    assert "192.0.2.75" not in opened(quickstart)


async def test_a_reported_query_and_a_failed_answer_change_nothing(
    quickstart: Lab, peer: rpc.FQDNDataStub
) -> None:
    query = mapping("api.example.com.", ttl=NEVER)
    failed = mapping("api.example.com.", b"192.0.2.76")
    failed.response_code = 2
    for request in (query, failed):
        assert (await peer.UpdateMappingRequest(request)).response == pb.RESPONSE_CODE_NO_ERROR
    assert "192.0.2.76" not in opened(quickstart)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (mapping("", b"192.0.2.77"), pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT),
        (mapping("a..example.com", b"192.0.2.77"), pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT),
        (mapping("api.example.com.", b"192.0.2.777"), pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT),
        (
            mapping("api.example.com.", b"192.0.2.77", source=b"nobody"),
            pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT,
        ),
        (
            mapping("api.example.com.", b"192.0.2.77", source=b"10.9.9.9"),
            pb.RESPONSE_CODE_ERROR_ENDPOINT_NOT_FOUND,
        ),
    ],
    ids=["no name", "not a name", "not an address", "source no address", "unknown source"],
)
async def test_a_bad_mapping_is_refused_and_opens_nothing(
    quickstart: Lab, peer: rpc.FQDNDataStub, request_: pb.FQDNMapping, code: int
) -> None:
    assert (await peer.UpdateMappingRequest(request_)).response == code
    assert "192.0.2.77" not in opened(quickstart)


async def test_several_streams_are_served_at_once(peer: rpc.FQDNDataStub) -> None:
    streams = [peer.StreamPolicyState() for _ in range(3)]
    states = [await stream.read() for stream in streams]
    assert len({state.SerializeToString() for state in states}) == 1
    for stream in streams:
        stream.cancel()


def test_only_root_can_reach_the_socket(quickstart: Lab) -> None:
    link: Path = quickstart.folder.socket(0, "fqdndata")
    assert link.stat().st_mode & 0o777 == 0o600
