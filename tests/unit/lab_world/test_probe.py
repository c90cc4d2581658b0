"""The probe: what it finds on loopback, and how it reads DNS replies."""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.spec.expect import Row, parse
from lab.world import dnsquery, probe
from lab.world.patience import LEAST_S, Patience


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def found(*statements: str, deadline_s: float = 1.0) -> list[Row]:
    request = probe.request_text([parse(text) for text in statements], Path("/none"), deadline_s=deadline_s)
    output = subprocess.run(
        [sys.executable, *probe.command()],
        input=request,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return probe.rows(output.stdout)


def test_an_open_port_connects_and_is_not_blocked(listening: int) -> None:
    rows = found(f"p connects 127.0.0.1:{listening}", f"p blocked 127.0.0.1:{listening}")
    assert [(row.expected, row.actual, row.ok) for row in rows] == [
        ("connects", "connects", True),
        ("blocked", "connects", False),
    ]


def test_a_port_where_nobody_listens_is_closed_and_not_blocked(closed_port: int) -> None:
    """A reset proves that the packet arrived: a policy that should have stopped it did not."""
    rows = found(f"p connects 127.0.0.1:{closed_port}", f"p blocked 127.0.0.1:{closed_port}")
    assert [(row.actual, row.ok) for row in rows] == [("closed", False), ("closed", False)]


def test_a_reset_over_ipv6_is_blocked(closed_port: int) -> None:
    assert found(f"p blocked [::1]:{closed_port}")[0].ok


def test_rows_come_in_the_order_of_the_request_and_name_what_was_asked(listening: int) -> None:
    rows = found(f"p resolves {socket.gethostname()}", f"q connects 127.0.0.1:{listening}")
    assert [(row.pod, row.port) for row in rows] == [("p", None), ("q", listening)]


@pytest.mark.parametrize(
    ("body", "actual"),
    [("host: 127.0.0.1\n", "connects"), ("host: other.example.com\n", "another name answers")],
)
def test_an_http_answer_must_be_for_the_name_that_was_asked(body: str, actual: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = replace(parse(f"p connects 127.0.0.1:{server.getsockname()[1]}"), scheme="http")

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall((head + body).encode())

        thread = threading.Thread(target=answer)
        thread.start()
        (row,) = probe.run([asked], Path("/none"), 2.0)
        thread.join()
    assert row.actual == actual


def test_a_server_that_says_nothing_ends_with_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = replace(parse(f"p connects 127.0.0.1:{silent.getsockname()[1]}"), scheme="http")
        (row,) = probe.run([asked], Path("/none"), 0.3)
    assert (row.actual, row.ok) == ("connects, then fails", False)
    assert row.elapsed_ms < 2000


def test_addresses_are_tried_only_when_the_names_are_looked_up(
    monkeypatch: pytest.MonkeyPatch, listening: int
) -> None:
    """An address may be open because a name led to it: tried at the same time, it would depend on luck."""
    events: list[str] = []
    looked_up, connected = socket.getaddrinfo, probe._try

    def slow_lookup(*arguments: Any, **options: Any) -> Any:
        threading.Event().wait(0.2)
        events.append("name")
        return looked_up("127.0.0.1", *arguments[1:], **options)

    def noted_connection(target: probe.Endpoint, is_answered: Any) -> Any:
        events.append("address")
        return connected(target, is_answered)

    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)
    monkeypatch.setattr(probe, "_try", noted_connection)
    asked = [parse(f"p connects 127.0.0.1:{listening}"), parse("p resolves x.example.com")]
    assert all(row.ok for row in probe.run(asked, Path("/none"), 2.0))
    assert events == ["name", "address"]


@pytest.mark.parametrize(("slow_links", "least_s"), [(False, LEAST_S), (True, 1.0)])
def test_what_connects_says_how_long_silence_is(
    monkeypatch: pytest.MonkeyPatch, listening: int, slow_links: bool, least_s: float
) -> None:
    made, spoke = [], []

    class Noted(Patience):
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments)
            super().__init__(*arguments)

        def spoke(self, took_s: float) -> None:
            spoke.append(took_s)
            super().spoke(took_s)

    monkeypatch.setattr(probe, "Patience", Noted)
    asked = [parse(f"p connects 127.0.0.1:{listening}"), parse("p blocked [::1]:1")]
    assert all(row.ok for row in probe.run(asked, Path("/none"), 2.0, slow_links=slow_links))
    assert made == [(1, 1.0, least_s)]
    assert len(spoke) == 1


def test_silence_is_not_short_behind_a_name_that_took_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    looked_up = socket.getaddrinfo

    def slow_lookup(*arguments: Any, **options: Any) -> Any:
        threading.Event().wait(0.3)
        return looked_up("127.0.0.1", *arguments[1:], **options)

    def hears(patience: Patience, opened: socket.socket, within_s: float) -> bool:
        heard.append(within_s)
        return False

    def connect_ex(opened: socket.socket, target: Any) -> int:
        return errno.EINPROGRESS

    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)
    monkeypatch.setattr(Patience, "hears", hears)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    (row,) = probe.run([parse("p blocked x.example.com:443")], Path("/none"), 0.2)
    assert row.ok
    assert all(within_s >= LEAST_S for within_s in heard)
    assert heard


