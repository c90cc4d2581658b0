"""The Internet's DNS server, asked over real sockets by dnspython."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from lab.spec.topology import InternetName
from lab.world import dns as internet_dns

from .lab_world_servers import free_port, running

NAMES = {
    "api.example.com": InternetName(a=("198.51.100.1", "198.51.100.2"), ttl_s=60),
    "www.example.com": InternetName(cname="cdn.example.net", ttl_s=30),
    "cdn.example.net": InternetName(cname="edge.cdn.example.net"),
    "edge.cdn.example.net": InternetName(a=("198.51.100.9",), ttl_s=5),
    "v6.example.com": InternetName(aaaa=("2001:db8::1",)),
    "turn.example.com": InternetName(a=("198.51.100.4", "198.51.100.5"), rotate=True),
    "big.example.com": InternetName(a=tuple(f"203.0.113.{n}" for n in range(1, 120))),
}
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    port: int
    records: Path
    query_log: Path

    def ask(self, name: str, kind: str = "A", **options: int) -> dns.message.Message:
        return dns.query.udp(dns.message.make_query(name, kind, **options), HOST, port=self.port, timeout=5)

    def logged(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.query_log.read_text().splitlines()]

    def replace_records(self, text: str) -> None:
        temporary = self.records.with_suffix(".new")
        temporary.write_text(text)
        temporary.rename(self.records)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("dns")
    records, log, port = folder / "names.json", folder / "queries.jsonl", free_port()
    records.write_text(internet_dns.records_text(NAMES))
    command = internet_dns.command(records=records, listen=[IPv4Address(HOST)], query_log=log)
    with running([*command, "--port", str(port)]):
        yield Server(port, records, log)


@pytest.fixture
def server(process: Server) -> Server:
    """The server as every test finds it: the same names, an empty log."""
    process.replace_records(internet_dns.records_text(NAMES))
    process.query_log.write_text("")
    return process


def texts(message: dns.message.Message) -> list[str]:
    return [item for rrset in message.answer for item in rrset.to_text().splitlines()]


def test_a_name_has_its_addresses(server: Server) -> None:
    answer = server.ask("api.example.com")
    assert sorted(texts(answer)) == [
        "api.example.com. 60 IN A 198.51.100.1",
        "api.example.com. 60 IN A 198.51.100.2",
    ]
    assert answer.flags & dns.flags.AA


def test_a_cname_chain_is_one_answer_in_order(server: Server) -> None:
    assert texts(server.ask("www.example.com")) == [
        "www.example.com. 30 IN CNAME cdn.example.net.",
        "cdn.example.net. 60 IN CNAME edge.cdn.example.net.",
        "edge.cdn.example.net. 5 IN A 198.51.100.9",
    ]


def test_the_questions_case_is_kept(server: Server) -> None:
    query = dns.message.make_query("aPi.eXaMpLe.CoM", "A")
    wire = query.to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.sendto(wire, (HOST, server.port))
        reply = opened.recv(4096)
    assert reply[12 : len(wire)] == wire[12:]
    assert reply.count(b"\x03aPi\x07eXaMpLe\x03CoM") == 1


def test_a_rotating_name_gives_one_address_at_a_time_in_turn(server: Server) -> None:
    given = [texts(server.ask("turn.example.com"))[0].rpartition(" ")[2] for _ in range(4)]
    assert given == ["198.51.100.4", "198.51.100.5"] * 2


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("none.example.com", "A", dns.rcode.NXDOMAIN),
        ("v6.example.com", "A", dns.rcode.NOERROR),
        ("api.example.com", "MX", dns.rcode.NOERROR),
        ("example.com", "A", dns.rcode.NOERROR),
    ],
)
def test_what_is_not_there_is_said_with_an_soa(server: Server, name: str, kind: str, rcode: int) -> None:
    answer = server.ask(name, kind)
    assert answer.rcode() == rcode
    assert not answer.answer
    assert [rrset.rdtype for rrset in answer.authority] == [dns.rdatatype.SOA]


def test_edns_is_answered_with_edns_and_only_then(server: Server) -> None:
    assert server.ask("api.example.com", use_edns=0, payload=4096).edns == 0
    assert server.ask("api.example.com").edns == -1


def test_an_answer_too_big_for_udp_is_truncated_and_whole_over_tcp(
    server: Server,
) -> None:
    for options in ({}, {"use_edns": 0, "payload": 4096}):
        short = server.ask("big.example.com", **options)
        assert short.flags & dns.flags.TC
        assert short.question[0].name.to_text() == "big.example.com."
    query = dns.message.make_query("big.example.com", "A")
    assert len(texts(dns.query.tcp(query, HOST, port=server.port, timeout=5))) == 119


def test_many_queries_share_a_tcp_connection(server: Server) -> None:
    queries = [
        dns.message.make_query(name, "A") for name in ("api.example.com", "big.example.com", "none.test")
    ]
    with socket.create_connection((HOST, server.port), timeout=5) as opened:
        for query in queries:
            wire = query.to_wire()
            opened.sendall(struct.pack("!H", len(wire)) + wire)
        for query in queries:
            assert dns.query.receive_tcp(opened)[0].id == query.id


QUESTION = b"\x01x\x00\x00\x01\x00\x01"


@pytest.mark.parametrize(
    ("questions", "rest"), [(1, b""), (1, b"\xff" * 20), (1, QUESTION[:4]), (2, QUESTION * 2), (0, b"")]
)
def test_what_is_not_one_question_gets_formerr(server: Server, questions: int, rest: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.sendto(
            b"\x12\x34" + b"\x01\x00\x00" + bytes([questions, *bytes(6)]) + rest, (HOST, server.port)
        )
        reply = opened.recv(4096)
    assert reply[:2] == b"\x12\x34"
    assert reply[3] & 0xF == dns.rcode.FORMERR


def test_every_query_is_in_the_log_when_its_answer_has_come(server: Server) -> None:
    server.ask("API.example.com")
    server.ask("none.example.com", "AAAA")
    query = dns.message.make_query("v6.example.com", "AAAA")
    dns.query.tcp(query, HOST, port=server.port, timeout=5)
    seen = [(e["client"], e["transport"], e["name"], e["type"], e["rcode"]) for e in server.logged()]
    assert seen == [
        (HOST, "udp", "API.example.com.", "A", "NOERROR"),
        (HOST, "udp", "none.example.com.", "AAAA", "NXDOMAIN"),
        (HOST, "tcp", "v6.example.com.", "AAAA", "NOERROR"),
    ]
    assert server.logged()[-1]["id"] == query.id


def test_changed_records_count_from_the_next_query_on(server: Server) -> None:
    assert server.ask("new.example.com").rcode() == dns.rcode.NXDOMAIN
    server.replace_records(internet_dns.records_text({"new.example.com": InternetName(a=("198.51.100.77",))}))
    assert texts(server.ask("new.example.com")) == ["new.example.com. 60 IN A 198.51.100.77"]


@pytest.mark.parametrize("text", ["{", "[]", '{"names": {"x.io": {"a": ["no"]}}}', '{"names": 7}'])
def test_a_broken_records_file_leaves_the_old_records(server: Server, text: str) -> None:
    assert len(texts(server.ask("api.example.com"))) == 2
    server.replace_records(text)
    assert len(texts(server.ask("api.example.com"))) == 2


def test_two_thousand_names_are_no_burden(server: Server) -> None:
    names = {f"n{i}.bulk.example.com": InternetName(a=(f"198.18.{i >> 8}.{i & 255}",)) for i in range(2000)}
    server.replace_records(internet_dns.records_text(names))
    for i in range(2000):
        assert texts(server.ask(f"n{i}.bulk.example.com"))[0].endswith(f"198.18.{i >> 8}.{i & 255}")


def test_the_root_itself_can_be_asked_for(server: Server) -> None:
    answer = server.ask(".", "NS")
    assert (answer.rcode(), texts(answer)) == (dns.rcode.NOERROR, [])
    assert [rrset.rdtype for rrset in answer.authority] == [dns.rdatatype.SOA]
