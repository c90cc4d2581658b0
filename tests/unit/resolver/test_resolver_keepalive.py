"""The edns-tcp-keepalive option: who asks for it, and what is said."""

from __future__ import annotations

import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.dns import message
from acns.resolver import keepalive


def query(*options: dns.edns.Option) -> bytes:
    made = dns.message.make_query("www.example.com.", "A")
    made.use_edns(options=list(options))
    return made.to_wire()


ASKED = dns.edns.GenericOption(keepalive.OPTION, b"")
PADDING = dns.edns.GenericOption(12, b"\0\x0b\0\0")  # which looks like it


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (query(ASKED), True),
        (query(PADDING, ASKED), True),
        (query(PADDING), False),
        (query(), False),
        (dns.message.make_query("www.example.com.", "A").to_wire(), False),
    ],
)
def test_it_is_asked_by_the_option_alone(packet: bytes, expected: bool) -> None:
    assert keepalive.is_asked(packet) is expected


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_no_message_breaks_the_reader(before: bytes, behind: bytes) -> None:
    keepalive.is_asked(before + b"\0\x0b\0\0" + behind)
    packet = query(ASKED)
    keepalive.is_asked(packet[: len(before)] + b"\0\x0b\0\0" + packet[len(before) :] + behind)


@pytest.mark.parametrize(("timeout_ms", "units"), [(10_000, 100), (99, 0), (10**9, 65_535)])
def test_a_reply_of_ours_says_it_in_tenths_of_a_second(timeout_ms: int, units: int) -> None:
    reply = keepalive.with_timeout(message.reply_with_rcode(query(ASKED), 5), timeout_ms)
    read = dns.message.from_wire(reply)
    assert [option.to_wire() for option in read.options] == [units.to_bytes(2)]
    assert read.rcode() == 5


def test_a_reply_without_edns_stays_as_it_is() -> None:
    reply = message.reply_with_rcode(dns.message.make_query("www.example.com.", "A").to_wire(), 5)
    assert keepalive.with_timeout(reply, 10_000) == reply
