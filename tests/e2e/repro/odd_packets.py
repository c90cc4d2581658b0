"""Packets that no socket sends, as somebody's broken client or scanner did: octets, made by scapy."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.packet import Packet, Raw

from lab.repro.scenario.model import Scenario

from ...unit.lab_repro.scenes import POLICY

CLIENT, FREE, DNS, OPEN = "10.244.0.2", "10.244.0.3", "10.96.0.10", "198.51.100.10"
LOOP = bytes.fromhex("0100000100000000 0000 03617069 c00c 00010001".replace(" ", ""))
"""A query without its ID whose name leads to its own beginning (RFC 1035 section 4.1.4)."""
PLAIN = bytes.fromhex("010000010000000000000361706907657861 6d706c6503636f6d0000010001".replace(" ", ""))
"""The question for api.example.com A, without its ID."""


def datagram(payload: bytes, *, port: int, ident: int) -> Packet:
    return IP(src=CLIENT, dst=DNS, id=ident) / UDP(sport=port, dport=53) / Raw(payload)


def segment(flags: str, *, port: int, ident: int, by: str = CLIENT) -> Packet:
    return IP(src=by, dst=OPEN, id=ident) / TCP(sport=port, dport=443, flags=flags, seq=1_000)


def as_hex(*packets: Packet) -> list[str]:
    return [bytes(packet).hex() for packet in packets]


def story() -> Scenario:
    """A loop in a name; a query in fragments; SYN and FIN at once, and no flags at all, to an
    address that is open, where nobody listens; the same from a pod that no policy selects."""
    answers = [{"after_ms": 1, "records": [f"api.example.com 60 A {OPEN}"]}]
    pieces = fragment(datagram(b"\0\7" + PLAIN, port=41_002, ident=702), fragsize=24)
    steps: list[dict[str, Any]] = [
        {"ask": "api.example.com A", "answers": answers},
        {
            "at_ms": 100,
            "query": LOOP.hex(),
            "wire": as_hex(datagram(b"\0\6" + LOOP, port=41_001, ident=701)),
            "after": 1,
        },
        {"at_ms": 200, "ask": "api.example.com A", "answers": answers, "wire": as_hex(*pieces), "after": 2},
        {"at_ms": 300, "wire": as_hex(segment("SF", port=41_003, ident=703)), "after": 3},
        {"at_ms": 400, "wire": as_hex(segment("", port=41_004, ident=704)), "after": 3},
        {
            "at_ms": 500,
            "pod": "free",
            "wire": as_hex(segment("SF", port=41_005, ident=705, by=FREE)),
            "after": 3,
        },
    ]
    return Scenario.model_validate(
        {
            "scenario": "odd-packets",
            "pods": [
                {"name": "client", "address": CLIENT, "labels": {"app": "client"}},
                {"name": "free", "address": FREE},
            ],
            "servers": [{"name": "kube-dns", "address": DNS, "labels": {"k8s-app": "kube-dns"}}],
            "policies": [{"name": "client.yaml", "text": POLICY}],
            "steps": [{"pod": "client", **step} for step in steps],
        }
    )
