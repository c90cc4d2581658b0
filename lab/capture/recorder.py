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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from acns.errors import AcnsError, EnvironmentFault, InputError
from lab.capture import bpf, places
from lab.capture.places import PodLink
from lab.capture.ring import RETIRE_MS, RING_BYTES, TEND_EVERY_S, Ring
from lab.kernel import netns
from lab.world.ready import say_ready

Request = dict[str, Any]
Reply = tuple[dict[str, Any], list[bytes]]

_SETTLED_S: Final = 2 * RETIRE_MS / 1000
"""After so long every packet of before is in a block that is handed over."""
KEPT_S: Final = 75.0
"""What was recorded in a place that is gone."""
_OVERHEAD_BYTES: Final = 4_096


class Tape:
    """One ring, and what it listens to: a place, and one link of it or ("") all. Once that is gone it is what
    was recorded there. `pod`: whose link it is, if it listens to a pod's."""

    def __init__(
        self, place: str, namespace: int, program: bytes, interface: str, size_bytes: int, pod: str = ""
    ) -> None:
        self.place = place
        self.interface = interface
        self.pod = pod
        self.size_bytes = size_bytes
        self.ended_s: float | None = None
        self._namespace = _entered(namespace)
        self._ring = Ring(self._namespace, program, interface=interface, size_bytes=size_bytes)
        self._links: dict[int, str] = {}
        self._kept: list[bytes] = []
        self._counts = self._ring.counts()

    def tend(self) -> None:
        if self.ended_s is None:
            self._ring.tend()

    def look(self) -> None:
        """Get to know the links of its place by number, for the time when they are gone."""
        if self.ended_s is None:
            self._links |= netns.in_namespace(self._namespace, socket.if_nameindex)

    def heading(self) -> dict[str, Any]:
        if self.ended_s is None:
            self._counts = self._ring.counts()
        about = {"place": self.place, "interface": self.interface, "pod": self.pod}
        return {**about, **asdict(self._counts)}

    def read(self) -> tuple[dict[str, Any], list[bytes]]:
        self.look()
        blocks = self._kept if self.ended_s is not None else self._ring.contents()
        lengths = [len(block) for block in blocks]
        return {**self.heading(), "links": dict(self._links), "blocks": lengths}, blocks

    def end(self) -> None:
        """Keep what there is, and let go of the place."""
        self.heading()
        _, self._kept = self.read()
        self.ended_s = time.monotonic()
        self._ring.close()

    @property
    def kept_bytes(self) -> int:
        """After its end."""
        return sum(map(len, self._kept)) + _OVERHEAD_BYTES

    def close(self) -> None:
        if self.ended_s is None:
            self._ring.close()


def _entered(namespace: int) -> int:
    """-1, which needs no right, where it is our own: entering even that takes CAP_SYS_ADMIN (setns(2)), and a
    recorder that is put beside a container has CAP_NET_RAW alone."""
    own = netns.own_net()
    try:
        return -1 if os.path.sameopenfile(own, namespace) else namespace
    finally:
        os.close(own)


def bounded(tapes: Sequence[Tape]) -> list[Tape]:
    """However often a place is made anew: of what is gone the latest, until a ring of it would be full."""
    held: Counter[tuple[str, str]] = Counter()
    found = []
    for tape in reversed(tapes):
        if tape.ended_s is None:
            found.append(tape)
        elif held[link := (tape.pod or tape.place, tape.interface * (not tape.pod))] < tape.size_bytes:
            held[link] += tape.kept_bytes
            found.append(tape)
    return found[::-1]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A part of the capture that somebody has started: a place's link, or a pod's, wherever that is."""

    place: str
    interface: str
    pod: str
    program: bytes
    size_bytes: int

    def tape(self, namespace: int) -> Tape:
        """Raises EnvironmentFault where it cannot be listened to."""
        return Tape(self.place, namespace, self.program, self.interface, self.size_bytes, self.pod)

    def of(self, link: PodLink) -> _Wanted:
        """The pod's link where it is now."""
        return replace(self, place=link.place, interface=link.interface)