def test_an_unanswered_dns_query_ends_with_the_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "resolv.conf").write_text("search x\nnameserver 127.0.0.253\n")
    monkeypatch.setattr(probe, "RESOLV_CONF", tmp_path / "resolv.conf")
    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(dnsquery, "PORT", _silent_server(stack, "127.0.0.253"))
        (row,) = probe.run([parse("p refused x.example.com")], Path("/none"), 0.3)
    assert (row.actual, row.ok) == ("no answer", False)


def _silent_server(stack: contextlib.ExitStack, address: str) -> int:
    server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind((address, 0))
    port: int = server.getsockname()[1]
    return port


def test_the_probe_needs_nothing_but_the_standard_library() -> None:
    """It runs in every pod, many at once: pydantic or rich would cost each of them a tenth of a second."""
    heavy = ("pydantic", "rich", "yaml", "dnslib")
    code = f"import sys, lab.world.probe; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_reply_is_read_as_dnspython_wrote_it() -> None:
    query = dns.message.make_query("www.example.com", "A")
    reply = dns.message.make_response(query)
    reply.answer = [
        dns.rrset.from_text("www.example.com.", 60, "IN", "CNAME", "edge.example.net."),
        dns.rrset.from_text("edge.example.net.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"),
    ]
    wire = reply.to_wire()
    read = dnsquery.read_reply(wire, len(query.to_wire()) - 12)
    assert read == dnsquery.Reply("NOERROR", ("CNAME", "A", "A"))


@given(st.binary(max_size=80), st.integers(0, 40))
def test_any_bytes_are_a_reply_or_a_valueerror(packet: bytes, question_bytes: int) -> None:
    with contextlib.suppress(ValueError):
        dnsquery.read_reply(packet, question_bytes)


# --- musl, TCP, truncation ----------------------------------------------------------------------------------


def _serving(reply: Callable[[bytes], bytes]) -> Iterator[None]:
    """A DNS server on TCP; one connection, one reply."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as opened:
                query = opened.recv(512)
                answer = reply(query[2:])
                opened.sendall(len(answer).to_bytes(2, "big") + answer)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dnsquery, "PORT", server.getsockname()[1])
            yield


def test_a_query_over_tcp_is_read_like_any() -> None:
    def reply(query: bytes) -> bytes:
        answer = dns.message.make_response(dns.message.from_wire(query))
        answer.answer.append(dns.rrset.from_text("x.io.", 60, "IN", "A", "192.0.2.1"))
        return answer.to_wire()

    with contextlib.contextmanager(_serving)(reply):
        assert dnsquery.ask_over_tcp("127.0.0.1", "x.io", "A", 2) == dnsquery.Reply("NOERROR", ("A",))


@pytest.mark.parametrize("reply", [lambda query: b"", lambda query: b"xx" + query[2:]])
def test_a_connection_that_ends_or_answers_another_query_is_no_answer(
    reply: Callable[[bytes], bytes],
) -> None:
    with contextlib.contextmanager(_serving)(reply), pytest.raises(ValueError, match="another query"):
        dnsquery.ask_over_tcp("127.0.0.1", "x.io", "A", 2)


def test_a_truncated_answer_is_told_from_a_whole_one() -> None:
    query = dns.message.make_query("x.io", "A", use_edns=False)
    answer = dns.message.make_response(query)
    question = len(query.to_wire()) - 12
    assert not dnsquery.read_reply(answer.to_wire(), question).truncated
    answer.flags |= dns.flags.TC
    assert dnsquery.read_reply(answer.to_wire(), question).truncated


@pytest.mark.parametrize(
    ("program", "verb", "actual", "ok"),
    [
        ("echo 192.0.2.1", "resolves", "resolves", True),
        ("echo 192.0.2.1", "fails", "resolves", False),
        ("echo EAI_AGAIN; exit 1", "fails", "fails", True),
        ("echo EAI_AGAIN; exit 1", "resolves", "fails", False),
        ("echo 2001:db8::1", "resolves", "fails", False),
    ],
)
def test_what_musl_makes_of_a_name_is_what_its_program_says(
    tmp_path: Path, program: str, verb: str, actual: str, ok: bool
) -> None:
    stand_in = tmp_path / "resolve-by-musl"
    stand_in.write_text(f"#!/bin/sh\n{program}\n")
    stand_in.chmod(0o755)
    (row,) = probe.run([parse(f"p {verb} x.io by musl")], Path("/none"), 1.0, str(stand_in))
    assert (row.name, row.actual, row.ok) == ("x.io by musl", actual, ok)
