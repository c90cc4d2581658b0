"""Scenarios and evidence that the tests of this folder share."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import dns.message
import dns.rrset

from lab.repro.reading.evidence import Counts, End, Endpoint, Evidence, Flow, Message, Outcome
from lab.repro.scenario import load
from lab.repro.scenario.model import Scenario

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, k8s-app: kube-dns}}]
    toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*.example.com"}]}}]
  - toFQDNs: [{matchPattern: "*.example.com"}]
    toPorts: [{ports: [{port: "443", protocol: TCP}]}]
"""
MS = 1_000_000
START_NS = 1_700_000_000_000_000_000


def scenario(*steps: dict[str, Any], **more: Any) -> Scenario:
    """One pod, `client`, with `POLICY`, and the cluster's DNS server."""
    return Scenario.model_validate(
        {
            "scenario": "scene",
            "pods": [{"name": "client", "labels": {"app": "client"}}],
            "servers": [{"name": "kube-dns", "address": "10.96.0.10", "labels": {"k8s-app": "kube-dns"}}],
            "policies": [{"name": "client.yaml", "text": POLICY}],
            "steps": steps,
            **more,
        }
    )


def ask(name: str, *addresses: str, ttl: int = 60, at_ms: float = 0, **more: Any) -> dict[str, Any]:
    """A question that the server answers with these addresses."""
    records = [f"{name} {ttl} A {address}" for address in addresses]
    return {"at_ms": at_ms, "ask": f"{name} A", "answers": [{"after_ms": 1, "records": records}], **more}


def on_two_nodes(*steps: dict[str, Any], **more: Any) -> Scenario:
    """`client` and `near` on the first, `far` on the second; the same policy for all."""
    app = {"labels": {"app": "client"}}
    pods = [
        {"name": "client", "address": "10.244.0.5", **app},
        {"name": "near", "address": "10.244.0.6", **app},
        {"name": "far", "address": "10.244.1.5", "node": "east", **app},
    ]
    return scenario(*steps, nodes=["west", "east"], pods=pods, **more)


def learned_on_each() -> Scenario:
    """What one pod has looked up opens the address to its node's pods, and to nobody on another."""
    api = "198.51.100.1"
    away = {"at_ms": 60, "pod": "far", "connect": f"{api}:443"}
    return on_two_nodes(
        ask("api.example.com", api, pod="client", outcome=f"NOERROR {api}"),
        {"at_ms": 50, "pod": "near", "connect": f"{api}:443", "after": 1, "outcome": "established"},
        {**away, "outcome": "silent"},
        ask("api.example.com", api, at_ms=100, pod="far", after=3, outcome=f"NOERROR {api}"),
        {**away, "at_ms": 150, "after": 4, "outcome": "established"},
    )


def written(scene: Scenario) -> str:
    return load.dumps(scene)


# --- evidence -----------------------------------------------------------------------------------------------


def endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(IPv4Address(address), port)


class Recording:
    """What a capture would have shown; times in milliseconds."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.flows: list[Flow] = []

    def query(self, at_ms: float, source: str, server: str, name: str, *, port: int = 40_000, ident: int = 7,
              kind: str = "A") -> bytes:  # fmt: skip
        made = dns.message.make_query(name, kind, id=ident)
        self._add(at_ms, endpoint(source, port), endpoint(server, 53), made.to_wire())
        return bytes(made.to_wire())

    def answer(self, at_ms: float, query: bytes, server: str, source: str, *addresses: str, ttl: int = 60,
               port: int = 40_000, rcode: int = 0, ident: int | None = None) -> None:  # fmt: skip
        asked = dns.message.from_wire(query)
        made = dns.message.make_response(asked, recursion_available=True)
        made.set_rcode(rcode)
        if addresses:
            made.answer.append(dns.rrset.from_text(asked.question[0].name, ttl, "IN", "A", *addresses))
        if ident is not None:
            made.id = ident
        self._add(at_ms, endpoint(server, 53), endpoint(source, port), made.to_wire())

    def flow(self, at_ms: float, source: str, target: str, port: int, outcome: Outcome = Outcome.ESTABLISHED,
             *, syns_ms: tuple[float, ...] = (0,), answered_ms: float | None = 1, lasts_ms: float = 2,
             end: End = End.CLOSED, octets: int = 0) -> None:  # fmt: skip
        first = START_NS + int(at_ms * MS)
        last = first + int(lasts_ms * MS)
        self.flows.append(
            Flow(
                protocol="tcp",
                client=endpoint(source, 50_000 + len(self.flows)),
                server=endpoint(target, port),
                outcome=outcome,
                end=end,
                first_ns=first,
                last_ns=last,
                syns_ns=tuple(first + int(one * MS) for one in syns_ms),
                answered_ns=None if answered_ms is None else first + int(answered_ms * MS),
                ended_ns=last if end is End.CLOSED else None,
                bytes_sent=octets,
                bytes_received=octets,
                packets=3,
                resent=0,
                tap=None,
                frame=1,
            )
        )

    def evidence(self, **more: Any) -> Evidence:
        times = [one.at_ns for one in self.messages] + [one.first_ns for one in self.flows]
        value: dict[str, Any] = {
            "messages": tuple(sorted(self.messages, key=lambda one: one.at_ns)),
            "flows": tuple(sorted(self.flows, key=lambda one: one.first_ns)),
            "troubles": (),
            "names": {},
            "taps": (),
            "decisions": (),
            "counts": Counts(frames=len(self.messages), ipv4=len(self.messages)),
            "first_ns": min(times, default=START_NS),
            "last_ns": max(times, default=START_NS),
        }
        return Evidence(**{**value, **more})

    def _add(self, at_ms: float, source: Endpoint, destination: Endpoint, payload: bytes) -> None:
        at_ns = START_NS + int(at_ms * MS)
        frames = (len(self.messages) + 1,)
        self.messages.append(Message(at_ns, None, "udp", source, destination, payload, len(payload), frames))
