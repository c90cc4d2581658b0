"""Anonymised: nothing of the original is left, and all relations are."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network

import dns.message
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, fragment
from scapy.packet import Packet, Raw

from acns.dns import pattern, types
from acns.errors import InputError
from lab.repro.importing import anonymise
from lab.repro.importing.words import Addresses, Words, beside_stars
from lab.repro.running import pure
from lab.repro.scenario import load, messages, packets, records
from lab.repro.scenario.model import Scenario, Step

from .scenes import learned_on_each, scenario

SECRET_WORDS = (
    "acmecorp", "payroll", "ledger", "frankfurt", "shopfront", "cdnprovider", "hostmaster", "verysecret",
    "billing", "teamred", "internalcidr", "customer",
)  # fmt: skip
SECRET_ADDRESSES = ("52.18.44.7", "52.18.44.9", "52.18.99.1", "10.77.1.0", "8.8.4.4")

POLICY = """\
# the customer is acmecorp, ask hostmaster@acmecorp.com about 52.18.44.7
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: payroll, namespace: billing, annotations: {owner: teamred}}
spec:
  description: payroll of acmecorp
  endpointSelector: {matchLabels: {app: shopfront, acmecorp.com/team: teamred}}
  egress:
  - toCIDR: [8.8.4.4/32]
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules: {dns: [{matchPattern: "payroll-*.acmecorp.com"}, {matchPattern: "*ledger.acmecorp.com"}]}
  - toFQDNs: [{matchPattern: "payroll-*.acmecorp.com"}, {matchName: bigledger.acmecorp.com}]
    toPorts: [{ports: [{port: "443", protocol: TCP}]}]
  - toCIDRSet: [{cidr: 52.18.0.0/16, except: [52.18.99.0/24]}]
    toPorts: [{ports: [{port: "8443", protocol: TCP}]}]
