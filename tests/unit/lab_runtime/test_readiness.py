"""Whether a process is ready, and what it lacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.kernel.netns import Namespace
from lab.runtime import readiness
from lab.runtime.readiness import HttpReady

NOWHERE = Namespace(-1)


async def serve(path: Path, parts: Sequence[bytes]) -> None:
    """An agent that answers in the parts given, with time between them."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    await asyncio.start_unix_server(answer, str(path))


async def missing(path: Path) -> str:
    return await readiness.missing(HttpReady(path), NOWHERE, -1)


async def test_200_is_ready(tmp_path: Path) -> None:
    await serve(tmp_path / "s", [b"HTTP/1.0 200 OK\r\n\r\n", b"{}"])
    assert await missing(tmp_path / "s") == ""


async def test_the_reasons_of_an_agent_are_told_also_when_they_come_after_the_head(tmp_path: Path) -> None:
    body = json.dumps({"reasons": ["no policy yet", "no stream"]}).encode()
    await serve(tmp_path / "s", [b"HTTP/1.0 503 Service Unavailable\r\n\r\n", body[:9], body[9:]])
    assert await missing(tmp_path / "s") == "no policy yet; no stream"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 503 Service Unavailable\r\n\r\n"])
async def test_an_answer_without_reasons_is_not_ready_and_is_shown(tmp_path: Path, answer: bytes) -> None:
    await serve(tmp_path / "s", [answer])
    head = answer.partition(b"\r\n\r\n")[0]
    assert await missing(tmp_path / "s") == f"/readyz answers {head!r}"


async def test_a_socket_that_is_not_there_yet_is_not_ready(tmp_path: Path) -> None:
    assert await missing(tmp_path / "s") == "No such file or directory"


async def test_an_agent_that_does_not_answer_is_not_ready_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_PROBE_TIMEOUT_S", 0.05)

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    await asyncio.start_unix_server(keep_silent, str(tmp_path / "s"))
    assert await missing(tmp_path / "s") == "no answer within 0.05 s"
