"""The shim and a resolver written from the contract alone, over both transports; the kernel is the judge."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from lab.kernel import netns
from lab.runtime.lab import Lab

from . import plain_wire as wire
from .conftest import connected
from .peers import PolicyStream, ScriptedResolver, until
from .policies import DNS_POD, DNS_SERVICE, INTERNET_DNS, POLICIES, Desk, client_policy, cnp
from .raw_syn import answers_to_syn

A, B, OPEN, CIDR, WORLD, FREE = (f"10.244.0.{number}" for number in range(2, 8))
CLIENT_PATTERNS = {"api.example.com.", "*.example.net."}


def patterns(snapshot: wire.Snapshot, pod: str = A, server: str = DNS_SERVICE) -> set[str]:
    """What this pod may ask that server over UDP."""
    found = snapshot.patterns_for(pod, server, 53, wire.UDP)
    return {pattern for rule in found for pattern in rule}


def report(
    *addresses: bytes, fqdn: str = "api.example.com.", source: bytes = b"10.244.0.2", **more: object
) -> wire.Report:
    return wire.Report(fqdn, addresses, source_ip=source, **more)  # type: ignore[arg-type]


def learned(lab: Lab) -> str:
    """The elements of the kernel's sets that have a time-out."""
    return "\n".join(line for line in lab.node("n1").ruleset().splitlines() if "expires" in line)


@contextmanager
def nothing_learned(lab: Lab) -> Iterator[None]:
    """The sets have the same addresses afterwards."""
    before = _addresses(learned(lab))
    yield
    assert _addresses(learned(lab)) == before


def _addresses(text: str) -> set[str]:
    return {word for word in text.replace(",", " ").split() if word[:1].isdigit() and word.count(".") == 3}


# --- the first snapshot -----------------------------------------------------------------------------------


def test_the_whole_policy_comes_at_once_and_unasked(peer: ScriptedResolver) -> None:
    snapshot = peer.stream().snapshot()
    assert len(snapshot.request_id) == 36
    ids = [snapshot.endpoint_of(address) for address in (A, B, OPEN, CIDR, WORLD, FREE, DNS_POD)]
    assert len({*ids} - {None}) == 7


def test_pods_of_the_same_labels_share_an_identity_and_are_endpoints_of_their_own(
    peer: ScriptedResolver,
) -> None:
    snapshot = peer.stream().snapshot()
    assert snapshot.identity_of(A) == snapshot.identity_of(B) != snapshot.identity_of(FREE)
    assert snapshot.endpoint_of(A) != snapshot.endpoint_of(B)
    assert patterns(snapshot, A) == patterns(snapshot, B) == CLIENT_PATTERNS


@pytest.mark.parametrize("server", [DNS_SERVICE, DNS_POD])
@pytest.mark.parametrize("protocol", [wire.UDP, wire.TCP])
def test_a_server_is_known_by_its_identity_under_every_address_it_has(
    peer: ScriptedResolver, server: str, protocol: int
) -> None:
    snapshot = peer.stream().snapshot()
    assert set(*snapshot.patterns_for(A, server, 53, protocol)) == CLIENT_PATTERNS
    assert snapshot.patterns_for(A, server, 54, protocol) == []
    assert snapshot.patterns_for(A, INTERNET_DNS, 53, protocol) == []


def test_a_rule_without_patterns_means_every_name(peer: ScriptedResolver) -> None:
    assert () in peer.stream().snapshot().patterns_for(OPEN, DNS_SERVICE, 53, wire.UDP)


def test_servers_by_cidr_and_by_entity_come_as_prefixes(peer: ScriptedResolver) -> None:
    snapshot = peer.stream().snapshot()
    assert patterns(snapshot, CIDR, INTERNET_DNS) == {"one.example.com."}
    assert patterns(snapshot, CIDR, "203.0.113.54") == set()
    for outside in (INTERNET_DNS, "203.0.113.54", "8.8.8.8"):
        assert patterns(snapshot, WORLD, outside) == {"all.example.com."}
    for inside in (DNS_SERVICE, DNS_POD, A):
        assert patterns(snapshot, WORLD, inside) == set()


def test_a_pod_without_policy_is_an_endpoint_without_rules(peer: ScriptedResolver) -> None:
    snapshot = peer.stream().snapshot()
    assert snapshot.endpoint_of(FREE)
    assert snapshot.endpoint_of(FREE) not in {rule.endpoint for rule in snapshot.rules}


# --- changes ----------------------------------------------------------------------------------------------


@pytest.fixture
def streams(peer: ScriptedResolver) -> tuple[PolicyStream, PolicyStream]:
    """Two with their first snapshot: one under test, and one that shows when the shim has sent the next."""
    made = peer.stream(), peer.stream()
    for stream in made:
        stream.snapshot()
    return made


def published(fence: PolicyStream, policy: Desk, *names: str) -> None:
    """Publish a policy for these names; returns when the fence has it."""
    policy.write(client_policy(*names), *POLICIES[1:])
    wanted = {f"{name}." for name in names} | {"*.example.net."}
    fence.next_after(lambda snapshot: patterns(snapshot) == wanted)


