"""The lab's recorder: a process that keeps the packet rings, and hands over what they hold when asked.

One ring for each node and one for the Internet, from `lab.up` until the lab ends: a packet
socket that is bound to no link hears them all, so 250 pods cost no more rings than one. Beside those there
may be one capture that somebody has started, with links and a filter of his own.

Asked over a unix socket (0600), one request a connection: a JSON line each way, then the blocks of the rings
as they are. Who reads them is in `lab.capture.tapes`; nothing is taken apart here.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from acns.errors import AcnsError, InputError
from lab.capture import bpf
from lab.capture.ring import RETIRE_MS, TEND_EVERY_S, Ring
from lab.kernel import netns
from lab.world.ready import say_ready

Request = dict[str, Any]
Reply = tuple[dict[str, Any], list[bytes]]

_SETTLED_S: Final = 2 * RETIRE_MS / 1000
"""After so long every packet of before is in a block that is handed over."""


@dataclass(frozen=True, slots=True)
class Tape:
    """One ring, and what it listens to: a place, and one link of it or ("") all."""

    place: str
    interface: str
    ring: Ring


class Recorder:
    """`places`: descriptors of network namespaces."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self._lock = threading.Lock()
        program = bpf.beginnings()
        self._always = [Tape(place, "", Ring(at, program)) for place, at in places.items()]
        self._started: list[Tape] = []
        self._about: dict[str, Any] = {}

    def tend(self) -> None:
        with self._lock:
            for tape in (*self._always, *self._started):
                tape.ring.tend()

    def answer(self, request: Request) -> Reply:
        """Raises InputError for what cannot be done."""
        what = request["op"]
        if what in ("read", "stop"):
            time.sleep(_SETTLED_S)
        with self._lock:
            match what:
                case "start":
                    return self._start(request), []
                case "stop":
                    return self._stop()
                case "read":
                    return self._read(request["which"])
                case _:
                    return {
                        "started": self._about,
                        "counts": [self._heading(one) for one in self._always],
                    }, []

    def _start(self, request: Request) -> dict[str, Any]:
        if self._started:
            raise InputError("a capture runs already", hint="invoke lab.capture stop")
        links = [(link["place"], link["interface"]) for link in request["links"]]
        size = request["size_bytes"] // max(1, len(links))
        program = bytes.fromhex(request["program"])
        try:
            for place, interface in links:
                ring = Ring(self._places[place], program, interface=interface, size_bytes=size)
                self._started.append(Tape(place, interface, ring))
        except BaseException:
            self._close_started()
            raise
        self._about = {"filter": request["filter"], "started_at_s": time.time()}
        return self._about

    def _stop(self) -> Reply:
        if not self._started:
            raise InputError("no capture was started", hint="invoke lab.capture start")
        reply = self._read("started")
        self._close_started()
        return reply

    def _close_started(self) -> None:
        for tape in self._started:
            tape.ring.close()
        self._started, self._about = [], {}

    def _read(self, which: str) -> Reply:
        tapes = self._started if which == "started" else self._always
        if not tapes:
            raise InputError("no capture was started", hint="invoke lab.capture start")
        about = self._about if which == "started" else {}
        held = [(tape, tape.ring.contents()) for tape in tapes]
        headings = [
            {**self._heading(tape), "links": self._links(tape), "blocks": [len(block) for block in blocks]}
            for tape, blocks in held
        ]
        return {"tapes": headings, "about": about}, [block for _, blocks in held for block in blocks]

    def _heading(self, tape: Tape) -> dict[str, Any]:
        return {"place": tape.place, "interface": tape.interface, **asdict(tape.ring.counts())}

    def _links(self, tape: Tape) -> dict[int, str]:
        """The links of its place as they are now, by number."""
        return dict(netns.in_namespace(self._places[tape.place], socket.if_nameindex))


def command(control: Path, places: Mapping[str, int], ready_fd: int) -> list[str]:
    """`places`: the holder's descriptors of network namespaces."""
    named = [f"--place={place}=/proc/1/fd/{descriptor}" for place, descriptor in places.items()]
    return ["-m", "lab.capture.recorder", "--control", str(control), "--ready-fd", str(ready_fd), *named]


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.capture.recorder", description="Internal to lab.up.")
    parser.add_argument("--control", type=Path, required=True, help="path of the socket to listen on")
    parser.add_argument("--place", action="append", default=[], help="NAME=file of a network namespace")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a byte when all is recorded")
    options = parser.parse_args()
    named = (place.split("=", 1) for place in options.place)
    try:
        recorder = Recorder({name: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for name, path in named})
        with _listening(options.control) as listener:
            say_ready(options.ready_fd)
            _serve(listener, recorder)
    except AcnsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    old_mask = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
    finally:
        os.umask(old_mask)
    listener.listen()
    return listener


def _serve(listener: socket.socket, recorder: Recorder) -> None:
    """Until killed: the rings are tended whoever asks for what, and however slowly he takes it."""
    listener.settimeout(TEND_EVERY_S)
    while True:
        try:
            connection, _ = listener.accept()
            connection.settimeout(60.0)
            threading.Thread(target=_answer, args=(connection, recorder), daemon=True).start()
        except TimeoutError:
            pass
        recorder.tend()


def _answer(connection: socket.socket, recorder: Recorder) -> None:
    with connection, connection.makefile("rwb") as stream:
        try:
            for octets in _reply(recorder, stream.readline()):
                stream.write(octets)
        except OSError:
            return  # he has gone


def _reply(recorder: Recorder, line: bytes) -> Iterator[bytes]:
    try:
        heading, blocks = recorder.answer(json.loads(line))
    except AcnsError as error:
        described = {"class": type(error).__name__, "message": error.message, "hint": error.hint}
        heading, blocks = {"error": described}, []
    yield json.dumps(heading).encode() + b"\n"
    yield from blocks


if __name__ == "__main__":
    sys.exit(main())
