"""Another program in an agent's place for a while: the faulty agents that prove what the tests can see."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from lab.runtime.handles import ProcessHandle
from lab.runtime.lab import Lab

from .wire import until


@contextmanager
def stand_in(lab: Lab, node: str, agent: str, program: Path) -> Iterator[None]:
    """`program` runs as the node's `agent` (`shim`, `resolver`), with its settings, for the block's time."""
    place = lab.node(node)
    process: ProcessHandle = getattr(place, agent)
    settings = lab.folder.node(node) / f"{agent}.toml"
    process.hold()
    log = settings.with_name(f"{program.stem}.log")
    with log.open("wb") as stream:
        running = place.popen(
            [sys.executable, str(program), "--settings", str(settings)], stdout=stream, stderr=stream
        )
    try:
        until(lambda: running.poll() is not None or is_ready(process), f"{program.name} is ready")
        assert running.poll() is None, log.read_text()
        wait_joined(lab, node)
        yield
    finally:
        running.kill()
        running.wait()
        process.start()
        process.wait_ready()
        wait_joined(lab, node)


def is_ready(process: ProcessHandle) -> bool:
    """Whether whatever runs in the agent's place says that it is ready."""
    return _readyz(process) == HTTPStatus.OK


def answers_http(process: ProcessHandle) -> bool:
    """Whether anything runs in the agent's place, ready or not."""
    return _readyz(process) is not None


def _readyz(process: ProcessHandle) -> int | None:
    try:
        return process.http_get("/readyz").status
    except OSError:
        return None


def wait_joined(lab: Lab, node: str) -> None:
    """Wait until the node's resolver has the shim's policy stream."""
    resolver = lab.node(node).resolver
    until(lambda: resolver.http_get("/readyz").json()["agent_connected"], "the agents have met")