class Recorder:
    """`places_file`: a file (`lab.capture.places`) that names network namespaces."""

    def __init__(self, places_file: Path) -> None:
        self._file = places_file
        self._places: dict[str, int] = {}
        self._lock = threading.Lock()
        self._program = bpf.beginnings()
        self._always: list[Tape] = []
        self._started: list[Tape] = []
        self._wanted: tuple[_Wanted, ...] = ()
        """What the started capture listens to, also where it is made anew."""
        self._pods: dict[str, PodLink] = {}
        """The pods' links, as they are now."""
        self._about: dict[str, Any] = {}
        self._listen()

    def tend(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            for tape in (*self._always, *self._started):
                tape.tend()
            # A minute and more ago, as everywhere.
            self._always = [one for one in self._always if now_s - (one.ended_s or now_s) < KEPT_S]

    def answer(self, request: Request) -> Reply:
        """Raises InputError for what cannot be done."""
        what = request["op"]
        if what in ("read", "stop") or (what == places.LISTEN and self._loses_something()):
            time.sleep(_SETTLED_S)
        with self._lock:
            match what:
                case places.LISTEN:
                    return self._listen(), []
                case "start":
                    return self._start(request), []
                case "stop":
                    return self._stop()
                case "read":
                    return self._read(request["which"])
                case _:
                    return {
                        "started": self._about,
                        "counts": [one.heading() for one in self._always if one.ended_s is None],
                        "started_counts": [one.heading() for one in self._started],
                    }, []

    def _loses_something(self) -> bool:
        """A place, or a link that the started capture listens to."""
        if not self._places.keys() <= places.read(self._file).keys():
            return True
        pods = places.read_pods(self._file)
        return any(one.pod and pods.get(one.pod) != self._pods.get(one.pod) for one in self._wanted)

    def _listen(self) -> dict[str, Any]:
        """In the places of the file, and in no others; those that stay are not touched."""
        named = places.read(self._file).items()
        wanted = {name: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for name, path in named}
        for tape in (*self._always, *self._started):
            tape.look()
        before, self._pods = self._pods, places.read_pods(self._file)
        moved = {pod for pod in before.keys() | self._pods if before.get(pod) != self._pods.get(pod)}
        for tape in self._started:
            if tape.pod in moved and tape.ended_s is None:
                tape.end()
        for name, descriptor in list(self._places.items()):
            if name in wanted and os.path.sameopenfile(descriptor, wanted[name]):
                os.close(wanted.pop(name))
                continue
            for tape in (*self._always, *self._started):
                if tape.place == name and tape.ended_s is None:
                    tape.end()
            os.close(self._places.pop(name))
        self._always, self._started = bounded(self._always), bounded(self._started)
        try:
            for name, descriptor in list(wanted.items()):
                self._always.append(Tape(name, descriptor, self._program, "", RING_BYTES))
                self._places[name] = wanted.pop(name)
                self._follow([one for one in self._wanted if not one.pod and one.place == name])
        finally:  # what could not be recorded is no place of ours: asked again, it is tried again
            for descriptor in wanted.values():
                os.close(descriptor)
        self._follow_pods()
        return {"places": list(self._places)}

    def _start(self, request: Request) -> dict[str, Any]:
        if self._started:
            raise InputError("a capture runs already", hint="invoke lab.capture stop")
        links = [(link["place"], link["interface"], link.get("pod", "")) for link in request["links"]]
        if gone := {place for place, _, _ in links} - self._places.keys():
            raise InputError(f"not recorded here: {', '.join(sorted(gone))}", hint="invoke lab.status")
        size = request["size_bytes"] // max(1, len(links))
        program = bytes.fromhex(request["program"])
        wanted = tuple(_Wanted(*link, program, size) for link in links)
        try:
            for one in wanted:
                self._started.append(one.tape(self._places[one.place]))
        except BaseException:
            self._close_started()
            raise
        self._wanted = wanted
        self._about = {"filter": request["filter"], "started_at_s": time.time()}
        return self._about

    def _follow_pods(self) -> None:
        """To where they are now, if that is anywhere."""
        heard = {tape.pod for tape in self._started if tape.ended_s is None}
        lost = [one for one in self._wanted if one.pod in self._pods.keys() - heard]
        there = [one.of(self._pods[one.pod]) for one in lost]
        self._follow([one for one in there if one.place in self._places])

    def _follow(self, wanted: Iterable[_Wanted]) -> None:
        """Listen there again. A link that does not come back is no reason to record nothing of the place."""
        for one in wanted:
            try:
                self._started.append(one.tape(self._places[one.place]))
            except AcnsError as error:
                print(f"the capture goes on without: {error}", file=sys.stderr, flush=True)

    def _stop(self) -> Reply:
        if not self._started:
            raise InputError("no capture was started", hint="invoke lab.capture start")
        reply = self._read("started")
        self._close_started()
        return reply

    def _close_started(self) -> None:
        for tape in self._started:
            tape.close()
        self._started, self._wanted, self._about = [], (), {}

    def _read(self, which: str) -> Reply:
        tapes = self._started if which == "started" else self._always
        if not tapes:
            raise InputError("no capture was started", hint="invoke lab.capture start")
        about = self._about if which == "started" else {}
        held = [tape.read() for tape in tapes]
        heading = {"tapes": [said for said, _ in held], "about": about, "read_at_ns": time.time_ns()}
        return heading, [block for _, blocks in held for block in blocks]


def command(control: Path, places_file: Path, ready_fd: int) -> list[str]:
    """`places_file`: where it listens."""
    options = ("--control", str(control), "--places", str(places_file), "--ready-fd", str(ready_fd))
    return ["-m", "lab.capture.recorder", *options]


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.capture.recorder", description="Internal to lab.up.")
    parser.add_argument("--control", type=Path, required=True, help="path of the socket to listen on")
    parser.add_argument("--places", type=Path, required=True, help="file that names network namespaces")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a byte when all is recorded")
    options = parser.parse_args()
    try:
        # First of all: whoever changes the file and cannot tell us has changed it before we read it.
        with _listening(options.control) as listener:
            recorder = Recorder(options.places)
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
    except (AcnsError, OSError) as problem:
        error = problem if isinstance(problem, AcnsError) else EnvironmentFault(f"recorder: {problem}")
        described = {"class": type(error).__name__, "message": error.message, "hint": error.hint}
        heading, blocks = {"error": described}, []
    yield json.dumps(heading).encode() + b"\n"
    yield from blocks


if __name__ == "__main__":
    sys.exit(main())