def test_the_next_snapshot_waits_for_an_acknowledgement_and_is_the_newest(
    streams: tuple[PolicyStream, PolicyStream], policy: Desk
) -> None:
    stream, fence = streams
    published(fence, policy, "two.example.com")
    published(fence, policy, "three.example.com")
    assert not stream.has_more
    stream.acknowledge()
    assert patterns(stream.snapshot()) == {"three.example.com.", "*.example.net."}


def test_a_peer_that_never_acknowledges_holds_up_nobody(
    shim_lab: Lab, peer: ScriptedResolver, streams: tuple[PolicyStream, PolicyStream], policy: Desk
) -> None:
    stream, fence = streams
    published(fence, policy, "two.example.com")
    assert peer.report(report(b"192.0.2.61", fqdn="a.example.net.")) == wire.NO_ERROR
    assert "192.0.2.61" in learned(shim_lab)
    assert not stream.has_more


def test_a_peer_that_acknowledges_twice_is_not_a_snapshot_ahead(
    streams: tuple[PolicyStream, PolicyStream], policy: Desk
) -> None:
    stream, fence = streams
    stream.acknowledge()
    stream.acknowledge()
    published(fence, policy, "two.example.com")
    assert "two.example.com." in patterns(stream.snapshot())
    published(fence, policy, "three.example.com")
    published(fence, policy, "four.example.com")
    assert not stream.has_more
    stream.acknowledge()
    assert "four.example.com." in patterns(stream.snapshot())


@pytest.mark.parametrize("response", [wire.INVALID_ARGUMENT, wire.UNSPECIFIED, 99])
def test_a_peer_that_refuses_a_snapshot_gets_the_next(
    streams: tuple[PolicyStream, PolicyStream], policy: Desk, response: int
) -> None:
    stream, fence = streams
    stream.acknowledge(response=response)
    published(fence, policy, "two.example.com")
    assert "two.example.com." in patterns(stream.snapshot())


def test_an_acknowledgement_of_another_snapshot_is_none(
    streams: tuple[PolicyStream, PolicyStream], policy: Desk
) -> None:
    stream, fence = streams
    stream.acknowledge("00000000-0000-0000-0000-000000000000")
    published(fence, policy, "two.example.com")
    assert not stream.has_more
    stream.acknowledge()
    assert "two.example.com." in patterns(stream.snapshot())


def test_an_acknowledgement_that_cannot_be_decoded_ends_its_stream_and_the_peer_may_come_again(
    peer: ScriptedResolver, streams: tuple[PolicyStream, PolicyStream], policy: Desk
) -> None:
    stream, fence = streams
    stream._sent.put(b"\xff\xff\xff")
    with pytest.raises(grpc.RpcError) as caught:
        stream.snapshot()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    published(fence, policy, "two.example.com")
    assert "two.example.com." in patterns(peer.stream().snapshot())


def test_what_is_taken_away_is_missing_from_the_next_snapshot(
    streams: tuple[PolicyStream, PolicyStream], policy: Desk
) -> None:
    stream, _ = streams
    policy.write(cnp("client", {"toEntities": ["host"]}), *POLICIES[1:])
    snapshot = stream.next_after(lambda one: not patterns(one))
    assert patterns(snapshot, CIDR, INTERNET_DNS) == {"one.example.com."}
    policy.remove()
    snapshot = stream.next_after(lambda one: not one.rules)
    assert snapshot.endpoint_of(A)


def test_a_peer_that_closes_its_half_is_let_go_and_may_come_again(peer: ScriptedResolver) -> None:
    stream = peer.stream()
    stream.snapshot()
    stream.half_close()
    until(lambda: stream.has_more or not stream._thread.is_alive(), "the shim ends the stream")
    assert patterns(peer.stream().snapshot()) == CLIENT_PATTERNS


# --- reports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "name", "source", "text"),
    [
        (b"192.0.2.11", "api.example.com.", b"10.244.0.2", "192.0.2.11"),
        (wire.raw("192.0.2.12"), "api.example.com.", b"10.244.0.2", "192.0.2.12"),
        (b"192.0.2.13", "api.example.com", b"10.244.0.2", "192.0.2.13"),
        (b"192.0.2.14", "API.Example.COM.", b"10.244.0.2", "192.0.2.14"),
        (b"192.0.2.15", "api.example.com.", wire.raw("10.244.0.2"), "192.0.2.15"),
        (b"192.0.2.16", "api.example.com.", bytes(10) + b"\xff\xff" + wire.raw("10.244.0.2"), "192.0.2.16"),
    ],
    ids=["text", "raw", "no trailing dot", "upper case", "raw source", "Go's form of the source"],
)
def test_a_mapping_is_in_the_kernel_when_it_is_answered(
    shim_lab: Lab, peer: ScriptedResolver, address: bytes, name: str, source: bytes, text: str
) -> None:
    assert peer.report(report(address, fqdn=name, source=source)) == wire.NO_ERROR
    assert text in learned(shim_lab)


