"""From the resolver's journal to flows: what a pod asked the DNS, and what came of it.

As in Hubble a query is a flow from the pod to the server, its answer one from the server to the pod; a name
that policy refuses is a query that was dropped, whatever reply the pod got. The resolver does not know pods,
only their addresses: `who` says who they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from acns.dns import types
from acns.telemetry.flow_reading import BadFlow
from acns.telemetry.flows import (
    Direction,
    DNSMessage,
    DropReason,
    Flow,
    L4Protocol,
    Layer4,
    Peer,
    Verdict,
)
from acns.telemetry.flows import Event as Origin
from acns.telemetry.journal import Event

Who = Callable[[str], Peer]
"""Who is at an address."""

_YEAR_10000_S: Final = 253_402_300_800
_RCODES: Final = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_UNREADABLE: Final = frozenset({"malformed", "not-a-query", "opcode", "not-one-question", "class"})
_TROUBLE: Final = frozenset({"servfail", "silent", "abandoned"})


def from_journal(line: Mapping[str, Any], node: str, who: Who) -> Flow | None:
    """The flow of a journal line; None when it is about something else. Raises BadFlow for what the resolver
    cannot have written."""
    try:
        if line["event"] == Event.DNS_QUERY:
            return _query(line, node, who)
        if line["event"] == Event.DNS_ANSWER and "name" in line:
            return _answer(line, node, who)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadFlow(f"no line of the resolver's: {error!r}") from error
    return None


def _query(line: Mapping[str, Any], node: str, who: Who) -> Flow:
    reason = str(line.get("reason") or "")
    rcode = int(line.get("rcode") or 0)
    asked = _message(line)
    flow = _flow(line, node, who, Verdict.FORWARDED, replace(asked, rcode=rcode))
    if line["verdict"] == "forward":
        return flow
    if reason == "denied":
        flow = replace(flow, verdict=Verdict.DROPPED, reason=DropReason.POLICY_DENIED)
    elif reason in _UNREADABLE:
        flow = replace(
            flow, verdict=Verdict.DROPPED, reason=DropReason.INVALID_PACKET_DROPPED, notes=(reason,)
        )
    else:
        flow = replace(flow, verdict=Verdict.ERROR, notes=(reason or str(line["verdict"]),))
    reply = f", answered {_rcode(rcode)}" if rcode else ""
    return replace(flow, summary=flow.summary + reply)


def _answer(line: Mapping[str, Any], node: str, who: Who) -> Flow:
    outcome, reason = str(line["outcome"]), str(line.get("reason") or "")
    message = replace(
        _message(line),
        is_answer=True,
        rcode=int(line.get("rcode") or 0),
        addresses=tuple(map(str, line.get("addresses") or ())),
        ttl_s=int(line.get("ttl") or 0),
    )
    verdict = Verdict.ERROR if outcome in _TROUBLE else Verdict.FORWARDED
    flow = _flow(line, node, who, verdict, message)
    l4 = flow.l4
    return replace(
        flow,
        source=flow.destination,
        destination=flow.source,
        is_reply=True,
        l4=replace(l4, source_port=l4.destination_port, destination_port=0) if l4 else None,
        notes=tuple(note for note in (outcome if outcome != "plain" else "", reason) if note),
    )


def _flow(line: Mapping[str, Any], node: str, who: Who, verdict: Verdict, message: DNSMessage) -> Flow:
    address, _, port = str(line["server"]).rpartition(":")
    return Flow(
        time_ns=_time_ns(line["ts"]),
        node=node,
        verdict=verdict,
        source=who(str(line["source"])),
        destination=who(address),
        direction=Direction.EGRESS,
        event=Origin.L7,
        is_reply=False,
        l4=Layer4(L4Protocol(str(line["transport"]).upper()), destination_port=int(port)),
        dns=message,
        summary=_summary(message),
    )


def _time_ns(time_s: object) -> int:
    if not isinstance(time_s, float | int) or not 0 <= time_s < _YEAR_10000_S:
        raise ValueError(f"{time_s!r} is no time")
    return round(time_s * 1_000_000) * 1_000


def _message(line: Mapping[str, Any]) -> DNSMessage:
    qtype = line.get("type")
    return DNSMessage(
        query=str(line["name"] or ""),
        qtypes=() if qtype is None else (types.text(int(qtype)),),
    )


def _rcode(number: int) -> str:
    return _RCODES.get(number, f"RCODE{number}")


def _summary(message: DNSMessage) -> str:
    """In Cilium's words (`pkg/hubble/parser/seven/dns.go`), a little shorter."""
    asked = f"{message.query or 'unreadable'} {','.join(message.qtypes)}".rstrip()
    if not message.is_answer:
        return f"DNS Query {asked}"
    said = f"RCode: {_rcode(message.rcode)}" if message.rcode else ",".join(message.addresses) or "no address"
    return f"DNS Answer {said}{f' TTL: {message.ttl_s}' if message.ttl_s else ''} ({asked})"
