"""Requests to the holder and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acns.errors import Bug, EnvironmentFault
from lab.errors import HolderGone, ProcessFailed
from lab.runtime.control import Client, Handler, Progress, Server


async def echo(arguments: dict[str, Any], progress: Progress) -> Any:
    return arguments


async def work(arguments: dict[str, Any], progress: Progress) -> str:
    for step in range(3):
        progress(f"step {step}")
        await asyncio.sleep(0)
    return "done"


async def fail(arguments: dict[str, Any], progress: Progress) -> None:
    raise ProcessFailed("node1/shim ended with exit code 3", hint="its log: x")


async def break_down(arguments: dict[str, Any], progress: Progress) -> None:
    raise ZeroDivisionError("oops")


HANDLERS: dict[str, Handler] = {"echo": echo, "work": work, "fail": fail, "break": break_down}


@pytest.fixture
def client() -> Iterator[Client]:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=lambda: asyncio.run(Server(HANDLERS).serve_connection(theirs)))
    thread.start()
    with Client(ours) as connected:
        yield connected
    thread.join(5)


def test_a_request_is_answered_with_its_result(client: Client) -> None:
    assert client.call("echo", a=1, b="ü\n") == {"a": 1, "b": "ü\n"}


def test_progress_comes_in_order_and_before_the_result(client: Client) -> None:
    seen: list[str] = []
    assert client.call("work", progress=seen.append) == "done"
    assert seen == ["step 0", "step 1", "step 2"]


def test_an_error_is_raised_again_as_the_class_it_was_with_its_hint(client: Client) -> None:
    with pytest.raises(ProcessFailed, match="exit code 3") as caught:
        client.call("fail")
    assert caught.value.hint == "its log: x"


def test_a_failure_of_the_holder_itself_is_told_and_does_not_end_it(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Bug, match="ZeroDivisionError: oops"):
        client.call("break")
    assert "Traceback" in capfd.readouterr().err
    assert client.call("echo") == {}


def test_a_request_of_many_megabytes_gets_through(client: Client) -> None:
    text = "x" * (5 << 20)
    assert client.call("echo", text=text) == {"text": text}


def test_a_holder_that_dies_in_the_middle_is_an_error_of_its_own() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with Client(ours) as client, pytest.raises(HolderGone):
        client.call("echo")


def test_a_holder_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HolderGone, match=r"lab\.down"):
        Client.connect(tmp_path / "none.sock")


async def test_only_the_owner_may_use_the_socket(tmp_path: Path) -> None:
    await Server(HANDLERS).listen(tmp_path / "control.sock")
    assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600


def test_an_environment_fault_stays_one() -> None:
    async def lacking(arguments: dict[str, Any], progress: Progress) -> None:
        raise EnvironmentFault("no tproxy")

    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=lambda: asyncio.run(Server({"x": lacking}).serve_connection(theirs)))
    thread.start()
    with Client(ours) as client, contextlib.suppress(HolderGone), pytest.raises(EnvironmentFault):
        client.call("x")
    thread.join(5)
