"""The recorder alone: what it listens to when its places change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.capture import bpf
from lab.capture.recorder import Recorder
from lab.capture.ring import packets
from lab.kernel import netns
from lab.kernel.links import Links

from .test_ring import ONLY_OURS, send

pytestmark = pytest.mark.root

PLACE = "node/node1"
SIZE_BYTES = 4 << 20


@pytest.fixture
def file(tmp_path: Path, alone: netns.Namespace) -> Path:
    return say(tmp_path / "places", alone)


def say(file: Path, namespace: netns.Namespace | None) -> Path:
    """That is where the place is now."""
    there = {PLACE: f"/proc/self/fd/{namespace.net}"} if namespace else {}
    file.write_text(json.dumps({"places": there}))
    return file


def start(recorder: Recorder, interface: str) -> None:
    links = [{"place": PLACE, "interface": interface}]
    program = bpf.compiled(ONLY_OURS).hex()
    recorder.answer(
        {"op": "start", "links": links, "program": program, "filter": ONLY_OURS, "size_bytes": SIZE_BYTES}
    )


def stopped(recorder: Recorder) -> set[bytes]:
    """What the started capture has, payload by payload; it is over."""
    _, blocks = recorder.answer({"op": "stop"})
    return {packet.data[42:] for block in blocks for packet in packets(block)}


@pytest.mark.parametrize("interface", ["", "lo"])
def test_a_started_capture_goes_on_at_a_node_that_is_made_anew(
    file: Path, alone: netns.Namespace, anew: netns.Namespace, interface: str
) -> None:
    recorder = Recorder(file)
    start(recorder, interface)
    send(alone, [b"before"])
    for now in (None, anew):
        say(file, now)
        recorder.answer({"op": "listen"})
    send(anew, [b"after"])
    assert stopped(recorder) == {b"before", b"after"}


def test_a_capture_that_was_stopped_does_not_come_back(
    file: Path, alone: netns.Namespace, anew: netns.Namespace
) -> None:
    recorder = Recorder(file)
    start(recorder, "")
    send(alone, [b"first"])
    assert stopped(recorder) == {b"first"}
    say(file, anew)
    recorder.answer({"op": "listen"})
    start(recorder, "")
    send(anew, [b"second"])
    assert stopped(recorder) == {b"second"}


def test_a_link_that_does_not_come_back_is_said_and_the_rest_goes_on(
    file: Path, alone: netns.Namespace, anew: netns.Namespace, capfd: pytest.CaptureFixture[str]
) -> None:
    with Links(alone) as links:
        links.bridge("br0", 20)
    recorder = Recorder(file)
    start(recorder, "br0")
    say(file, anew)
    assert recorder.answer({"op": "listen"})[0] == {"places": [PLACE]}
    assert "goes on without" in capfd.readouterr().err
    assert stopped(recorder) == set()
