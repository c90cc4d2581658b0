"""The DNS gate: each check in its order, and what answers may pass."""

from __future__ import annotations

from ipaddress import IPv4Address

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from acns.dns import message, pattern, wire
from acns.fqdn import gate
from acns.fqdn.gate import AAAAMode, Deliver, DeniedCode, Drop, Forward, GateSettings, Ignore, Reason, Reply

POD, OTHER_POD, STRANGER = (IPv4Address(f"10.244.0.{last}").packed for last in (5, 6, 99))
DNS_POD = IPv4Address("10.244.0.53").packed
CLUSTER_IP = IPv4Address("10.96.0.10").packed
OUTSIDE = IPv4Address("198.51.100.53").packed
KUBE_DNS = 300

TABLE = gate.PolicyTable(
    rules=[
        gate.DNSRule(
            7,
            (pattern.match_pattern("*.example.com"), pattern.match_name("www.bing.com")),
            (gate.DNSServer(KUBE_DNS, 53, 17),),
        ),
        gate.DNSRule(8, (), (gate.DNSServer(0, 53, 17), gate.DNSServer(0, 53, 6))),
    ],
    endpoints=[
        gate.EndpointAddress(POD, 7, 400),
        gate.EndpointAddress(OTHER_POD, 8, 401),
        gate.EndpointAddress(DNS_POD, 0, KUBE_DNS),
    ],
    prefixes=[gate.IdentityPrefix(CLUSTER_IP, 32, KUBE_DNS)],
)
UDP_SERVER = gate.Server(CLUSTER_IP, 53, message.UDP)
SETTINGS = GateSettings()


def query(text: str = "wWw.example.com.", rdtype: str = "A", **options: object) -> bytes:
    return dns.message.make_query(text, rdtype, **options).to_wire()  # type: ignore[arg-type]


def judged(
    packet: bytes,
    source: bytes = POD,
    server: gate.Server = UDP_SERVER,
    settings: GateSettings = SETTINGS,
) -> gate.Verdict:
    return gate.judge_query(TABLE, source, server, packet, settings)


def replied(verdict: gate.Verdict) -> tuple[int, Reason]:
    """The code and the reason of a reply of our own."""
    assert isinstance(verdict, Reply)
    return verdict.packet[3] & 0xF, verdict.reason


def code(verdict: gate.Verdict) -> int:
    return replied(verdict)[0]


def patched(packet: bytes, offset: int, replacement: bytes) -> bytes:
    return packet[:offset] + replacement + packet[offset + len(replacement) :]


# --- queries -------------------------------------------------------------------------------------------


def test_an_allowed_query_is_forwarded_for_its_endpoint() -> None:
    packet = query()
    assert judged(packet) == Forward(message.read_query(packet), 7)


def test_what_is_no_dns_message_is_dropped() -> None:
    assert judged(query()[:11]) == Drop(Reason.MALFORMED)


def test_a_response_sent_as_a_query_is_dropped_whatever_else_it_is() -> None:
    packet = dns.message.make_response(dns.message.make_query("www.example.com.", "A")).to_wire()
    assert judged(packet) == Drop(Reason.NOT_A_QUERY)
    assert judged(packet[:13]) == Drop(Reason.NOT_A_QUERY)


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_other_opcodes_are_not_implemented_for_anybody(opcode: int) -> None:
    packet = patched(query(), 2, bytes((opcode << 3,)))
    for source in (POD, STRANGER):
        verdict = judged(packet, source)
        assert replied(verdict) == (message.RCODE_NOTIMP, Reason.OPCODE)
        assert isinstance(verdict, Reply)
        assert verdict.packet[2] >> 3 & 0xF == opcode


@pytest.mark.parametrize("count", [b"\0\0", b"\0\2"])
def test_a_query_that_is_not_one_question_is_a_format_error(count: bytes) -> None:
    assert replied(judged(patched(query(), 4, count))) == (message.RCODE_FORMERR, Reason.NOT_ONE_QUESTION)


def test_a_query_that_cannot_be_read_is_a_format_error_even_from_strangers() -> None:
    for source in (POD, STRANGER):
        assert replied(judged(query()[:-1], source)) == (message.RCODE_FORMERR, Reason.MALFORMED)


def test_other_classes_are_refused() -> None:
    asked = query("version.bind.", "TXT", rdclass="CH")
    assert replied(judged(asked)) == (message.RCODE_REFUSED, Reason.CLASS)


