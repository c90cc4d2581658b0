"""What a frame is about; whatever its bytes, reading it is no error."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from lab.capture.headers import Asked, Heads, heads


def frame(packet: Any) -> bytes:
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)


A, B = "10.244.0.2", "10.96.0.10"
QUESTION = DNSQR(qname="API.example.com", qtype="A")


def test_a_query_is_known_by_its_question_in_lower_case() -> None:
    query = frame(IP(src=A, dst=B) / UDP(sport=4000, dport=53) / DNS(qd=QUESTION))
    assert heads(query) == Heads(A, B, 17, 4000, 53, asked=Asked("api.example.com.", 1, is_answer=False))


def test_an_answer_is_known_as_one_over_tcp_too() -> None:
    message = bytes(DNS(qr=1, qd=QUESTION, an=DNSRR(rrname="api.example.com", rdata="192.0.2.1")))
    stream = TCP(sport=53, dport=4000, flags="PA") / (len(message).to_bytes(2, "big") + message)
    found = heads(frame(IP(src=B, dst=A) / stream))
    assert found is not None
    assert (found.asked, found.opens) == (Asked("api.example.com.", 1, is_answer=True), False)


def test_only_a_syn_opens_a_connection() -> None:
    opening = {flags: heads(frame(IP(src=A, dst=B) / TCP(flags=flags))) for flags in ("S", "SA", "A", "R")}
    assert [flags for flags, found in opening.items() if found and found.opens] == ["S"]


def test_icmp_and_ipv6_are_known_too() -> None:
    assert heads(frame(IP(src=A, dst=B) / ICMP(type=8))) == Heads(A, B, 1, 8)
    six = heads(frame(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2)))
    assert six == Heads("2001:db8::1", "2001:db8::2", 17, 1, 2)


def test_a_later_fragment_has_no_ports_to_go_by() -> None:
    assert heads(frame(IP(src=A, dst=B, frag=3, proto=17) / (b"x" * 40))) is None


@given(st.binary(max_size=120), st.integers(0, 200), st.booleans())
def test_no_bytes_are_an_error(noise: bytes, cut: int, whole: bool) -> None:
    query = frame(IP(src=A, dst=B) / UDP(sport=4000, dport=53) / DNS(qd=QUESTION))
    heads(noise if whole else query[:cut] + noise)
