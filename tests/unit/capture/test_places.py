"""Telling the recorder where to listen: what it could not do is not taken for done."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acns.errors import AcnsError
from lab.capture import places


class RecorderThatAnswers:
    """These lines, one for each connection."""

    def __init__(self, control: Path, *lines: bytes) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(control))
        self._listener.listen()
        self.asked: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._serve, args=lines, daemon=True)
        self._thread.start()

    def _serve(self, *lines: bytes) -> None:
        for line in lines:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as stream:
                self.asked.append(json.loads(stream.readline()))
                connection.sendall(line)

    def end(self) -> None:
        self._thread.join(5)
        self._listener.close()


FAILED = (
    json.dumps({"error": {"class": "EnvironmentFault", "message": "no memory", "hint": ""}}).encode() + b"\n"
)


@pytest.mark.parametrize("first", [FAILED, b""], ids=["an error", "nothing"])
def test_what_failed_is_asked_for_again_and_what_is_done_is_not(tmp_path: Path, first: bytes) -> None:
    recorder = RecorderThatAnswers(tmp_path / "control", first, b'{"places": ["node1"]}\n')
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    wanted: Any = {"node1": SimpleNamespace(net=here)}

    def tell() -> None:
        places.tell(tmp_path / "control", tmp_path / "places.json", wanted, {})

    try:
        with pytest.raises(AcnsError):
            tell()
        tell()
        tell()
        assert [one["op"] for one in recorder.asked] == [places.LISTEN] * 2
        assert places.read(tmp_path / "places.json") == {"node1": f"/proc/1/fd/{here}"}
    finally:
        recorder.end()
        os.close(here)


def test_a_pod_whose_link_is_another_by_the_same_name_is_told(tmp_path: Path) -> None:
    recorder = RecorderThatAnswers(tmp_path / "control", b'{"places": []}\n', b'{"places": []}\n')
    for number in (10, 11, 11):
        links = {"default/a": places.PodLink("node/n1", "lxc1", number)}
        places.tell(tmp_path / "control", tmp_path / "places.json", {}, links)
    recorder.end()
    assert len(recorder.asked) == 2
    assert places.read_pods(tmp_path / "places.json") == links