def test_an_unknown_source_is_a_server_failure_even_for_a_denied_name() -> None:
    for text in ("www.example.com.", "evil.test."):
        assert code(judged(query(text), STRANGER)) == message.RCODE_SERVFAIL


def test_a_pod_of_another_node_is_an_unknown_source() -> None:
    assert code(judged(query(), DNS_POD)) == message.RCODE_SERVFAIL


@pytest.mark.parametrize(("denied", "rcode"), [(DeniedCode.REFUSED, 5), (DeniedCode.NXDOMAIN, 3)])
def test_a_denied_name_is_answered_by_setting_with_id_and_question_echoed(
    denied: DeniedCode, rcode: int
) -> None:
    packet = query("eViL.example.org.")
    verdict = judged(packet, settings=GateSettings(denied=denied))
    assert isinstance(verdict, Reply)
    assert (code(verdict), verdict.reason) == (rcode, Reason.DENIED)
    assert verdict.packet[:2] == packet[:2]
    assert verdict.packet[12:] == packet[12:]


@pytest.mark.parametrize(
    "server",
    [
        gate.Server(CLUSTER_IP, 5353, message.UDP),
        gate.Server(CLUSTER_IP, 53, message.TCP),
        gate.Server(OUTSIDE, 53, message.UDP),
        gate.Server(POD, 53, message.UDP),
    ],
)
def test_a_rule_binds_server_port_and_protocol(server: gate.Server) -> None:
    assert code(judged(query(), server=server)) == message.RCODE_REFUSED


def test_a_rule_opens_nothing_for_another_endpoint_and_a_rule_without_patterns_opens_every_name() -> None:
    assert code(judged(query("evil.test."))) == message.RCODE_REFUSED
    assert isinstance(judged(query("evil.test."), OTHER_POD), Forward)
    assert isinstance(judged(query("."), OTHER_POD, gate.Server(OUTSIDE, 53, message.TCP)), Forward)


def test_any_type_of_an_allowed_name_is_forwarded_and_no_type_of_a_denied_one() -> None:
    for rdtype in ("A", "AAAA", "ANY", "HTTPS", "TXT"):
        assert isinstance(judged(query(rdtype=rdtype)), Forward)
        assert code(judged(query("evil.test.", rdtype))) == message.RCODE_REFUSED


def test_a_dot_inside_a_label_does_not_make_a_name_allowed() -> None:
    # One label "x.example" printed like two: *.example.com must not see x.example.com in it.
    packet = query("a.b.").replace(b"\1a\1b\0", b"\1x\x0bexample.com\0")
    assert code(judged(packet)) == message.RCODE_REFUSED


# --- answers -------------------------------------------------------------------------------------------


def forwarded(rdtype: str = "A", protocol: int = message.UDP, **options: object) -> message.Query:
    packet = query("www.example.com.", rdtype, **options)
    return message.read_query(packet, protocol)


def answer(asked: message.Query, *records: str, text: str = "www.example.com.", rcode: int = 0) -> bytes:
    made = dns.message.make_response(dns.message.make_query(text, asked.qtype))
    made.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        owner, ttl, kind, rdata = record.split(" ", 3)
        made.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, rdata))
    return made.to_wire(max_size=65535)


def delivered(asked: message.Query, packet: bytes, settings: GateSettings = SETTINGS) -> Deliver:
    result = gate.judge_answer(asked, packet, settings)
    assert isinstance(result, Deliver)
    return result


A = "www.example.com. 60 A 192.0.2.1"


def test_an_answer_is_delivered_unchanged_with_what_it_teaches() -> None:
    asked = forwarded()
    packet = answer(asked, A, "www.example.com. 30 A 192.0.2.2")
    result = delivered(asked, packet)
    assert result.packet is packet
    assert result.learned == message.Learned((b"\xc0\0\2\1", b"\xc0\0\2\2"), 30)


def test_a_query_sent_back_is_no_answer() -> None:
    asked = forwarded()
    assert gate.judge_answer(asked, query("www.example.com."), SETTINGS) == Ignore(Reason.NOT_AN_ANSWER)


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_what_answers_another_operation_is_no_answer(opcode: int) -> None:
    asked = forwarded()
    other = patched(answer(asked, A), 2, bytes((0x81 | opcode << 3,)))
    bare_error = patched(other, 3, bytes((0x84,)) + bytes(8))[:12]
    for packet in (other, bare_error):
        assert gate.judge_answer(asked, packet, SETTINGS) == Ignore(Reason.NOT_AN_ANSWER)


