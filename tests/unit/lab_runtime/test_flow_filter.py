"""Which flows are shown, and how a line of them reads."""

from __future__ import annotations

import dataclasses

import pytest

from acns.errors import InputError
from acns.telemetry.flows import (
    Direction,
    DNSMessage,
    DropReason,
    Event,
    Flow,
    L4Protocol,
    Layer4,
    Lost,
    Peer,
    PolicyRef,
    Verdict,
)
from lab.report import flows as report
from lab.runtime.flow_filter import FlowFilter

FRONTEND = Peer("10.244.0.2", 257, "default", "frontend", ("k8s:app=frontend",))
API = Peer("198.51.100.7", 2, labels=("reserved:world",), names=("api.example.com",))
DNS = Peer("10.96.0.10", 2, labels=("reserved:world",), service="kube-system/kube-dns")
DEFAULT_DENY = PolicyRef("CiliumNetworkPolicy", "frontend", "default", ("acns:default-deny=/m/f.yaml:3:1",))
DROP = Flow(
    time_ns=1_763_934_012_123_456_000,
    node="node1",
    verdict=Verdict.DROPPED,
    source=FRONTEND,
    destination=API,
    direction=Direction.EGRESS,
    event=Event.DROP,
    reason=DropReason.POLICY_DENIED,
    l4=Layer4(L4Protocol.TCP, 40000, 443, ("SYN",)),
    policies=(DEFAULT_DENY,),
    summary="TCP Flags: SYN",
)
REFUSED = dataclasses.replace(
    DROP,
    destination=DNS,
    l4=Layer4(L4Protocol.UDP, 0, 53),
    dns=DNSMessage("evil.example.org.", ("A",), rcode=5),
    policies=(dataclasses.replace(DEFAULT_DENY, labels=("acns:egress[0]=/m/f.yaml:8:5",)),),
    notes=("no name or pattern of its rules.dns matches",),
    summary="DNS Query evil.example.org. A, answered REFUSED",
)
LOST = Lost(DROP.time_ns, "node1", 12)


# --- filters ------------------------------------------------------------------------------------------------


def test_without_a_filter_everything_is_shown() -> None:
    assert all(FlowFilter.of().wants(record) for record in (DROP, REFUSED, LOST))


def test_a_pod_is_found_at_either_end() -> None:
    assert FlowFilter.of(pod="default/frontend").wants(DROP)
    answer = dataclasses.replace(DROP, source=API, destination=FRONTEND)
    assert FlowFilter.of(pod="default/frontend").wants(answer)
    assert not FlowFilter.of(pod="default/batch").wants(DROP)


@pytest.mark.parametrize("text", ["DROPPED", "dropped"])
def test_verdicts_are_told_apart(text: str) -> None:
    assert FlowFilter.of(verdict=text).wants(DROP)
    assert not FlowFilter.of(verdict=text).wants(dataclasses.replace(DROP, verdict=Verdict.FORWARDED))


@pytest.mark.parametrize(
    ("fqdn", "drop", "refused"),
    [
        ("api.example.com", True, False),
        ("API.Example.com.", True, False),
        ("*.example.com", True, False),
        ("*.example.*", True, True),
        ("evil*", False, True),
        ("evil.example.org", False, True),
        ("*", True, True),
        ("example.com", False, False),
        ("api.example.co", False, False),
        ("api-example.com", False, False),
    ],
)
def test_a_name_is_found_where_it_was_asked_for_and_behind_an_address(
    fqdn: str, drop: bool, refused: bool
) -> None:
    wanted = FlowFilter.of(fqdn=fqdn)
    assert (wanted.wants(DROP), wanted.wants(REFUSED)) == (drop, refused)


def test_a_dot_in_a_name_stands_for_a_dot() -> None:
    other = dataclasses.replace(DROP, destination=dataclasses.replace(API, names=("api-example.com",)))
    assert not FlowFilter.of(fqdn="api.example.com").wants(other)


def test_all_filters_must_hold() -> None:
    assert FlowFilter.of(pod="default/frontend", verdict="DROPPED", fqdn="api.*").wants(DROP)
    assert not FlowFilter.of(pod="default/frontend", verdict="ERROR", fqdn="api.*").wants(DROP)


