"""The resolver and an agent written from the contract alone, over both transports."""

from __future__ import annotations

import threading

import grpc
import pytest

from ..resolver.resolver_world import quiet, rcode
from . import plain_wire as wire
from .peers import WAIT_S, until
from .resolver_bench import (
    DNS_IDENTITY,
    ENDPOINT,
    FORWARDED,
    IDENTITY,
    OTHER_ENDPOINT,
    OTHER_POD,
    OTHER_SERVER,
    POD,
    REFUSED,
    SERVER,
    SERVFAIL,
    Bench,
    rule,
    snapshot,
)

WWW, OTHER_NAME = "www.example.com.", "www.example.org."


# --- policy -----------------------------------------------------------------------------------------------


def test_policy_is_taken_and_acknowledged_by_its_id(bench: Bench) -> None:
    first = snapshot("*.example.com")
    bench.start(first)
    assert bench.agent.acknowledgements.get(timeout=WAIT_S) == (wire.NO_ERROR, first.request_id)
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [FORWARDED, REFUSED]


def test_a_snapshot_without_an_id_is_acknowledged_without_one(bench: Bench) -> None:
    bench.start(snapshot("*.example.com", request_id=""))
    assert bench.agent.acknowledgements.get(timeout=WAIT_S) == (wire.NO_ERROR, "")
    assert bench.outcome(WWW) == FORWARDED


def test_an_endpoint_without_patterns_may_ask_for_every_name_and_the_others_may_not(bench: Bench) -> None:
    both = rule("*.example.com", endpoint=OTHER_ENDPOINT)
    base = snapshot()
    bench.start(wire.Snapshot((*base.rules, both), base.endpoints, base.prefixes))
    for name in (WWW, OTHER_NAME, "."):
        assert bench.outcome(name) == FORWARDED
    assert [bench.outcome(name, pod=OTHER_POD) for name in (WWW, OTHER_NAME)] == [FORWARDED, REFUSED]


def test_an_empty_snapshot_is_a_policy_that_knows_nobody(bench: Bench) -> None:
    bench.start(b"", fresh=True)
    assert bench.agent.acknowledgements.get(timeout=WAIT_S) == (wire.NO_ERROR, "")
    assert bench.outcome(WWW) == SERVFAIL
    bench.agent.put(snapshot("*.example.com"))
    assert bench.outcome(WWW) == FORWARDED
    bench.agent.publish(b"")
    until(lambda: bench.outcome(WWW) == SERVFAIL, "the policy is gone")


def test_a_rule_that_is_missing_from_a_snapshot_is_gone(bench: Bench) -> None:
    both = snapshot("*.example.com")
    bench.start(both)
    bench.agent.acknowledgements.get(timeout=WAIT_S)
    bench.agent.put(wire.Snapshot((rule("*.example.org"),), both.endpoints, both.prefixes))
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [REFUSED, FORWARDED]
    bench.agent.put(wire.Snapshot((), both.endpoints, both.prefixes))
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [REFUSED, REFUSED]


def test_endpoints_that_share_an_identity_have_rules_of_their_own(bench: Bench) -> None:
    base = snapshot("*.example.com")
    other = rule("*.example.org", endpoint=OTHER_ENDPOINT)
    bench.start(wire.Snapshot((*base.rules, other), base.endpoints, base.prefixes))
    assert [bench.outcome(name, pod=POD) for name in (WWW, OTHER_NAME)] == [FORWARDED, REFUSED]
    assert [bench.outcome(name, pod=OTHER_POD) for name in (WWW, OTHER_NAME)] == [REFUSED, FORWARDED]


def test_entries_of_one_endpoint_and_of_one_identity_add_up(bench: Bench) -> None:
    base = snapshot("*.example.com")
    twice = chunked_endpoints(base)
    bench.start(wire.Snapshot((*base.rules, rule("*.example.org")), {}, base.prefixes, more=twice))
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [FORWARDED, FORWARDED]


def chunked_endpoints(base: wire.Snapshot) -> bytes:
    """Each endpoint in an entry of its own, under the same identity."""
    parts = [
        wire.Snapshot((), {identity: {id_: addresses}}, {}, request_id="").encoded()
        for identity, endpoints in base.endpoints.items()
        for id_, addresses in endpoints.items()
    ]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("prefixes", "outcomes"),
    [
        ({DNS_IDENTITY: ["0.0.0.0/0"]}, [FORWARDED, FORWARDED]),
        ({DNS_IDENTITY: ["0.0.0.0/0"], 5000: [f"{OTHER_SERVER}/32"]}, [FORWARDED, REFUSED]),
        ({5000: ["0.0.0.0/0"], DNS_IDENTITY: ["10.96.0.8/30"]}, [FORWARDED, FORWARDED]),
        ({5000: ["10.0.0.0/8"], DNS_IDENTITY: [f"{SERVER}/32", "10.96.0.0/30"]}, [FORWARDED, REFUSED]),
        ({5000: ["0.0.0.0/0"]}, [REFUSED, REFUSED]),
        ({}, [REFUSED, REFUSED]),
    ],
    ids=["everywhere", "but one", "a network", "longest wins", "another's", "none"],
)
def test_a_server_has_the_identity_of_the_longest_prefix_around_it(
    bench: Bench, prefixes: dict[int, list[str]], outcomes: list[int]
) -> None:
    base = snapshot("*.example.com")
    raw = {identity: [wire.prefix(one) for one in networks] for identity, networks in prefixes.items()}
    bench.start(wire.Snapshot(base.rules, base.endpoints, raw))
    assert [bench.outcome(WWW, server) for server in (SERVER, OTHER_SERVER)] == outcomes


