"""Messages with a signature over the whole of them (TSIG, SIG(0)), and zone transfers, at the gate.

dnspython signs at one end and verifies at the other, so a signature that breaks on the way fails its test.
What SIG(0) signs includes the ID, so such a query keeps its own (see the upstream's tests).
"""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import dns.tsig
import pytest

from acns.dns import message, wire
from acns.fqdn import gate
from acns.fqdn.gate import Deliver, Forward, GateSettings, Reason, Reply

POD, CLUSTER_IP = b"\x0a\xf4\0\5", b"\x0a\x60\0\x0a"
TABLE = gate.PolicyTable(
    [gate.DNSRule(7, (), (gate.DNSServer(0, 53, 0),))], [gate.EndpointAddress(POD, 7, 400)]
)
SETTINGS = GateSettings()
KEY = dns.tsig.Key("key.example.", b"secret of both ends", "hmac-sha256")
ASKED = "wWw.example.com."
SIG0 = b"\0" + wire.record_tail(wire.TYPE_SIG, wire.CLASS_ANY, 0, bytes(17) + b"\0\1k\0" + b"signature")


def judged(packet: bytes, protocol: int = message.UDP) -> gate.Verdict:
    return gate.judge_query(TABLE, POD, gate.Server(CLUSTER_IP, 53, protocol), packet, SETTINGS)


def asked(packet: bytes) -> message.Query:
    verdict = judged(packet)
    assert isinstance(verdict, Forward)
    return verdict.query


def signed_query(rdtype: str) -> dns.message.Message:
    made = dns.message.make_query(ASKED, rdtype)
    made.use_tsig(KEY)
    made.to_wire()  # signs, and keeps what the answer's signature goes on from
    return made


def signed_answer(packet: bytes, *records: str, signed: bool = True) -> bytes:
    """What the server says to the query as it arrives there, under the ID it arrives with."""
    received = dns.message.from_wire(packet, keyring=KEY)
    made = dns.message.make_response(received, tsig_error=0)
    if not signed:
        made.tsig = None
    made.answer = [dns.rrset.from_text(ASKED, 60, "IN", *record.split(" ", 1)) for record in records]
    return made.to_wire(max_size=65_535)


def there_and_back(query: dns.message.Message, *records: str, signed: bool = True) -> tuple[bytes, Deliver]:
    """The answer as it left its server (under the pod's ID), and what the gate makes of it."""
    packet = query.wire
    assert packet is not None
    reading = asked(packet)
    answer = message.with_id(
        signed_answer(message.with_id(packet, packet[0] ^ 0x5A), *records, signed=signed), query.id
    )
    result = gate.judge_answer(reading, answer, SETTINGS)
    assert isinstance(result, Deliver)
    return answer, result


def verified(query: dns.message.Message, packet: bytes) -> dns.message.Message:
    """The packet as the pod's client takes it; raises where the signature is not right."""
    found = dns.message.from_wire(packet, keyring=KEY, request_mac=query.mac)
    assert found.had_tsig
    return found


def test_a_signed_query_and_its_answer_stay_valid_under_another_id() -> None:
    query = signed_query("A")
    answer, result = there_and_back(query, "A 192.0.2.1")
    assert result == Deliver(answer, message.Learned((b"\xc0\0\2\1",), 60))
    assert verified(query, result.packet).answer


@pytest.mark.parametrize("rdtype", ["AAAA", "ANY"])
def test_a_signed_answer_keeps_its_aaaa_records_since_the_signature_covers_them(rdtype: str) -> None:
    query = signed_query(rdtype)
    answer, result = there_and_back(query, "AAAA 2001:db8::1")
    assert result == Deliver(answer, None)  # and its address opens nothing
    assert verified(query, result.packet).answer


def test_a_signed_answer_beyond_the_askers_limit_is_passed_on_whole() -> None:
    query = signed_query("TXT")
    answer, result = there_and_back(query, f'TXT "{"x" * 250}" "{"y" * 250}" "{"z" * 250}"')
    assert len(answer) > 512
    assert result.packet == answer
    assert verified(query, result.packet).answer


def test_an_unsigned_answer_to_a_signed_query_is_treated_like_any_other() -> None:
    _, result = there_and_back(signed_query("AAAA"), "AAAA 2001:db8::1", signed=False)
    assert dns.message.from_wire(result.packet).answer == []


def test_a_signature_that_nobody_asked_for_saves_no_aaaa_record() -> None:
    query = dns.message.make_query(ASKED, "AAAA")
    answer = dns.message.make_response(query)
    answer.answer = [dns.rrset.from_text(ASKED, 60, "IN", "AAAA", "2001:db8::1")]
    answer.use_tsig(KEY)
    result = gate.judge_answer(asked(query.to_wire()), answer.to_wire(), SETTINGS)
    assert isinstance(result, Deliver)
    assert message.read_answer(result.packet).records == ()


def test_a_sig0_is_known_by_its_place_and_by_covering_nothing() -> None:
    plain = dns.message.make_query(ASKED, "A").to_wire()
    one_more = plain[:10] + b"\0\1" + plain[12:]
    covering_a = SIG0[:11] + b"\0\1" + SIG0[13:]
    assert asked(one_more + SIG0).signature == message.TYPE_SIG
    assert asked(one_more + covering_a).signature == 0
    as_answer = plain[:6] + b"\0\1" + plain[8:]
    assert asked(as_answer + SIG0).signature == 0


def test_a_tsig_that_is_not_the_last_record_is_a_format_error() -> None:
    packet = signed_query("A").wire
    assert packet is not None
    behind = packet[:10] + b"\0\2" + packet[12:] + b"\0" + wire.record_tail(16, 1, 0, b"\1x")
    verdict = judged(behind)
    assert isinstance(verdict, Reply)
    assert verdict.packet[3] & 0xF == message.RCODE_FORMERR


@pytest.mark.parametrize("rdtype", ["AXFR", "IXFR"])
@pytest.mark.parametrize("protocol", [message.UDP, message.TCP])
def test_a_zone_transfer_is_refused_though_the_zones_name_is_allowed(rdtype: str, protocol: int) -> None:
    packet = dns.message.make_query("example.com.", rdtype).to_wire()
    verdict = judged(packet, protocol)
    assert isinstance(verdict, Reply)
    assert (verdict.packet[3] & 0xF, verdict.reason) == (message.RCODE_REFUSED, Reason.ZONE_TRANSFER)
    assert dns.message.from_wire(packet).is_response(dns.message.from_wire(verdict.packet))


def test_octets_behind_the_last_record_of_a_query_are_a_format_error() -> None:
    packet = dns.message.make_query(ASKED, "A", use_edns=0).to_wire()
    for behind in (b"\0", packet, b"\0\0\0\1\0\1"):
        verdict = judged(packet + behind)
        assert isinstance(verdict, Reply)
        assert verdict.packet[3] & 0xF == message.RCODE_FORMERR
