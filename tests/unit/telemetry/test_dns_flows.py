"""From the resolver's journal to flows."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.telemetry import dns_flows, flow_json
from acns.telemetry.flow_reading import BadFlow
from acns.telemetry.flows import (
    Direction,
    DNSMessage,
    DropReason,
    Event,
    Flow,
    L4Protocol,
    Layer4,
    Peer,
    Verdict,
)

POD = Peer("10.244.0.2", 257, "default", "frontend")
SERVER = Peer("10.96.0.10", 2, service="kube-system/kube-dns")
QUERY = {
    "ts": 12.5,
    "agent": "resolver",
    "event": "dns.query",
    "endpoint": 3,
    "source": "10.244.0.2",
    "server": "10.96.0.10:53",
    "transport": "udp",
    "name": "api.example.com.",
    "type": 1,
    "verdict": "forward",
}
REFUSED = QUERY | {"verdict": "reply", "reason": "denied", "rcode": 5, "name": "evil.example.org."}
ANSWER = QUERY | {
    "event": "dns.answer",
    "outcome": "learned",
    "reason": "",
    "rcode": 0,
    "addresses": ["198.51.100.10", "198.51.100.11"],
    "ttl": 60,
}
del ANSWER["verdict"]


def who(address: str) -> Peer:
    return {"10.244.0.2": POD, "10.96.0.10": SERVER}[address]


def flow(line: dict[str, Any]) -> Flow:
    found = dns_flows.from_journal(line, "node1", who)
    assert found is not None
    return found


def test_a_query_that_goes_on_is_forwarded() -> None:
    assert flow(QUERY) == Flow(
        time_ns=12_500_000_000,
        node="node1",
        verdict=Verdict.FORWARDED,
        source=POD,
        destination=SERVER,
        direction=Direction.EGRESS,
        event=Event.L7,
        is_reply=False,
        l4=Layer4(L4Protocol.UDP, destination_port=53),
        dns=DNSMessage("api.example.com.", ("A",)),
        summary="DNS Query api.example.com. A",
    )


def test_a_refused_name_is_a_dropped_query_that_says_what_the_pod_heard() -> None:
    refused = flow(REFUSED)
    assert (refused.verdict, refused.reason) == (Verdict.DROPPED, DropReason.POLICY_DENIED)
    assert refused.dns == DNSMessage("evil.example.org.", ("A",), rcode=5)
    assert refused.summary == "DNS Query evil.example.org. A, answered REFUSED"


def test_an_answer_goes_from_the_server_to_the_pod() -> None:
    answer = flow(ANSWER)
    assert (answer.source, answer.destination, answer.is_reply) == (SERVER, POD, True)
    assert answer.l4 == Layer4(L4Protocol.UDP, source_port=53)
    assert answer.dns == DNSMessage(
        "api.example.com.", ("A",), True, addresses=("198.51.100.10", "198.51.100.11"), ttl_s=60
    )
    assert answer.summary == "DNS Answer 198.51.100.10,198.51.100.11 TTL: 60 (api.example.com. A)"


@pytest.mark.parametrize(
    ("changed", "verdict", "notes"),
    [
        ({"outcome": "plain", "rcode": 3, "addresses": []}, Verdict.FORWARDED, ()),
        ({"outcome": "learned"}, Verdict.FORWARDED, ("learned",)),
        ({"outcome": "unprogrammed"}, Verdict.FORWARDED, ("unprogrammed",)),
        ({"outcome": "silent", "rcode": None}, Verdict.ERROR, ("silent",)),
        ({"outcome": "servfail", "reason": "refused"}, Verdict.ERROR, ("servfail", "refused")),
    ],
)
def test_what_became_of_an_answer_is_said(
    changed: dict[str, Any], verdict: Verdict, notes: tuple[str, ...]
) -> None:
    found = flow(ANSWER | changed)
    assert (found.verdict, found.notes) == (verdict, notes)


@pytest.mark.parametrize(
    ("changed", "verdict", "reason"),
    [
        ({"reason": "unknown-source", "rcode": 2}, Verdict.ERROR, DropReason.DROP_REASON_UNKNOWN),
        ({"verdict": "over-budget", "reason": None}, Verdict.ERROR, DropReason.DROP_REASON_UNKNOWN),
        (
            {"verdict": "drop", "reason": "malformed", "name": None, "type": None},
            Verdict.DROPPED,
            DropReason.INVALID_PACKET_DROPPED,
        ),
    ],
)
def test_a_query_that_fails_for_another_reason_than_policy_is_told_from_a_refused_one(
    changed: dict[str, Any], verdict: Verdict, reason: DropReason
) -> None:
    found = flow(REFUSED | changed)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.notes


def test_types_without_a_name_are_numbered() -> None:
    assert flow(QUERY | {"type": 65_280}).dns == DNSMessage("api.example.com.", ("TYPE65280",))


@pytest.mark.parametrize(
    "line",
    [
        {"ts": 1.0, "event": "mapping.sent"},
        {"ts": 1.0, "event": "dns.ignored", "server": "10.96.0.10:53"},
        {"ts": 1.0, "event": "dns.answer", "outcome": "send-error", "source": "10.244.0.2"},
    ],
)
def test_other_events_are_no_flows(line: dict[str, Any]) -> None:
    assert dns_flows.from_journal(line, "node1", who) is None


@given(
    st.sampled_from([QUERY, REFUSED, ANSWER]),
    st.sampled_from(sorted(QUERY | ANSWER)),
    st.none() | st.text(max_size=5) | st.integers() | st.floats() | st.lists(st.integers(), max_size=2),
)
def test_a_damaged_line_is_a_flow_or_refused_as_none(line: dict[str, Any], field: str, value: Any) -> None:
    with contextlib.suppress(BadFlow):
        found = dns_flows.from_journal(line | {field: value}, "node1", Peer)
        assert found is None or flow_json.line(found)