def test_a_server_in_no_prefix_is_the_world(bench: Bench) -> None:
    base = snapshot("*.example.com", identity=2, prefixes=())
    bench.start(base)
    assert bench.outcome(WWW) == FORWARDED


def test_a_server_that_is_an_endpoint_has_that_identity(bench: Bench) -> None:
    base = snapshot("*.example.com")
    endpoints = {
        **base.endpoints,
        5000: {9: [wire.raw(SERVER)]},
        DNS_IDENTITY: {10: [wire.raw(OTHER_SERVER)]},
    }
    bench.start(wire.Snapshot(base.rules, endpoints, {DNS_IDENTITY: [wire.prefix("0.0.0.0/0")]}))
    assert [bench.outcome(WWW, server) for server in (SERVER, OTHER_SERVER)] == [REFUSED, FORWARDED]


def test_identity_zero_is_any_server(bench: Bench) -> None:
    base = snapshot("*.example.com")
    bench.start(wire.Snapshot((rule("*.example.com", identity=0),), base.endpoints, base.prefixes))
    assert [bench.outcome(WWW, server) for server in (SERVER, OTHER_SERVER)] == [FORWARDED, FORWARDED]
    assert bench.outcome(OTHER_NAME) == REFUSED


@pytest.mark.parametrize(
    "address", [POD.encode(), bytes(10) + b"\xff\xff" + wire.raw(POD)], ids=["text", "Go's sixteen bytes"]
)
def test_an_endpoints_address_may_come_in_another_form(bench: Bench, address: bytes) -> None:
    base = snapshot("*.example.com")
    addresses = [wire.raw("2001:db8::5"), address]
    bench.start(wire.Snapshot(base.rules, {IDENTITY: {ENDPOINT: addresses}}, base.prefixes))
    assert bench.outcome(WWW) == FORWARDED


def test_a_servers_prefix_may_come_in_gos_sixteen_bytes(bench: Bench) -> None:
    base = snapshot("*.example.com")
    prefix = bytes(10) + b"\xff\xff" + wire.raw(SERVER) + b"\x80"
    bench.start(wire.Snapshot(base.rules, base.endpoints, {DNS_IDENTITY: [prefix]}))
    assert [bench.outcome(WWW, server) for server in (SERVER, OTHER_SERVER)] == [FORWARDED, REFUSED]


def test_fields_of_newer_peers_and_ipv6_are_tolerated(bench: Bench) -> None:
    base = snapshot("*.example.com")
    newer = wire.chunk(5, b"\x08\x01") + wire.number(1000, 3)
    prefixes = {DNS_IDENTITY: [wire.raw("2001:db8::") + b"\x20", *base.prefixes[DNS_IDENTITY]]}
    bench.start(wire.Snapshot(base.rules, base.endpoints, prefixes, more=newer))
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [FORWARDED, REFUSED]


@pytest.mark.parametrize(
    "bad",
    [
        snapshot("*.example.org", "no pattern!"),
        wire.Snapshot((rule("*.example.org"),), {IDENTITY: {ENDPOINT: [b"\x01\x02\x03"]}}, {}),
        wire.Snapshot(
            snapshot("*.example.org").rules, snapshot().endpoints, {DNS_IDENTITY: [b"\0\0\0\0\x21"]}
        ),
    ],
    ids=["pattern", "address", "prefix"],
)
def test_a_snapshot_that_cannot_be_understood_changes_nothing_and_is_refused(
    bench: Bench, bad: wire.Snapshot
) -> None:
    bench.start(snapshot("*.example.com"))
    bench.agent.acknowledgements.get(timeout=WAIT_S)
    bench.agent.publish(bad)
    assert bench.agent.acknowledgements.get(timeout=WAIT_S) == (wire.INVALID_ARGUMENT, bad.request_id)
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [FORWARDED, REFUSED]
    bench.agent.put(snapshot("*.example.org"))
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [REFUSED, FORWARDED]


