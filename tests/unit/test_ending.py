"""An agent that is told to end while it starts does, in good order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from acns import command, ending

HEEDED = pytest.mark.parametrize("number", ending.SIGNALS, ids=lambda number: number.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of an agent that has none."""

    log_file: str = ""
    log_level: str = "info"


@pytest.fixture(autouse=True)
def no_nohup() -> Iterator[None]:
    """What ignores SIGHUP has all that it starts ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@HEEDED
@pytest.mark.parametrize("agent", ["shim", "resolver"])
def test_one_that_still_imports_ends_without_a_word(agent: str, number: signal.Signals) -> None:
    arguments = [sys.executable, "-X", "importtime", "-m", f"acns.{agent}", "--settings", "/nowhere"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr
        assert any(line.endswith("acns.errors\n") for line in started.stderr), "it is early"
        started.send_signal(number)
        said = [line for line in started.stderr if not line.startswith("import time:")]
    assert (started.returncode, said) == (0, [])


@HEEDED
def test_one_that_is_made_in_one_piece_hears_of_it_afterwards(number: signal.Signals) -> None:
    done = []

    async def serve(settings: Settings) -> None:
        os.kill(os.getpid(), number)
        done.append("made")
        stop = asyncio.Event()
        ending.heard_by(stop.set)
        await stop.wait()
        done.append("cleared away")

    assert command.run("agent", "", Settings, serve, []) == 0
    assert done == ["made", "cleared away"]


def test_whoever_has_it_ignore_a_terminals_end_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending.at_once():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
