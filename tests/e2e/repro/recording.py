"""A story played in a lab while tcpdump listens on the node: how captures of known faults come about.

A story is a scenario of which nobody knows yet what comes of it. Real clients' sockets play it against agents
of which one is wrong; what is imported afterwards is the capture, and nothing of the story but what no packet
can show.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lab.backends.order import Agents
from lab.repro.running.in_lab import Stage
from lab.repro.running.order import Found
from lab.repro.scenario.model import FIRST_NODE, Scenario
from lab.runtime.handles import Inside

_LISTENING = b"listening on"


def record(story: Scenario, agents: Agents, capture: Path) -> list[Found]:
    """Play it once; `capture` then has all that passed the node (Linux cooked, each packet several times)."""
    with Stage.up(story, agents) as stage, tcpdump(stage.lab.node(FIRST_NODE), capture):
        return stage.run()


@contextlib.contextmanager
def tcpdump(place: Inside, path: Path) -> Iterator[None]:
    """All that passes there, into a file; it is complete afterwards. One that lost packets is an error."""
    argv = [
        "tcpdump",
        "-i",
        "any",
        "-w",
        str(path),
        "-U",
        "--immediate-mode",
        "-s",
        "0",
        "-B",
        "8192",
        "-Z",
        "root",
    ]
    with place.popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        while line and _LISTENING not in line:
            line = running.stderr.readline()
        assert line, "tcpdump has ended"
        try:
            yield
            time.sleep(0.3)  # what was sent last is on its way through the kernel's buffers
        finally:
            running.terminate()
            said = running.stderr.read().decode()
    assert "0 packets dropped by kernel" in said, said