@pytest.mark.parametrize("bad", [b"\x0a\xff\xff", b"\x0a\x05\x08\x01\x12\x01\xff"], ids=["message", "UTF-8"])
def test_a_snapshot_that_cannot_be_decoded_changes_nothing_and_is_refused(bench: Bench, bad: bytes) -> None:
    bench.start(snapshot("*.example.com"))
    bench.agent.acknowledgements.get(timeout=WAIT_S)
    streams = bench.agent.streams
    bench.agent.publish(bad)
    assert bench.agent.acknowledgements.get(timeout=WAIT_S) == (wire.FORMAT_ERROR, "")
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [FORWARDED, REFUSED]
    bench.agent.put(snapshot("*.example.org"))
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [REFUSED, FORWARDED]
    assert bench.agent.streams == streams


def test_an_agent_that_does_not_wait_for_acknowledgements_is_followed_to_its_last_word(bench: Bench) -> None:
    bench.start(snapshot("*.example.com"))
    bench.agent.waits_for_acknowledgement = False
    bench.agent.reopen()
    many = [snapshot(f"n{number}.example.com", request_id=str(number)) for number in range(20)]
    bench.agent.publish(*many)
    acknowledged = [""]
    while acknowledged[-1] != many[-1].request_id:
        acknowledged.append(bench.agent.acknowledgements.get(timeout=WAIT_S)[1])
    assert acknowledged[-20:] == [one.request_id for one in many]
    assert [bench.outcome(f"n{number}.example.com.") for number in (18, 19)] == [REFUSED, FORWARDED]


# --- the stream's end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("politely", [True, False])
def test_a_stream_that_ends_is_opened_again_and_the_policy_stays(bench: Bench, politely: bool) -> None:
    bench.start(snapshot("*.example.com"))
    if politely:
        bench.agent.end_streams.set()
        until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
    else:
        bench.agent.stop()
        until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [FORWARDED, REFUSED]
    bench.agent.publish(snapshot("*.example.org"))
    bench.agent.end_streams.clear()
    if not politely:
        bench.agent.start()
    bench.wait_connected()
    assert [bench.outcome(name) for name in (WWW, OTHER_NAME)] == [REFUSED, FORWARDED]


# --- mappings ---------------------------------------------------------------------------------------------


def test_a_mapping_is_reported_as_real_agents_read_it(bench: Bench) -> None:
    bench.start(snapshot("*.example.com"))
    assert rcode(bench.resolved("WWW.Example.com.", "192.0.2.7", ttl=300).recv(4096)) == 0
    assert bench.agent.reports.get(timeout=WAIT_S) == wire.Report(
        "www.example.com.", (b"192.0.2.7",), 300, POD.encode(), IDENTITY, 0
    )


def test_an_update_call_has_a_deadline_and_a_hung_agent_holds_no_answer_longer(bench: Bench) -> None:
    bench.start(snapshot("*.example.com"), commit_timeout_ms=500)
    hung = threading.Event()
    bench.agent.behaviour = lambda report, context: (hung.wait(WAIT_S), wire.response(wire.NO_ERROR))[1]
    client = bench.resolved(WWW, "192.0.2.7")
    bench.agent.reports.get(timeout=WAIT_S)
    assert bench.agent.time_left_s is not None
    assert 0 < bench.agent.time_left_s < 1  # gRPC carries a deadline rounded up, so not exactly 0.5
    assert quiet(client)
    assert rcode(client.recv(4096)) == 0
    hung.set()
    again = bench.agent.reports.get(timeout=WAIT_S)
    assert again.record_ip == (b"192.0.2.7",)


def by_status(report: wire.Report, context: grpc.ServicerContext) -> bytes:
    """As Cilium's agent does: a plain Go error is status UNKNOWN."""
    context.abort(grpc.StatusCode.UNKNOWN, "endpoint not found for IP: 10.244.0.5")
    raise AssertionError


@pytest.mark.parametrize(
    "refuse",
    [
        by_status,
        *(lambda report, context, code=code: wire.response(code) for code in (0, 2, 3, 4, 5, 6, 7, 99)),
        lambda report, context: b"\xff\xff\xff",
    ],
    ids=["status", "0", "2", "3", "4", "5", "6", "7", "of a newer peer", "no message"],
)
def test_an_error_of_the_agent_is_no_lost_connection(bench: Bench, refuse: object) -> None:
    bench.start(snapshot("*.example.com"))
    bench.agent.behaviour = refuse  # type: ignore[assignment]
    assert rcode(bench.resolved(WWW, "192.0.2.7").recv(4096)) == SERVFAIL
    streams = bench.agent.streams
    waiting = bench.resolver.metric("acns_mappings_waiting")
    bench.agent.behaviour = lambda report, context: wire.response(wire.NO_ERROR)
    assert rcode(bench.resolved(WWW, "192.0.2.7").recv(4096)) == 0
    assert (waiting, bench.agent.streams) == (0, streams)


def test_a_lost_connection_keeps_the_mapping_for_the_next_agent(bench: Bench) -> None:
    bench.start(snapshot("*.example.com"))
    bench.agent.stop()
    until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
    assert rcode(bench.resolved(WWW, "192.0.2.7").recv(4096)) == 0
    bench.agent.start()
    assert bench.agent.reports.get(timeout=WAIT_S).record_ip == (b"192.0.2.7",)