def test_an_answer_to_another_question_is_ignored() -> None:
    asked = forwarded()
    other_name = answer(asked, A, text="ww.example.com.")
    other_case = answer(asked, A, text="Www.example.com.")
    other_type = answer(forwarded("AAAA"))
    two_said = patched(answer(asked, A), 4, b"\0\2")
    no_question = patched(answer(asked), 4, b"\0\0")[:12]
    for packet in (other_name, other_case, other_type, two_said, no_question):
        assert gate.judge_answer(asked, packet, SETTINGS) == Ignore(Reason.OTHER_QUESTION)


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_an_error_of_a_server_that_repeats_no_question_is_passed_on(rcode: int) -> None:
    asked = forwarded()
    bare = patched(answer(asked), 2, b"\x81" + bytes([0x80 | rcode]) + bytes(8))[:12]
    assert gate.judge_answer(asked, bare + b"more", SETTINGS) == gate.Deliver(bare, None, rcode)
    with_opt = patched(bare, 10, b"\0\1") + b"\0\0\x29\x04\xd0" + bytes(6)
    assert gate.judge_answer(asked, with_opt, SETTINGS) == gate.Deliver(bare, None, rcode)
    with_counts = patched(bare, 6, b"\0\1")
    assert gate.judge_answer(asked, with_counts, SETTINGS) == Ignore(Reason.OTHER_QUESTION)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (7, 1)], ids=["BADVERS", "BADCOOKIE"])
def test_an_error_of_edns_without_a_question_is_passed_on_with_the_record_that_says_so(
    low: int, high: int
) -> None:
    asked = forwarded()
    header = answer(asked)[:2] + b"\x81" + bytes([0x80 | low]) + bytes(7) + b"\1"

    def with_opt(extended: int, options: bytes = b"") -> bytes:
        return header + b"\0" + wire.record_tail(wire.TYPE_OPT, 1232, extended << 24, options)

    cookie = with_opt(high, b"\0\x0a\0\x10" + bytes(16))
    assert gate.judge_answer(asked, cookie, SETTINGS) == Deliver(cookie, None, high << 4 | low)
    too_long = with_opt(high, bytes(asked.size_limit))
    for packet in (with_opt(0), with_opt(high + 1), too_long):
        assert gate.judge_answer(asked, packet, SETTINGS) == Ignore(Reason.OTHER_QUESTION)
    for packet in (cookie + b"\0", cookie[:-1]):
        assert gate.judge_answer(asked, packet, SETTINGS) == Ignore(Reason.MALFORMED)


def test_a_malformed_answer_is_ignored() -> None:
    asked = forwarded()
    packet = answer(asked, A)
    for cut in (5, len(packet) - 1):
        assert gate.judge_answer(asked, packet[:cut], SETTINGS) == Ignore(Reason.MALFORMED)


def test_an_answer_whose_aliases_lead_on_and_on_ends_its_query_and_no_other() -> None:
    """Each is costly to read, and its server could send another and another."""
    asked = forwarded()
    packet = answer(asked, *(f"com. 9 DNAME {label}.com." for label in "abcdefgh"))
    assert gate.judge_answer(asked, packet, SETTINGS) == gate.Unusable(Reason.CHAIN_TOO_LONG)
    assert gate.judge_answer(forwarded("AAAA"), packet, SETTINGS) == Ignore(Reason.OTHER_QUESTION)


def test_a_long_answer_that_cannot_be_read_ends_its_query_and_a_short_one_is_ignored() -> None:
    """By which a forger would have to guess all but the server's word; to read a long one takes long."""
    asked = forwarded()
    packet = answer(asked, *(f"www.example.com. 9 TXT {number:0250}" for number in range(8)))
    assert len(packet) > 2048
    assert gate.judge_answer(asked, packet[:-1], SETTINGS) == gate.Unusable(Reason.MALFORMED)
    assert gate.judge_answer(asked, packet[:2000], SETTINGS) == Ignore(Reason.MALFORMED)
    assert gate.judge_answer(forwarded("AAAA"), packet[:-1], SETTINGS) == Ignore(Reason.OTHER_QUESTION)


def test_an_answer_that_is_too_long_once_its_aaaa_records_are_out_is_delivered_as_truncated() -> None:
    """SRV targets may not be compressed (RFC 2782), but some servers do it: written anew they are not."""
    asked = forwarded("ANY", protocol=message.TCP)
    owner, count = b"\xc0\x0c", 3_000
    aaaa = owner + b"\0\x1c\0\1\0\0\0\x3c\0\x10" + bytes(16)
    srv = owner + b"\0\x21\0\1\0\0\0\x3c\0\x08" + bytes(6) + owner
    empty = answer(asked)
    full = patched(empty, 6, (count + 1).to_bytes(2)) + aaaa + srv * count
    assert gate.judge_answer(asked, full, SETTINGS) == gate.Deliver(message.truncated(empty), None)


