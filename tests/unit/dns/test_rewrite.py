"""AAAA records taken out of answers, and answers cut down to TC."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.rrset
import pytest

from acns.dns import message, name, rewrite, wire
from acns.dns.message import MalformedDNS

ASKED = "www.example.com."


def response(*answers: str, authority: tuple[str, ...] = (), rcode: int = 0, edns: bool = True) -> bytes:
    made = dns.message.make_response(dns.message.make_query(ASKED, "AAAA", use_edns=0 if edns else -1))
    made.set_rcode(dns.rcode.Rcode(rcode))
    made.flags |= dns.flags.AD
    for section, records in ((made.answer, answers), (made.authority, authority)):
        for record in records:
            owner, ttl, rdclass, kind, rdata = record.split(" ", 4)
            section.append(dns.rrset.from_text(owner, int(ttl), rdclass, kind, rdata))
    return made.to_wire()


ALIAS = "www.example.com. 60 IN CNAME edge.example.com."
V6 = "edge.example.com. 60 IN AAAA 2001:db8::1"
SOA = "example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 5"
SIGNATURE = "edge.example.com. 60 IN RRSIG {} 8 3 60 20300101000000 20200101000000 1 example.com. AAAA"


def test_an_answer_without_aaaa_is_handed_back_as_it_is() -> None:
    packet = response(ALIAS, authority=(SOA,), rcode=3)
    assert message.without_aaaa(packet) is packet


def test_aaaa_records_and_their_signatures_go_and_all_else_stays() -> None:
    packet = response(
        ALIAS,
        V6,
        SIGNATURE.format("AAAA"),
        SIGNATURE.format("A"),
        "edge.example.com. 60 IN A 192.0.2.1",
        authority=(SOA, "example.com. 60 IN NS edge.example.com."),
    )
    left = dns.message.from_wire(message.without_aaaa(packet))
    assert [str(rrset) for rrset in left.answer] == [
        ALIAS,
        SIGNATURE.format("A"),
        "edge.example.com. 60 IN A 192.0.2.1",
    ]
    assert [str(rrset) for rrset in left.authority] == [SOA, "example.com. 60 IN NS edge.example.com."]
    assert left.question == dns.message.from_wire(packet).question
    assert left.edns == 0
    assert left.id == dns.message.from_wire(packet).id


def test_an_nxdomain_stays_one() -> None:
    assert dns.message.from_wire(message.without_aaaa(response(V6, authority=(SOA,), rcode=3))).rcode() == 3


def test_what_was_changed_does_not_claim_to_be_authentic() -> None:
    assert not dns.message.from_wire(message.without_aaaa(response(V6))).flags & dns.flags.AD


def test_the_question_keeps_its_case() -> None:
    packet = response(V6).replace(b"\x03www", b"\x03wWw")
    assert b"\x03wWw\x07example\x03com\x00\x00\x1c" in message.without_aaaa(packet)


def test_a_name_compressed_against_a_removed_record_is_written_out() -> None:
    # The SOA's names lean on the AAAA record's owner, the SRV's (against the rules) on its owner too.
    packet = response(
        "far.away.example.org. 60 IN AAAA 2001:db8::1",
        "www.example.com. 60 IN SRV 1 2 3 far.away.example.org.",
        authority=("away.example.org. 60 IN SOA far.away.example.org. h.example.org. 1 2 3 4 5",),
    )
    written_out = b"\x03far\x04away\x07example\x03org\x00"
    first_owner = packet.index(written_out)
    srv = packet.index(written_out, first_owner + 1)
    pointer = (0xC000 | first_owner).to_bytes(2, "big")
    compressed = packet[: srv - 8] + b"\0\x08" + packet[srv - 6 : srv] + pointer
    compressed += packet[srv + len(written_out) :]
    left = dns.message.from_wire(message.without_aaaa(compressed))
    assert str(left.answer[0]) == "www.example.com. 60 IN SRV 1 2 3 far.away.example.org."
    assert "far.away.example.org. h.example.org. 1 2 3 4 5" in str(left.authority[0])


def test_the_rewritten_message_is_no_longer_than_it_was() -> None:
    many = [f"h{i}.example.com. 60 IN CNAME h{i + 1}.example.com." for i in range(40)]
    packet = response(*many, "h40.example.com. 60 IN AAAA 2001:db8::1", authority=(SOA,))
    assert len(message.without_aaaa(packet)) < len(packet)


def many_records(owners: Iterable[bytes]) -> bytes:
    """An answer about a name of 126 labels: an AAAA record, and an A record of each of these owners."""
    aaaa = b"\xc0\x0c" + wire.record_tail(wire.TYPE_AAAA, 1, 60, bytes(16))
    records = [aaaa, *(owner + wire.record_tail(wire.TYPE_A, 1, 60, bytes(4)) for owner in owners)]
    question = b"\1a" * 126 + b"\0\0\1\0\1"
    return struct.pack("!6H", 7, 0x8180, 1, len(records), 0, 0) + question + b"".join(records)


def test_a_name_of_many_records_is_written_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[object]()
    monkeypatch.setattr(rewrite, "to_wire", lambda labels: written.append(labels) or name.to_wire(labels))
    smaller = message.without_aaaa(many_records([b"\xc0\x0c"] * 3_000))
    assert len(message.read_answer(smaller).records) == 3_000
    assert len(written) == 1


def test_long_names_that_are_all_different_are_not_written_out_by_the_thousand() -> None:
    """They take 50 ms, and a server can send another answer of them each time it is asked."""
    owners = [b"\2" + number.to_bytes(2) + b"\xc0\x10" for number in range(0x6161, 0x6161 + 3_000)]
    few, many = many_records(owners[:300]), many_records(owners)
    assert len(message.read_answer(message.without_aaaa(few)).records) == 300
    with pytest.raises(message.TooLong):
        message.without_aaaa(many)


def test_a_signed_answer_is_rewritten_without_a_crash() -> None:
    made = dns.message.from_wire(response(V6))
    made.use_tsig({dns.name.from_text("key."): b"secret"})
    rewritten = message.without_aaaa(made.to_wire())
    assert b"hmac-sha256" in rewritten
    assert message.read_answer(rewritten).records == ()


@pytest.mark.parametrize("kind", [2, 6, 15, 33, 35, 46])
def test_rdata_too_short_for_its_names_is_malformed_not_a_crash(kind: int) -> None:
    packet = response(V6, edns=False)
    stub = b"\0" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\0" + b"\0\1" + b"\x3f"
    broken = packet[:8] + b"\0\1" + packet[10:] + stub
    if kind == 46:  # no names to look for: copied
        assert message.without_aaaa(broken).endswith(stub)
    else:
        with pytest.raises(MalformedDNS):
            message.without_aaaa(broken)


# --- truncation ----------------------------------------------------------------------------------------


def test_a_truncated_answer_keeps_question_code_and_edns_only() -> None:
    packet = response(ALIAS, V6, authority=(SOA,), rcode=3)
    cut = dns.message.from_wire(message.truncated(packet))
    assert cut.flags & dns.flags.TC
    assert (cut.answer, cut.authority, cut.edns, cut.rcode()) == ([], [], 0, 3)
    assert cut.question == dns.message.from_wire(packet).question


def test_an_answer_cut_inside_a_record_can_still_be_truncated() -> None:
    cut = dns.message.from_wire(message.truncated(response(ALIAS, V6)[:-30]))
    assert cut.flags & dns.flags.TC
    assert cut.answer == []


def test_a_truncated_answer_fits_the_smallest_limit_whatever_its_options() -> None:
    query = dns.message.make_query(ASKED, "A", use_edns=0)
    made = dns.message.make_response(query)
    made.use_edns(0, options=[dns.edns.GenericOption(65001, b"x" * 900)])
    cut = message.truncated(made.to_wire())
    assert len(cut) <= 512
    assert dns.message.from_wire(cut).edns == 0


def test_the_id_is_the_only_thing_that_changes_under_another_id() -> None:
    packet = response(ALIAS)
    other = message.with_id(packet, 0xBEEF)
    assert other == b"\xbe\xef" + packet[2:]