def test_fields_of_newer_peers_are_tolerated(shim_lab: Lab, peer: ScriptedResolver) -> None:
    far = wire.number(1999, 7) + wire.chunk(2000, b"\xff\0")
    assert peer.report(report(b"192.0.2.21", more=wire.METRICS_DATA + far)) == wire.NO_ERROR
    assert "192.0.2.21" in learned(shim_lab)


@pytest.mark.parametrize("source", [b"10.244.0.2", b"", b"10.9.9.9", b"2001:db8::1", b"nobody"])
@pytest.mark.parametrize(
    "name", ["api.example.com.", "evil.example.org.", ".", r"a\.b.example.com.", r"\255.example.com.", ""]
)
def test_a_reported_query_changes_nothing_whoever_asked_for_whatever(
    shim_lab: Lab, peer: ScriptedResolver, name: str, source: bytes
) -> None:
    """As Cilium's proxy reports each one, denied ones and those of no known endpoint too."""
    with nothing_learned(shim_lab):
        assert (
            peer.report(report(fqdn=name, ttl=wire.NEVER, source=source, more=wire.METRICS_DATA))
            == wire.NO_ERROR
        )


@pytest.mark.parametrize("rcode", [2, 3, 5, 23])
def test_a_failed_answer_changes_nothing(shim_lab: Lab, peer: ScriptedResolver, rcode: int) -> None:
    with nothing_learned(shim_lab):
        assert peer.report(report(b"192.0.2.31", response_code=rcode)) == wire.NO_ERROR


def test_a_ttl_without_end_has_one(shim_lab: Lab, peer: ScriptedResolver) -> None:
    assert peer.report(report(b"192.0.2.32", ttl=wire.NEVER)) == wire.NO_ERROR
    element = next(line for line in learned(shim_lab).split(",") if "192.0.2.32" in line)
    assert "expires 7d" in element


@pytest.mark.parametrize(
    ("bad", "response"),
    [
        (report(b"192.0.2.41", fqdn=""), wire.INVALID_ARGUMENT),
        (report(b"192.0.2.41", fqdn="a..b."), wire.INVALID_ARGUMENT),
        (report(b"192.0.2.41x"), wire.INVALID_ARGUMENT),
        (report(b"192.0.2.41", source=b""), wire.INVALID_ARGUMENT),
        (report(b"192.0.2.41", source=b"10.9.9.9"), wire.ENDPOINT_NOT_FOUND),
        (report(b"192.0.2.41", source=DNS_SERVICE.encode()), wire.ENDPOINT_NOT_FOUND),
    ],
    ids=["no name", "not a name", "not an address", "no source", "unknown source", "a Service"],
)
def test_a_refused_mapping_is_an_answer_and_no_broken_call(
    shim_lab: Lab, peer: ScriptedResolver, bad: wire.Report, response: int
) -> None:
    with nothing_learned(shim_lab):
        assert peer.report(bad) == response
    assert peer.report(report(fqdn="api.example.com.", ttl=wire.NEVER)) == wire.NO_ERROR


def test_what_is_no_message_is_an_error_of_that_call_alone(shim_lab: Lab, peer: ScriptedResolver) -> None:
    stream = peer.stream()
    stream.snapshot()
    with nothing_learned(shim_lab), pytest.raises(grpc.RpcError) as caught:
        peer._update(b"\x0a\xff\xff", timeout=5)
    assert caught.value.code() is not grpc.StatusCode.UNAVAILABLE
    assert peer.report(report(ttl=wire.NEVER)) == wire.NO_ERROR
    assert not stream.has_more


# --- TCP --------------------------------------------------------------------------------------------------


def test_the_port_is_on_the_loopback_alone(shim_lab: Lab) -> None:
    connected(shim_lab).close()
    node = shim_lab.node("n1")
    with (
        node.open_socket(socket.AF_INET, socket.SOCK_STREAM) as stranger,
        pytest.raises(ConnectionRefusedError),
    ):
        stranger.connect((str(node.address), 10095))


def test_without_the_setting_there_is_no_port(shim_lab: Lab) -> None:
    with pytest.raises(ConnectionRefusedError):
        connected(shim_lab, "n2")


@pytest.mark.parametrize("pod", ["free", "a"])
def test_no_pod_reaches_the_port_under_its_loopback_address(shim_lab: Lab, pod: str) -> None:
    """kube-proxy sets route_localnet: a packet to 127.0.0.1 from a pod's wire is taken (CVE-2020-8558)."""
    namespace = shim_lab.pod(pod).netns_fd()
    source = str(shim_lab.pod(pod).address)
    try:
        answered = netns.in_namespace(namespace, lambda: answers_to_syn(source, "127.0.0.1", 10095))
        alive = netns.in_namespace(namespace, lambda: answers_to_syn(source, DNS_POD, 9))
    finally:
        os.close(namespace)
    assert not answered
    assert alive or pod == "a"  # the way there and back works: a free pod's SYN to a closed port is reset