def test_that_flows_were_lost_is_shown_whatever_is_asked_for() -> None:
    assert FlowFilter.of(pod="default/batch", verdict="ERROR", fqdn="x").wants(LOST)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"verdict": "DROPED"}, "did you mean 'DROPPED'?"),
        ({"verdict": ""}, "DROPPED"),
        ({"verdict": "VERDICT_UNKNOWN"}, "DROPPED"),
        ({"fqdn": ""}, "api.example.com"),
        ({"fqdn": "a b"}, "api.example.com"),
        ({"fqdn": "https://a.io"}, "api.example.com"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(wrong: dict[str, str], hint: str) -> None:
    with pytest.raises(InputError) as caught:
        FlowFilter.of(**wrong)
    assert hint in caught.value.hint


# --- lines --------------------------------------------------------------------------------------------------


def test_a_drop_says_who_to_whom_and_what_did_not_allow_it() -> None:
    assert report.text(DROP) == (
        "Nov 23 21:40:12.123: default/frontend:40000 (ID:257) -> 198.51.100.7:443 (world, api.example.com) "
        "egress POLICY_DENIED DROPPED (TCP Flags: SYN) [not allowed by default/frontend f.yaml:3]"
    )


def test_a_refused_name_says_which_rule_lacks_it() -> None:
    assert report.text(REFUSED, nodes=True) == (
        "Nov 23 21:40:12.123 [node1]: default/frontend (ID:257) -> 10.96.0.10:53 "
        "(world, service kube-system/kube-dns) dns-request DROPPED "
        "(DNS Query evil.example.org. A, answered REFUSED) "
        "[not allowed by default/frontend egress[0] f.yaml:8; no name or pattern of its rules.dns matches]"
    )


def test_a_deny_and_an_allow_name_their_rule() -> None:
    rule = dataclasses.replace(DEFAULT_DENY, labels=("k8s:x=y", "acns:egressDeny[1]=/m/f.yaml:20:5"))
    denied = dataclasses.replace(DROP, reason=DropReason.POLICY_DENY, policies=(rule,))
    assert report.text(denied).endswith("[denied by default/frontend egressDeny[1] f.yaml:20]")
    allowed = dataclasses.replace(denied, verdict=Verdict.FORWARDED, reason=DropReason.DROP_REASON_UNKNOWN)
    assert report.text(allowed).endswith(
        " egress FORWARDED (TCP Flags: SYN) [default/frontend egressDeny[1] f.yaml:20]"
    )


def test_the_opener_of_a_connection_stands_left() -> None:
    reply = dataclasses.replace(
        DROP, source=API, destination=FRONTEND, is_reply=True, l4=Layer4(L4Protocol.TCP, 443, 40000, ("ACK",))
    )
    assert "default/frontend:40000 (ID:257) <- 198.51.100.7:443 (world" in report.text(reply)


def test_of_many_names_the_first_are_said_and_the_rest_counted() -> None:
    names = tuple(f"n{number}.example.com" for number in range(5))
    many = dataclasses.replace(DROP, destination=dataclasses.replace(API, names=names))
    assert "(world, n0.example.com, n1.example.com, 3 names more)" in report.text(many)


def test_an_ipv6_address_is_told_from_its_port() -> None:
    v6 = dataclasses.replace(DROP, destination=Peer("2001:db8::7", 2, labels=("reserved:world",)))
    assert "-> [2001:db8::7]:443 (world)" in report.text(v6)


def test_lost_flows_are_counted() -> None:
    assert report.text(LOST) == "Nov 23 21:40:12.123: 12 flows were lost: more than could be taken in"


def test_nothing_in_a_flow_moves_the_readers_cursor() -> None:
    hostile = dataclasses.replace(
        REFUSED, summary="\x1b[2J\r\x9b", source=Peer("x", pod="\u202e\n", namespace="n"), notes=("\x07",)
    )
    line = report.text(hostile)
    assert line.isprintable()
    assert "[2J" in line


def test_colours_are_for_terminals() -> None:
    assert "\x1b[31mDROPPED\x1b[0m" in report.text(DROP, colours=True)
    assert "\x1b" not in report.text(DROP)