def test_an_answer_that_its_server_cut_short_is_delivered_as_truncated() -> None:
    asked = forwarded()
    packet = answer(asked, A)
    cut = patched(packet, 2, bytes((packet[2] | 0x02,)))[:-1]
    result = delivered(asked, cut)
    assert result.learned is None
    assert dns.message.from_wire(result.packet).answer == []
    assert dns.message.from_wire(result.packet).flags & dns.flags.TC


def test_a_whole_answer_with_tc_teaches_what_it_delivers() -> None:
    asked = forwarded()
    packet = answer(asked, A)
    assert delivered(asked, patched(packet, 2, bytes((packet[2] | 0x02,)))).learned is not None


@pytest.mark.parametrize(
    ("edns", "protocol", "fits"), [(-1, 17, False), (0, 17, False), (0, 6, True), (-1, 6, True)]
)
def test_an_answer_beyond_the_askers_limit_is_truncated_and_teaches_nothing_yet(
    edns: int, protocol: int, fits: bool
) -> None:
    asked = forwarded(protocol=protocol, use_edns=edns, payload=700 if edns == 0 else 0)
    packet = answer(asked, *(f"www.example.com. 60 A 192.0.2.{i}" for i in range(60)))
    result = delivered(asked, packet)
    assert (len(packet) > 700, result.packet == packet, result.learned is not None) == (True, fits, fits)
    assert bool(dns.message.from_wire(result.packet).flags & dns.flags.TC) is not fits


def test_an_answer_of_exactly_the_limit_fits() -> None:
    asked = forwarded()
    packet = answer(asked, *(f"www.example.com. 60 A 192.0.2.{i}" for i in range(29)))
    exact = packet + bytes(512 - len(packet))
    assert delivered(asked, exact).packet == exact
    assert len(delivered(asked, exact + b"\0").packet) < 100


def test_aaaa_is_taken_out_or_passed_through_by_setting() -> None:
    asked = forwarded("AAAA")
    packet = answer(asked, "www.example.com. 60 AAAA 2001:db8::1")
    empty = delivered(asked, packet)
    assert dns.message.from_wire(empty.packet).answer == []
    assert dns.message.from_wire(empty.packet).rcode() == 0
    assert delivered(asked, packet, GateSettings(aaaa=AAAAMode.PASSTHROUGH)).packet is packet
    assert empty.learned is None


def test_an_ipv6_address_is_never_learned() -> None:
    asked = forwarded("ANY")
    packet = answer(asked, A, "www.example.com. 60 AAAA 2001:db8::1")
    for mode in AAAAMode:
        result = delivered(asked, packet, GateSettings(aaaa=mode))
        assert result.learned == message.Learned((b"\xc0\0\2\1",), 60)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "0.0.0.0",
        "0.1.2.3",
    ],
)
def test_special_addresses_are_delivered_but_never_learned(address: str) -> None:
    asked = forwarded()
    alone = answer(asked, f"www.example.com. 60 A {address}")
    mixed = answer(asked, A, f"www.example.com. 60 A {address}")
    assert delivered(asked, alone) == Deliver(alone, None)
    assert delivered(asked, mixed) == Deliver(mixed, message.Learned((b"\xc0\0\2\1",), 60))


def test_nothing_is_learned_from_a_name_error() -> None:
    asked = forwarded()
    assert delivered(asked, answer(asked, A, rcode=3)).learned is None


def test_another_version_of_edns_is_the_servers_to_refuse_and_nothing_is_learned_from_that() -> None:
    """RFC 6891 §6.1.3 has the responder say BADVERS; a proxy that does not know an option passes it on."""
    asked = query(use_edns=1, payload=1232)
    verdict = judged(asked)
    assert isinstance(verdict, Forward)
    response = dns.message.make_response(dns.message.from_wire(asked))
    response.set_rcode(dns.rcode.BADVERS)
    response.answer = [dns.rrset.from_text(response.question[0].name, 60, "IN", "A", "192.0.2.7")]
    said = gate.judge_answer(verdict.query, response.to_wire(), SETTINGS)
    assert isinstance(said, Deliver)
    assert said.packet == response.to_wire()
    assert not said.learned or not said.learned.addresses
