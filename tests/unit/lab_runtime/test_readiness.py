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


async def test_a_shim_that_is_too_busy_to_answer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be busy with the very manifests that it shall go by; who is gone answers at once that he is."""
    monkeypatch.setattr(readiness, "_PROBE_TIMEOUT_S", 0.05)
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            await asyncio.Event().wait()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.0 200 OK\r\n\r\n{"manifests": {}}')
        writer.close()

    server = await asyncio.start_unix_server(answer, str(tmp_path / "s"))
    await readiness.wait_current(tmp_path / "s", manifests)
    assert asked == 3
    server.close()
    (tmp_path / "s").unlink()
    (manifests / "new.yaml").write_text("# nothing\n")
    await readiness.wait_current(tmp_path / "s", manifests)


@pytest.mark.parametrize("name", ["p.yaml", "p.yml", "p.json"])
def test_whatever_a_shim_reads_counts_and_nothing_else(tmp_path: Path, name: str) -> None:
    for file in (name, f".{name}", "notes.txt"):
        (tmp_path / file).write_text("# nothing\n")
    read = {name: str((tmp_path / name).stat().st_mtime_ns)}
    assert readiness.is_current({"manifests": read}, tmp_path)
    assert not readiness.is_current({"manifests": {}}, tmp_path)


def test_a_link_that_leads_nowhere_counts_as_the_shim_has_it(tmp_path: Path) -> None:
    for name, target in (("itself.yaml", "itself.yaml"), ("nowhere.yaml", "nowhere")):
        (tmp_path / name).symlink_to(target)
    assert readiness.is_current({"manifests": {"itself.yaml": "0", "nowhere.yaml": "0"}}, tmp_path)
    assert not readiness.is_current({"manifests": {}}, tmp_path)


def test_a_shim_whose_folder_is_away_is_as_current_as_it_can_be(tmp_path: Path) -> None:
    assert readiness.is_current({"manifests": {"p.yaml": "1"}}, tmp_path / "away")
    assert not readiness.is_current({"manifests": {}, "problems_pending": True}, tmp_path / "away")