"""


@pytest.fixture(scope="module")
def original() -> Scenario:
    soa = (
        "acmecorp.com 60 SOA \\# "
        + (b"\x0ahostmaster\x08acmecorp\x03com\0\x0averysecret\0" + bytes(20)).hex()
    )
    https = (
        "payroll-frankfurt.acmecorp.com 60 HTTPS \\# "
        + (b"\0\1\x0bcdnprovider\x03net\0" + b"\0\4\0\4" + IPv4Address("52.18.44.9").packed).hex()
    )
    txt = "payroll-frankfurt.acmecorp.com 60 TXT \\# " + b"\x12customer: acmecorp!".hex()
    return scenario(
        {
            "ask": "PayRoll-Frankfurt.AcmeCorp.com A",
            "answers": [
                {
                    "after_ms": 1,
                    "records": [
                        "payroll-frankfurt.acmecorp.com 60 CNAME edge.cdnprovider.net",
                        "edge.cdnprovider.net 60 A 52.18.44.7",
                    ],
                    "authority": [soa],
                    "additional": [https, txt],
                }
            ],
            "outcome": "NOERROR CNAME 52.18.44.7",
        },
        {"at_ms": 5, "connect": "52.18.44.7:443", "after": 1, "outcome": "established"},
        {"at_ms": 6, "connect": "52.18.44.9:8443", "outcome": "established"},
        {"at_ms": 7, "connect": "52.18.99.1:8443", "outcome": "silent"},
        {
            "at_ms": 8,
            "ask": "bigledger.acmecorp.com A",
            "answers": [{"records": ["bigledger.acmecorp.com 60 A 52.18.44.7"]}],
            "outcome": "NOERROR 52.18.44.7",
        },
        {"at_ms": 9, "ask": "ledgers.acmecorp.com A", "outcome": "REFUSED"},
        {"at_ms": 10, "query": "01000001000000000000" + b"\x08acmecorp\x03com\0\0\x01\0\x01".hex() + "00"},
        pods=[
            {
                "name": "shopfront",
                "namespace": "billing",
                "labels": {"app": "shopfront", "acmecorp.com/team": "teamred"},
            }
        ],
        servers=[{"name": "frankfurt", "address": "8.8.4.4"}],
        policies=[{"name": "payroll.yaml", "text": POLICY}],
        assumptions=[
            "10.77.1.0 is a pod, because it asks or connects; it is called shopfront",
            "where a connection met silence somebody is there: what was lost was lost on the way",
        ],
        about="acmecorp's payroll",
        scenario="acmecorp",
    )


@pytest.fixture(scope="module")
def made(original: Scenario) -> Scenario:
    return anonymise.anonymised(original, b"a key for this test")


def test_no_word_and_no_address_of_the_original_is_left(made: Scenario) -> None:
    text = load.dumps(made).lower()
    octets = "".join(re.findall(r"\b[0-9a-f]{8,}\b", text))
    found = [word for word in SECRET_WORDS if word in text or word.encode().hex() in octets]
    found += [one for one in SECRET_ADDRESSES if one in text or IPv4Address(one).packed.hex() in octets]
    assert found == []


def test_it_comes_to_the_same_step_by_step(original: Scenario, made: Scenario) -> None:
    before, after = pure.run(original), pure.run(made)
    address = re.compile(r"\d+\.\d+\.\d+\.\d+")
    assert [address.sub("A", one.outcome) for one in after] == [
        address.sub("A", one.outcome) for one in before
    ]
    assert {one.outcome for one in before} > {"established", "silent", "REFUSED"}


def test_who_shared_an_address_or_a_domain_still_does(made: Scenario) -> None:
    first, fifth = made.steps[0], made.steps[4]
    told = first.outcome.split()[-1]
    assert (fifth.outcome, made.steps[1].connect) == (f"NOERROR {told}", f"{told}:443")
    assert first.ask
    assert fifth.ask
    ours, theirs = (records.labels_of(step.rpartition(" ")[0])[1:] for step in (first.ask, fifth.ask))
    assert [label.lower() for label in ours] == [label.lower() for label in theirs]


def test_the_case_of_a_question_is_kept(made: Scenario) -> None:
    assert made.steps[0].ask is not None
    assert [char.isupper() for char in made.steps[0].ask[:9]] == [char.isupper() for char in "PayRoll-F"]


def test_what_names_nobody_among_the_assumptions_stays(made: Scenario) -> None:
    assert [one.split(":")[0] for one in made.assumptions] == [
        "names and addresses are not those of the recording; their relations are",
        "where a connection met silence somebody is there",
    ]


def test_without_a_key_nobody_can_do_it_again(original: Scenario) -> None:
    assert anonymise.anonymised(original) != anonymise.anonymised(original)


# --- words and addresses ------------------------------------------------------------------------------------

ADDRESSES = st.ip_addresses(v=4)
KEYS = st.binary(min_size=1, max_size=8)


@given(ADDRESSES, ADDRESSES, KEYS)
def test_two_addresses_share_as_many_leading_bits_as_before(
    one: IPv4Address, other: IPv4Address, key: bytes
) -> None:
    moved = Addresses(key)
    before = int(one) ^ int(other)
    after = int(moved.address(one)) ^ int(moved.address(other))
    assert before.bit_length() == after.bit_length()


@given(ADDRESSES, st.integers(0, 32), KEYS)
def test_an_address_is_in_the_networks_in_which_it_was(address: IPv4Address, length: int, key: bytes) -> None:
    moved, network = Addresses(key), IPv4Network((address, length), strict=False)
    assert moved.address(address) in moved.network(network)
    assert moved.network(network).prefixlen == length


@given(ADDRESSES, KEYS)
def test_what_may_not_be_learned_or_is_private_stays_so(address: IPv4Address, key: bytes) -> None:
    moved = Addresses(key).address(address)
    for kind in ("is_private", "is_loopback", "is_multicast", "is_link_local", "is_reserved"):
        assert getattr(moved, kind) == getattr(address, kind), kind


NAMES = st.lists(st.text("abc12-", min_size=1, max_size=8), min_size=1, max_size=3)


@given(
    NAMES,
    st.lists(st.sampled_from(["*", "abc", "ab*", "*c1", "a-*", "1*2", "abc*abc"]), min_size=1, max_size=3),
    KEYS,
)
def test_patterns_match_what_they_matched(labels: list[str], parts: list[str], key: bytes) -> None:
    text = ".".join(parts)
    starts, ends = beside_stars(text)
    words = Words(key, frozenset(), tuple(sorted(starts, key=len)[::-1]), tuple(sorted(ends, key=len)[::-1]))
    moved = ".".join(words.text(part) for part in parts)
    before = pattern.match_pattern(text).matches(tuple(one.encode() for one in labels))
    after = pattern.match_pattern(moved).matches(tuple(words.label(one.encode()) for one in labels))
    assert not before or after


@given(st.text("abcXYZ019-_.", max_size=30), KEYS)
def test_words_keep_their_length_and_the_same_words_stay_the_same(text: str, key: bytes) -> None:
    words = Words(key, frozenset())
    assert len(words.text(text)) == len(text)
    assert words.text(text) == words.text(text)
    assert words.text(text.upper()) == words.text(text.lower()).upper()


def test_names_of_addresses_are_other_addresses_names(original: Scenario) -> None:
    by = anonymise._Anonymous(original, b"key")
    moved = by._addresses.address(IPv4Address("52.18.44.7"))
    text = records.text(records.parse("7.44.18.52.in-addr.arpa 60 PTR host.acmecorp.com"))
    made = by._record(text)
    assert made.startswith(".".join(reversed(str(moved).split("."))) + ".in-addr.arpa")
    assert by._name((b"18", b"52", b"in-addr", b"arpa")) == "0.0.in-addr.arpa"
    assert by._name((b"a", b"1", b"ip6", b"arpa")) == "0.0.ip6.arpa"


def test_octets_hide_nothing(original: Scenario) -> None:
    by = anonymise._Anonymous(original, b"key")
    question = b"\x08acmecorp\x03com\0\0\1\0\1"
    address, subnet = (
        b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x34\x12\x2c\x07",
        bytes.fromhex("0008000700011800cb7b2d"),
    )
    option = b"\0\0\x29\x04\xd0\0\0\0\0" + len(subnet).to_bytes(2) + subnet
    head = b"\x81\x80\0\1\0\1\0\0\0\1"
    given = head + question + address + option + b"trailing secrets"
    made = by._message(given)
    assert len(made) == len(given)
    for secret in (b"acmecorp", b"\x34\x12\x2c\x07", bytes.fromhex("cb7b2d"), b"secrets"):
        assert secret not in made
    unreadable = by._message(head + b"\x3fhalf of acmecorp")
    assert unreadable == head + bytes(17)


def test_of_a_service_only_addresses_and_ports_stay(original: Scenario) -> None:
    def parameter(key: int, value: bytes) -> bytes:
        return key.to_bytes(2) + len(value).to_bytes(2) + value

    addresses = [IPv4Address("198.51.100.0") + number for number in range(1, 31)]
    answers = [{"records": [f"x.acmecorp.com 60 A {one}" for one in addresses]}]
    many = scenario({"ask": "x.acmecorp.com A", "answers": answers, "outcome": "silent"})
    by = anonymise._Anonymous(many, b"b" * 32)
    hints = b"".join(one.packed for one in addresses)
    moved = b"".join(by._addresses.address(one).packed for one in addresses)
    secrets = [parameter(key, b"/acme-corp/q") for key in (1, 3, 5, 6, 7, 65_280)]
    emptied = [parameter(key, bytes(12)) for key in (1, 3, 5, 6, 7, 65_280)]
    port = parameter(3, b"\x01\xbb")
    given = b"".join([b"\0\1", b"\x08acmecorp\0", *secrets, port, parameter(4, hints), b"cut"])
    made = by._rdata(types.NUMBERS["HTTPS"], given)
    assert b"acmecorp" not in made
    assert made[12:] == b"".join([*emptied, port, parameter(4, moved), bytes(3)])


SECRET = b"acmecorp"
NAMED = b"\x08acmecorp\x03com\0"
DATA = [
    NAMED,
    NAMED + b"behind it acmecorp",
    b"\0\5" + NAMED,
    b"\0\5\0\5\1\xbb" + NAMED,
    NAMED + NAMED + bytes(20),
    NAMED + NAMED + b"acmecorp" + bytes(12) + b"x",
    b"\0\5issueacmecorp.com",
    b"\0\x0a\0\1https://acmecorp.com/",
    b"\x40acmecorp",
    b"\x3facmecorp",
    b"\0\1" + b"\x40acmecorp",
    b"\xc0\x0cacmecorp",
]


def test_of_no_record_type_there_is_anything_of_a_name_or_text_is_left(original: Scenario) -> None:
    by = anonymise._Anonymous(original, b"b" * 32)
    for kind in (*range(520), 32_768, 32_769, 65_280, 65_534, 65_535):
        for data in DATA:
            made = by._rdata(kind, data)
            assert len(made) == len(data), (kind, data)
            assert SECRET not in made, (kind, data)


ZONE = {
    "CAA": '0 issue "acmecorp.com"', "URI": '10 1 "https://acmecorp.com/"',
    "RP": "acmecorp.com. acmecorp.com.",
    "NAPTR": '1 1 "u" "acmecorp" "!acmecorp!" acmecorp.com.', "MX": "5 acmecorp.com.", "NS": "acmecorp.com.",
    "SRV": "1 2 443 acmecorp.com.", "SOA": "acmecorp.com. acmecorp.com. 1 2 3 4 5",
    "AFSDB": "1 acmecorp.com.",
    "KX": "1 acmecorp.com.", "RT": "1 acmecorp.com.", "PX": "1 acmecorp.com. acmecorp.com.",
    "HINFO": '"acmecorp" "acmecorp"', "TXT": '"acmecorp"', "SPF": '"acmecorp"', "DNAME": "acmecorp.com.",
    "NSEC": "acmecorp.com. A", "KEY": "256 3 8 YWNtZWNvcnA=",
    "RRSIG": "A 8 2 1 20300101000000 20200101000000 1 acmecorp.com. YWNtZWNvcnA=",
    "SVCB": "1 acmecorp.com. alpn=acmecorp", "HTTPS": "1 acmecorp.com. alpn=acmecorp",
    "CNAME": "acmecorp.com.", "PTR": "acmecorp.com.",
    "DNSKEY": "256 3 8 YWNtZWNvcnA=", "X25": '"3110acmecorp"', "ISDN": '"acmecorp"',
    "AVC": '"acmecorp"', "WALLET": '"acmecorp"', "RESINFO": '"acmecorp"', "NINFO": '"acmecorp"',
}  # fmt: skip


@pytest.mark.parametrize("kind", ZONE)
def test_a_record_of_any_type_says_nothing_of_a_customer_in_lines_octets_or_packets(kind: str) -> None:
    rdata = dns.rdata.from_text("IN", kind, ZONE[kind])
    packed = rdata.to_wire()
    answer = dns.message.make_response(dns.message.make_query("x.example.com", kind, id=7))
    answer.answer.append(dns.rrset.from_rdata("x.example.com.", 60, rdata))
    octets = answer.to_wire()
    udp = UDP(sport=4_000, dport=53) / Raw(octets)
    pieces = fragment(IP(src="10.244.0.2", dst="10.96.0.10", id=7) / udp, 32)
    line = f"x.example.com 60 TYPE{dns.rdatatype.from_text(kind)} \\# {packed.hex()}"
    scene = scenario(
        {"ask": f"x.example.com TYPE{int(dns.rdatatype.from_text(kind))}", "answers": [{"records": [line]}]},
        {"ask": "y.example.com A", "answers": [{"octets": octets[2:].hex()}]},
        {"wire": [bytes(IP(src="10.244.0.2", dst="10.96.0.10") / udp).hex()]},
        {"wire": [bytes(one).hex() for one in pieces]},
    )
    made = load.dumps(anonymise.anonymised(scene, b"key")).lower()
    carried = b"".join(bytes.fromhex(one)[20:] for step in scene.steps[3:] for one in step.wire)
    assert SECRET in carried
    assert "acmecorp" not in made
    assert SECRET.hex() not in re.sub(r"[^0-9a-f]", "", made)


@pytest.mark.parametrize("size", [8, 16, 24])
@pytest.mark.parametrize("turned", [False, True])
def test_a_query_in_fragments_stays_one_with_another_name_and_a_right_checksum(
    size: int, turned: bool
) -> None:
    query = dns.message.make_query("payroll.acmecorp.com", "A", id=7).to_wire()
    whole = IP(src="10.244.0.2", dst="10.96.0.10", id=7) / UDP(sport=4_000, dport=53) / Raw(query)
    cut = fragment(whole, size)[:: -1 if turned else 1]
    step = {"ask": "payroll.acmecorp.com A", "wire": [bytes(one).hex() for one in cut], "outcome": "silent"}
    made = anonymise.anonymised(scenario(step)).steps[0]
    octets = [bytes.fromhex(one) for one in made.wire]
    assert [len(one) for one in octets] == [len(bytes(one)) for one in cut]
    found = packets.datagram(octets)
    assert found is not None
    assert str(messages.question(found.payload)) == made.ask != step["ask"]
    ends = {"src": IP(octets[0]).src, "dst": IP(octets[0]).dst}
    again = IP(**ends) / UDP(sport=4_000, dport=53) / Raw(found.payload)
    assert IP(bytes(again))[UDP].chksum == int.from_bytes(found.packet.frame.data[26:28])


@pytest.mark.parametrize("spoilt", ["overlap", "lack", "options", "more"])
def test_of_fragments_that_are_no_datagram_nothing_is_left(spoilt: str) -> None:
    query = dns.message.make_query("payroll.acmecorp.com", "A", id=7).to_wire()
    udp = UDP(sport=4_000, dport=53) / Raw(query + b"acmecorp" * (spoilt == "more"))
    if spoilt == "more":
        udp.len = 8 + len(query)
    cut = fragment(IP(src="10.244.0.2", dst="10.96.0.10", id=7) / udp, 16)
    if spoilt == "overlap":
        cut[1].frag = 1
    elif spoilt == "lack":
        del cut[0]
    elif spoilt == "options":
        cut[1].options = [IPOption(b"\x86\x0aacmecorp")]
    wire = [bytes(one).hex() for one in cut]
    [step] = anonymise.anonymised(scenario({"wire": wire}), b"key").steps
    assert all(word not in load.dumps(step_of(step)) for word in ("acme", b"acme".hex(), b"payr".hex()))


def step_of(step: Step) -> Scenario:
    return scenario().model_copy(update={"steps": (step,)})


def test_nodes_are_numbered_and_their_pods_stay_on_them() -> None:
    scene = learned_on_each()
    faulty = scene.model_copy(
        update={"steps": (*scene.steps, Step(at_ms=900, fault="kill shim --node east"))}
    )
    made = anonymise.anonymised(faulty, b"key")
    assert (made.nodes, made.steps[-1].fault) == (("node1", "node2"), "kill shim --node node2")
    assert [str(pod.address) for pod in made.pods] == ["10.244.0.2", "10.244.0.3", "10.244.1.4"]
    assert [one.outcome.split()[0] for one in made.steps[:5]] == [
        one.outcome.split()[0] for one in scene.steps
    ]


# --- short words, numbers, packets --------------------------------------------------------------------------

SHORT = st.text("abz019", min_size=1, max_size=4)


@given(st.lists(SHORT, min_size=2, max_size=40, unique=True), KEYS)
def test_different_words_stay_different_however_short_and_however_many(words: list[str], key: bytes) -> None:
    moved = Words(key, frozenset(words))
    made = [moved.text(word) for word in words]
    assert len(set(made)) == len(made)
    assert [[char.isdigit() for char in one] for one in made] == [
        [char.isdigit() for char in one] for one in words
    ]


OCTETS = st.lists(st.sampled_from([b"a", b"K", b"7", b"-", b"\xc3", b"\xe3", b"\xa4", b"\xff"]), max_size=6)


@given(st.lists(OCTETS.map(b"".join), max_size=20, unique_by=bytes.lower), KEYS)
def test_labels_that_are_not_ascii_keep_their_length_and_stay_different(
    labels: list[bytes], key: bytes
) -> None:
    moved = Words(key, frozenset())
    made = [moved.label(label) for label in labels]
    assert list(map(len, made)) == list(map(len, labels))
    assert len({one.lower() for one in made}) == len(labels)


@pytest.mark.parametrize("word", ["käse", "\xc3\xa4", "é-é", "straße", "İstanbul", "名前", "٣٤"])
def test_a_word_that_is_not_ascii_does_not_stay(word: str) -> None:
    made = [Words(bytes((number,)), frozenset()).text(word) for number in range(1, 9)]
    assert {len(one) for one in made} == {len(word)}
    assert any(all(old == "-" or old != new for old, new in zip(word, one, strict=True)) for one in made)


def test_a_name_that_is_not_ascii_can_be_anonymised() -> None:
    query = "01000001000000000000" + "05" + "käse".encode().hex() + "03636f6d0000010001"
    made = anonymise.anonymised(scenario({"query": query}, {"ask": r"k\195\164se.com A"}), b"key")
    assert "käse".encode().hex() not in load.dumps(made)
    assert r"\195\164" not in load.dumps(made)


def test_all_words_of_a_kind_may_occur_at_once() -> None:
    words = [f"{number:03}" for number in range(1_000)]
    moved = Words(b"key", frozenset(words))
    assert sorted(map(moved.text, words)) == words


@pytest.mark.parametrize("label", ["xy", "a1b2c3", "q7", "7f3e9a"])
def test_a_customer_s_short_or_mixed_label_does_not_stay(label: str) -> None:
    """By chance one may become itself: not under several keys."""
    keys = [bytes((number,)) for number in range(1, 9)]
    assert any(Words(key, frozenset()).text(label) != label for key in keys)
    query = "01000001000000000000" + f"{len(label):02x}" + label.encode().hex() + "00000100010000"
    scene = scenario({"ask": f"{label}.example.com A", "outcome": "REFUSED"}, {"query": query})
    texts = [load.dumps(anonymise.anonymised(scene, key)) for key in keys]
    assert any(label not in text and label.encode().hex() not in text for text in texts)


def test_a_recorded_packet_says_nothing_of_whom_it_was_and_stays_as_right_as_it_was() -> None:
    query = b"\0\7\1\0\0\1\0\0\0\0\0\0\x08acmecorp\2xy\3com\0\0\1\0\1"
    sent = [
        IP(src="10.244.0.2", dst="52.18.44.7") / UDP(sport=4_000, dport=53) / query,
        IP(src="10.244.0.2", dst="52.18.44.7") / TCP(sport=4_000, dport=443, flags="SF") / b"acmecorp!",
        IP(src="10.244.0.2", dst="52.18.44.7") / ICMP() / b"acmecorp secret",
    ]
    scene = scenario(*({"wire": [bytes(one).hex()]} for one in sent))
    made = anonymise.anonymised(scene, b"a key for this test")
    for before, step in zip(sent, made.steps, strict=True):
        [octets] = map(bytes.fromhex, step.wire)
        assert len(octets) == len(bytes(before))
        assert b"acme" not in octets
        assert IPv4Address("52.18.44.7").packed not in octets
        again = IP(octets)
        del again.chksum
        del again[1].chksum
        assert bytes(again) == octets


@pytest.mark.parametrize(
    "packet",
    [
        TCP(sport=4_000, dport=443, dataofs=15) / b"acmecorp's own words",
        TCP(sport=4_000, dport=443, dataofs=2) / b"acmecorp's own words",
        ICMP(type=5, code=1, gw="52.18.44.7") / b"acmecorp",
        ICMP(type=5, gw="52.18.44.7"),
    ],
)
def test_a_header_that_is_none_and_a_redirect_hide_nothing(packet: Packet) -> None:
    sent = bytes(IP(src="10.244.0.2", dst="52.18.44.9") / packet)
    [step] = anonymise.anonymised(scenario({"wire": [sent.hex()]}), b"key").steps
    [octets] = map(bytes.fromhex, step.wire)
    assert len(octets) == len(sent)
    assert b"acme" not in octets
    assert IPv4Address("52.18.44.7").packed not in octets


def test_an_echo_keeps_what_tells_it_from_others() -> None:
    sent = bytes(IP(src="10.244.0.2", dst="52.18.44.9") / ICMP(type=8, id=0x1234, seq=5) / b"acmecorp")
    [step] = anonymise.anonymised(scenario({"wire": [sent.hex()]}), b"key").steps
    assert bytes.fromhex(step.wire[0])[24:] == b"\x12\x34\0\5" + bytes(8)


def test_octets_that_mean_something_else_without_what_they_said_are_left_out() -> None:
    """Text to port 53: the resolver tells it from an answer by the very octets that have to go."""
    garbage = {"query": b"GET / HTTP/1.1 secret".hex(), "outcome": "silent"}
    told = {"ask": "api.example.com A", "answers": [{"records": ["api.example.com 60 A 198.51.100.1"]}]}
    made = anonymise.anonymised(scenario(garbage, {"at_ms": 5, **told}))
    assert [step.kind for step in made.steps] == ["ask"]
    assert made.steps[0].ask is not None
    assert any("1 steps are left out" in one for one in made.assumptions)
    with pytest.raises(InputError, match="no step means the same"):
        anonymise.anonymised(scenario(garbage))
