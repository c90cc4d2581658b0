"""Queries read, answers understood, replies of our own."""

from __future__ import annotations

from itertools import pairwise

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from acns.dns import message, name
from acns.dns.message import MalformedDNS

WWW = name.from_text("www.example.com")
TSIG = b"\0\0\xfa\0\xff" + bytes(6)


def query(text: str = "wWw.eXample.com.", rdtype: str = "A", **options: object) -> bytes:
    made = dns.message.make_query(text, rdtype, **options)  # type: ignore[arg-type]
    return made.to_wire()


def answer(*records: str, asked: str = "www.example.com.", rdtype: str = "A", rcode: int = 0) -> bytes:
    """A response whose answer section has these records, in this order, each an RRset of its own."""
    response = dns.message.make_response(dns.message.make_query(asked, rdtype))
    response.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        owner, ttl, rdclass, kind, rdata = record.split(" ", 4)
        response.answer.append(dns.rrset.from_text(owner, int(ttl), rdclass, kind, rdata))
    return response.to_wire()


def learned(packet: bytes) -> tuple[set[str], int]:
    found = message.learnable(message.read_answer(packet))
    return {".".join(map(str, address)) for address in found.addresses}, found.ttl_s


def patched(packet: bytes, offset: int, replacement: bytes) -> bytes:
    return packet[:offset] + replacement + packet[offset + len(replacement) :]


# --- queries -------------------------------------------------------------------------------------------


def test_a_query_is_read_with_its_question_as_sent_and_its_name_in_lower_case() -> None:
    packet = query()
    read = message.read_query(packet)
    assert (read.name, read.qtype, read.qclass) == (WWW, 1, 1)
    assert read.question_wire == b"\x03wWw\x07eXample\x03com\x00\x00\x01\x00\x01"
    assert read.id == int.from_bytes(packet[:2], "big")
    assert (read.opcode, read.rd, read.edns_size) == (0, True, None)


@pytest.mark.parametrize(("edns", "limit"), [(None, 512), (100, 512), (1232, 1232), (4096, 4096)])
def test_the_askers_limit_over_udp_is_what_its_edns_says_and_at_least_512(
    edns: int | None, limit: int
) -> None:
    packet = query() if edns is None else query(use_edns=0, payload=edns)
    assert message.read_query(packet).size_limit == limit
    assert message.read_query(packet).edns_size == edns
    assert message.read_query(packet, message.TCP).size_limit == 65_535


def test_the_root_can_be_asked_for() -> None:
    assert message.read_query(query(".", "NS")).name == ()


RECORD_OF_ITSELF = len(query()).to_bytes(1).rjust(2, b"\xc0") + b"\0\1\0\1" + bytes(6)
OPT_OF_ONE = b"\0\0\x29\x04\xd0" + bytes(4) + b"\0\4"


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(query()[:11], id="half a header"),
        pytest.param(query()[:-1], id="half a question"),
        pytest.param(patched(query(), 4, b"\0\2"), id="two questions said"),
        pytest.param(patched(query(), 4, b"\0\0"), id="no question said"),
        pytest.param(patched(query(), 10, b"\xff\xff"), id="records that are not there"),
        pytest.param(query(use_edns=0)[:-2] + b"\0\1", id="rdata beyond the end"),
        pytest.param(patched(query(), 10, b"\0\2") + 2 * (b"\0\0\x29" + bytes(8)), id="two OPT records"),
        pytest.param(patched(query(), 6, b"\0\1") + b"\0\0\x29" + bytes(8), id="OPT as an answer"),
        pytest.param(patched(query(), 10, b"\0\1") + b"\1a\0\0\x29" + bytes(8), id="OPT with a name"),
        pytest.param(b"\1a" + query()[2:12] + b"\xc0\0\0\1\0\1", id="a question inside the header"),
        pytest.param(query() + b"\0", id="an octet behind the question"),
        pytest.param(query(use_edns=0) + query()[12:], id="a second question behind the records"),
        pytest.param(patched(query(), 6, b"\0\1") + TSIG, id="TSIG as an answer"),
        pytest.param(patched(query(), 8, b"\0\1") + RECORD_OF_ITSELF, id="an owner that points at itself"),
        pytest.param(patched(query(), 10, b"\0\1") + OPT_OF_ONE + b"\0\3\0\5", id="an option past its OPT"),
        pytest.param(patched(query(), 10, b"\0\1") + OPT_OF_ONE[:-1] + b"\3\0\3\0", id="half an option"),
        pytest.param(patched(query(), 10, b"\0\2") + TSIG + TSIG, id="two TSIG records"),
        pytest.param(patched(query(), 10, b"\0\1") + TSIG[:3] + b"\0\1" + TSIG[5:], id="TSIG of class IN"),
    ],
)
def test_a_query_that_lies_is_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedDNS):
        message.read_query(packet)


