"""The pages of an agent: what they say, and that no client keeps another from them."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault, InputError
from acns.telemetry import http as pages
from acns.telemetry import metrics, page_address, sockets
from acns.telemetry.http import HealthServer, Readiness
from tests import waiting
from tests.agent_pages import get

Raw = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """Of a server that is up, with a page `/long` of 4 MiB and a page `/broken`."""

    def broken() -> object:
        raise ZeroDivisionError

    views = {"/long": lambda: "x" * (4 << 20), "/broken": broken}
    server = HealthServer(str(tmp_path / "s"), metrics.new_registry(), Readiness, views)
    await server.start()
    yield tmp_path / "s"
    await server.stop()


@pytest.fixture
def raw(path: Path) -> Raw:
    async def asked(request: bytes) -> bytes:
        """All that comes back, the client's half being closed."""
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(request)
        writer.write_eof()
        try:
            return await reader.read()
        finally:
            writer.close()

    return asked


async def test_pages_of_the_health_server(tmp_path: Path) -> None:
    state = [Readiness(("no policy snapshot yet",), {"endpoints": 0})]
    registry = metrics.new_registry()
    server = HealthServer(str(tmp_path / "s"), registry, lambda: state[-1])
    await server.start()
    assert (await get(tmp_path / "s", "/healthz"))[0] == 200
    status, body = await get(tmp_path / "s", "/readyz")
    assert (status, json.loads(body)) == (
        503,
        {"ready": False, "reasons": ["no policy snapshot yet"], "endpoints": 0},
    )
    state.append(Readiness())
    assert (await get(tmp_path / "s", "/readyz"))[0] == 200
    assert "process_cpu_seconds_total" in (await get(tmp_path / "s", "/metrics"))[1]
    await server.stop()
    assert not (tmp_path / "s").exists()


async def test_stopping_leaves_a_successors_socket_alone(tmp_path: Path) -> None:
    server = HealthServer(str(tmp_path / "s"), metrics.new_registry(), Readiness)
    await server.start()
    (tmp_path / "s").rename(tmp_path / "old")
    with sockets.listen(tmp_path / "s"):
        await server.stop()
        assert (tmp_path / "s").exists()


async def test_pages_are_lost_when_their_link_is_gone_and_not_when_it_leads_to_anothers(
    tmp_path: Path,
) -> None:
    first, second = (HealthServer(str(tmp_path / "s"), metrics.new_registry(), Readiness) for _ in range(2))
    assert not first.is_lost
    await first.start()
    assert not first.is_lost
    await second.start()
    assert not first.is_lost
    await second.stop()
    assert first.is_lost
    await first.stop()


async def test_a_taken_port_is_an_environment_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = HealthServer(f"127.0.0.1:{taken.getsockname()[1]}", metrics.new_registry(), Readiness)
        with pytest.raises(EnvironmentFault, match="cannot listen"):
            await server.start()


async def test_an_empty_address_turns_it_off() -> None:
    server = HealthServer("", metrics.new_registry(), Readiness)
    await server.start()
    await server.stop()
    await asyncio.sleep(0)


@pytest.mark.parametrize("address", ["nonsense", "host:", ":80", "host:70000", f"{'a' * 70}:80", "a..b:80"])
def test_an_address_that_is_none_is_an_input_error(address: str) -> None:
    with pytest.raises(InputError):
        page_address.split_host_port(address)


async def test_a_long_page_comes_whole(path: Path) -> None:
    status, body = await get(path, "/long")
    assert (status, len(json.loads(body))) == (200, 4 << 20)


async def test_the_head_of_a_page_comes_without_its_body(raw: Raw) -> None:
    head, _, body = (await raw(b"HEAD /long HTTP/1.1\r\nHost: agent\r\n\r\n")).partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"Content-Length: 4194306" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /nothing HTTP/1.1", 404),
        (b"GET /healthz?verbose HTTP/1.1", 200),
        (b"POST /healthz HTTP/1.1", 405),
        (b"GET /healthz", 400),
        (b"\xff\x00", 400),
        (b"GET /broken HTTP/1.1", 500),
    ],
)
async def test_each_request_has_its_status(raw: Raw, request_line: bytes, status: int) -> None:
    answer = await raw(request_line + b"\r\nHost: agent\r\n\r\n")
    assert answer.split(b" ")[:2] == [b"HTTP/1.1", b"%d" % status]


async def test_a_head_without_end_is_refused_and_not_kept(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * pages.MAX_HEAD_BYTES)
    assert (await reader.readline()).split(b" ")[1] == b"431"
    writer.close()


async def test_half_a_request_is_refused_and_none_gets_nothing(raw: Raw) -> None:
    assert b" 400 " in (await raw(b"GET /healthz HTTP/1.1\r\nHost:"))
    assert await raw(b"") == b""


async def test_clients_that_say_nothing_take_nobodys_place(path: Path) -> None:
    silent = [await asyncio.open_unix_connection(str(path)) for _ in range(3 * pages.MAX_CONNECTIONS)]
    assert (await get(path, "/healthz"))[0] == 200
    reader, _ = silent[0]
    assert await reader.read() == b""  # it has given way
    for _, writer in silent:
        writer.close()


@pytest.mark.parametrize(
    "request_text", [b"", b"GET /long HTTP/1.1\r\nHost: agent\r\n\r\n"], ids=["asks", "reads"]
)
async def test_a_client_that_never_asks_or_never_reads_is_let_go(
    path: Path, request_text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "EXCHANGE_S", 0.05)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(request_text)
        await asyncio.to_thread(waiting.until, lambda: _hung_up(client), "the server hangs up")


def _hung_up(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLHUP)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


async def test_stopping_waits_for_no_client(tmp_path: Path) -> None:
    server = HealthServer(str(tmp_path / "s"), metrics.new_registry(), Readiness)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    assert (await get(tmp_path / "s", "/healthz"))[0] == 200
    await server.stop()
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://agent/healthz", 200),
        (b"HTTP://127.0.0.1:9091/healthz?verbose", 200),
        (b"http://agent/nothing", 404),
        (b"http://agent", 404),
        (b"//agent/healthz", 404),
    ],
)
async def test_a_target_may_come_with_its_host(raw: Raw, target: bytes, status: int) -> None:
    """RFC 9112 §3.2.2: as proxies are asked; servers must accept it too."""
    answer = await raw(b"GET %s HTTP/1.1\r\nHost: agent\r\n\r\n" % target)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
