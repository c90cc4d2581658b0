"""What the agents decided, in a sentence for the packet that it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from acns.telemetry import dns_flows
from acns.telemetry.flows import Flow, Peer
from lab.capture import decisions

NAME, ADDRESS = "api.example.com.", "192.0.2.7"
A, AAAA = 1, 28


@dataclass
class Flows:
    """A source of these lines of a resolver's journal."""

    lines: list[Mapping[str, Any]]
    unreadable: int = 0

    def new(self) -> list[Flow]:
        found = [dns_flows.from_journal(line, "node1", lambda address: Peer(address)) for line in self.lines]
        return [one for one in found if one is not None]


def about(kind: int, ts: float, event: str, **more: object) -> dict[str, object]:
    same = {"agent": "resolver", "endpoint": 2, "source": "10.244.0.2", "server": "10.96.0.10:53"}
    return {"ts": ts, "event": event, **same, "transport": "udp", "name": NAME, "type": kind, **more}


def answer(kind: int, ts: float, outcome: str, *addresses: str) -> dict[str, object]:
    more = {"outcome": outcome, "reason": "", "rcode": 0, "addresses": addresses, "ttl": 60}
    return about(kind, ts, "dns.answer", **more)


def test_a_query_is_credited_with_what_its_own_answer_has_opened() -> None:
    """A and AAAA at one time: from the latter nothing is learned, though it is answered later."""
    asked = [about(kind, 1.0, "dns.query", verdict="forward") for kind in (A, AAAA)]
    answered = [answer(A, 1.2, "learned", ADDRESS), answer(AAAA, 1.3, "plain")]
    sent = {"event": "mapping.sent", "name": NAME, "addresses": [ADDRESS], "ttl": 60, "outcome": "committed"}
    journal = json.dumps({"ts": 1.1, "agent": "resolver", **sent}).encode()
    found = decisions.gather([("node1", journal)], [Flows([*asked, *answered])]).about_packets
    opened = {one.text.split(" ")[2]: "set +" in one.text for one in found if one.claim == "query"}
    assert opened == {"A": True, "AAAA": False}