def test_a_query_with_more_records_or_options_than_any_has_is_malformed() -> None:
    def with_records(count: int) -> bytes:
        return patched(query(), 10, count.to_bytes(2)) + count * (b"\0\0\1\0\1" + bytes(6))

    def with_options(count: int) -> bytes:
        return patched(query(), 10, b"\0\1") + OPT_OF_ONE[:-1] + bytes((4 * count,)) + count * b"\0\3\0\0"

    for made, most in ((with_records, 16), (with_options, 60)):
        assert message.read_query(made(most)).name == WWW
    for packet in (with_records(17), with_options(0)[:-2] + b"\1\4" + 65 * b"\0\3\0\0"):
        with pytest.raises(MalformedDNS):
            message.read_query(packet)


def test_a_signed_query_is_read() -> None:
    signed = dns.message.make_query("www.example.com.", "A", use_edns=0)
    signed.use_tsig({dns.name.from_text("key."): b"secret"})
    read = message.read_query(signed.to_wire())
    assert (read.edns_size, read.signature) == (1232, message.TYPE_TSIG)


# --- replies -------------------------------------------------------------------------------------------


def test_a_reply_of_our_own_echoes_id_question_and_rd_and_sets_the_code() -> None:
    packet = query()
    reply = message.reply_with_rcode(packet, message.RCODE_REFUSED)
    parsed = dns.message.from_wire(reply)
    assert dns.message.from_wire(packet).is_response(parsed)
    assert parsed.rcode() == dns.rcode.REFUSED
    assert parsed.flags & (dns.flags.QR | dns.flags.RD | dns.flags.RA | dns.flags.AA | dns.flags.TC) == (
        dns.flags.QR | dns.flags.RD | dns.flags.RA
    )
    assert b"wWw\x07eXample" in reply
    assert parsed.edns == -1


def test_a_reply_has_edns_exactly_where_the_query_had_it_with_the_do_bit_copied() -> None:
    plain = dns.message.from_wire(message.reply_with_rcode(query(use_edns=0, payload=4096), 5))
    wanting = dns.message.from_wire(message.reply_with_rcode(query(want_dnssec=True), 5))
    assert (plain.edns, plain.ednsflags & dns.flags.DO) == (0, 0)
    assert (wanting.edns, wanting.ednsflags & dns.flags.DO) == (0, dns.flags.DO)


def test_cd_is_copied_and_ad_is_not() -> None:
    packet = query(flags=dns.flags.CD | dns.flags.AD)
    replied = dns.message.from_wire(message.reply_with_rcode(packet, 2)).flags
    assert replied & (dns.flags.CD | dns.flags.AD) == dns.flags.CD


@pytest.mark.parametrize("packet", [query()[:14], query()[:12], patched(query(), 4, b"\0\7")])
def test_a_reply_to_an_unreadable_question_has_none(packet: bytes) -> None:
    reply = message.reply_with_rcode(packet, message.RCODE_FORMERR)
    assert reply[:2] == packet[:2]
    assert reply[4:] == bytes(8)
    assert dns.message.from_wire(reply).rcode() == dns.rcode.FORMERR


# --- learning ------------------------------------------------------------------------------------------


def test_addresses_at_the_question_are_learned_each_once_with_the_smallest_ttl() -> None:
    packet = answer(
        "www.example.com. 60 IN A 192.0.2.1",
        "WWW.example.com. 30 IN A 192.0.2.2",
        "www.example.com. 60 IN A 192.0.2.1",
    )
    assert learned(packet) == ({"192.0.2.1", "192.0.2.2"}, 30)


def test_a_chain_is_followed_in_any_order_of_records() -> None:
    packet = answer(
        "edge.cdn.net. 300 IN A 192.0.2.7",
        "cdn.net. 20 IN CNAME edge.CDN.net.",
        "www.example.com. 60 IN CNAME cdn.net.",
    )
    assert learned(packet) == ({"192.0.2.7"}, 20)


def test_records_off_the_chain_teach_nothing() -> None:
    packet = answer(
        "www.example.com. 60 IN A 192.0.2.1",
        "bank.example. 1 IN A 203.0.113.66",
        "x.www.example.com. 1 IN A 203.0.113.67",
        "example.com. 1 IN A 203.0.113.68",
    )
    assert learned(packet) == ({"192.0.2.1"}, 60)


def test_the_aliases_of_a_loop_end() -> None:
    packet = answer(
        "www.example.com. 60 IN CNAME b.example.",
        "b.example. 60 IN CNAME www.example.com.",
        "b.example. 50 IN A 192.0.2.9",
    )
    assert learned(packet) == ({"192.0.2.9"}, 50)


def test_a_dname_takes_its_subtree_along_with_or_without_the_cname_it_implies() -> None:
    bare = answer("example.com. 40 IN DNAME example.net.", "www.example.net. 50 IN A 192.0.2.3")
    full = answer(
        "example.com. 40 IN DNAME example.net.",
        "www.example.com. 0 IN CNAME www.example.net.",
        "www.example.net. 50 IN A 192.0.2.3",
    )
    assert learned(bare) == ({"192.0.2.3"}, 40)
    assert learned(full) == ({"192.0.2.3"}, 0)


def test_a_dname_does_not_move_its_own_owner() -> None:
    packet = answer("www.example.com. 40 IN DNAME b.net.", "b.net. 50 IN A 192.0.2.3")
    assert learned(packet) == (set(), 0)


def test_a_chain_whose_end_would_not_be_known_teaches_nothing_and_is_no_answer() -> None:
    for packet in (
        answer(*(f"com. 9 IN DNAME {label}.com." for label in "abcdefgh"), "x.com. 9 IN A 192.0.2.1"),
        answer(
            "www.example.com. 9 IN CNAME n0.example.com.",
            *(f"n{number}.example.com. 9 IN CNAME n{number + 1}.example.com." for number in range(64)),
        ),
    ):
        with pytest.raises(MalformedDNS, match="too many aliases"):
            learned(packet)


def test_dnames_are_tried_so_often_and_no_more_on_all_names_of_a_chain() -> None:
    """Each is above each of these names, where it leads to one that is too long."""
    target = ".".join(["x" * 63] * 3 + ["x" * 61])
    dnames = [f"{'a.' * depth}example.com. 9 IN DNAME {target}." for depth in range(16)]
    names = ["www.example.com.", *(f"{letter}.{'a.' * 16}example.com." for letter in "bcdefghijklmnopqrstuv")]
    links = [f"{one} 9 IN CNAME {other}" for one, other in pairwise(names)]
    few, many = (answer(*dnames, *links[:count], f"{names[count]} 9 IN A 192.0.2.1") for count in (8, 20))
    assert learned(few) == ({"192.0.2.1"}, 9)
    with pytest.raises(message.ChainTooLong):
        learned(many)


def test_dnames_that_cover_nothing_hinder_nothing() -> None:
    records = [f"n{number}.example. 40 IN DNAME example.net." for number in range(200)]
    assert learned(answer(*records, "www.example.com. 9 IN A 192.0.2.1")) == ({"192.0.2.1"}, 9)


def test_octets_behind_the_last_record_of_an_answer_are_not_read() -> None:
    packet = answer("www.example.com. 60 IN A 192.0.2.1")
    more = answer("www.example.com. 60 IN A 192.0.2.2")[-16:]
    assert learned(packet + more) == ({"192.0.2.1"}, 60)


@pytest.mark.parametrize("rcode", [1, 2, 3, 5])
def test_only_noerror_teaches(rcode: int) -> None:
    assert learned(answer("www.example.com. 60 IN A 192.0.2.1", rcode=rcode)) == (set(), 0)


def test_only_class_in_and_only_four_octets_are_an_address() -> None:
    good = answer("www.example.com. 60 IN A 192.0.2.1")
    chaos = patched(good, len(good) - 12, b"\0\3")
    short = patched(good, len(good) - 6, b"\0\3")[:-1]
    assert learned(chaos) == learned(short) == (set(), 0)


def test_authority_and_additional_teach_nothing() -> None:
    packet = answer("www.example.com. 60 IN A 192.0.2.1")
    as_additional = patched(patched(packet, 6, b"\0\0"), 10, b"\0\1")
    as_authority = patched(patched(packet, 6, b"\0\0"), 8, b"\0\1")
    assert learned(as_additional) == learned(as_authority) == (set(), 0)


def test_a_ttl_with_the_top_bit_is_a_long_one() -> None:
    packet = answer("www.example.com. 60 IN A 192.0.2.1")
    assert learned(patched(packet, len(packet) - 10, b"\x80\0\0\0")) == ({"192.0.2.1"}, 2**31 - 1)


def test_an_extended_code_is_no_noerror() -> None:
    packet = patched(answer("www.example.com. 60 IN A 192.0.2.1"), 10, b"\0\1")
    assert learned(packet + b"\0\0\x29\x04\xd0\0\0\0\0\0\0") == ({"192.0.2.1"}, 60)
    assert learned(packet + b"\0\0\x29\x04\xd0\1\0\0\0\0\0") == (set(), 0)  # BADVERS


def test_addresses_of_other_types_are_not_learned() -> None:
    packet = answer(
        "www.example.com. 60 IN AAAA 2001:db8::1",
        "www.example.com. 60 IN HTTPS 1 . ipv4hint=192.0.2.1",
    )
    assert learned(packet) == (set(), 0)


# --- a name known again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\0", b"\0\0\1\0\1", b"\xc0\x0c", b"\x05ab"])
def test_a_name_is_known_again_in_whatever_case_and_with_whatever_behind_it(end: bytes) -> None:
    head = bytes(12)
    assert message.folded_name(head + b"\3wWw\1X" + end)[:6] == b"\3www\1x"
    assert message.folded_name(head + b"\3wWw\1X\0\0\x41\0\1") == b"\3www\1x"


def test_names_with_an_octet_0_in_a_label_are_told_apart() -> None:
    one, other = (bytes(12) + b"\2\0" + last + b"\0\0\1\0\1" for last in (b"a", b"b"))
    assert message.folded_name(one) != message.folded_name(other)
