"""What the recorder has, from outside: asked of it, kept on disk after a capture has stopped, and read.

A kept capture is the recorder's answer as it came: a JSON line, then blocks. It lies in the lab's folder
(0600), since packets may hold anything.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from lab.backends.programs import RECORDER
from lab.capture import subject
from lab.capture.ring import Counts, Packet, packets
from lab.errors import HolderGone, by_name
from lab.report import output

_LOOPBACK: Final = "lo"


@dataclass(frozen=True, slots=True)
class Tape:
    """What one ring held. `links`: number → name, of the place's links. `only`: it heard this one alone, the
    link of `pod` if it was any's."""

    place: str
    only: str
    links: Mapping[int, str]
    counts: Counts
    blocks: tuple[bytes, ...]
    pod: str = ""

    def packets(self) -> Iterator[Packet]:
        """In the order of their times; a packet on `lo`, which is heard twice, once."""
        loopback = {number for number, name in self.links.items() if name == _LOOPBACK}
        for block in self.blocks:
            for one in packets(block):
                if not (one.outgoing and one.interface in loopback):
                    yield one


@dataclass(frozen=True, slots=True)
class Recorded:
    """`filter`: the expression it was captured with; "" for what is always recorded. `started_ns`: when, if
    somebody did; `ended_ns`: when it was read, or stopped."""

    tapes: tuple[Tape, ...]
    filter: str = ""
    started_ns: int | None = None
    ended_ns: int = 0

    def packets(self) -> list[tuple[Tape, Packet]]:
        """Of all tapes, by time: on several processors even those of one tape come a little out of it."""
        found = [(tape, one) for tape in self.tapes for one in tape.packets()]
        return sorted(found, key=lambda item: item[1].time_ns)


def ask(lab: subject.Recordable, **request: Any) -> dict[str, Any]:
    """A request that is answered without blocks."""
    with lab.asked(request) as stream:
        return _heading(stream)


def always(lab: subject.Recordable) -> Recorded:
    """What is always recorded, of the last minute at least where traffic is not heavy."""
    with lab.asked({"op": "read", "which": "always"}) as stream:
        return _recorded(stream)


def running(lab: subject.Recordable) -> Recorded | None:
    """The capture that was started, and runs; None without one."""
    if not ask(lab, op="status")["started"]:
        return None
    with lab.asked({"op": "read", "which": "started"}) as stream:
        return _recorded(stream)


def stopped(lab: subject.Recordable) -> Recorded | None:
    """The capture that was stopped, and not saved yet; None without one."""
    try:
        with lab.kept_file.open("rb") as stream:
            return _recorded(stream)
    except FileNotFoundError:
        return None


def stop(lab: subject.Recordable) -> Path:
    """End the started capture, and keep it in the lab's folder; HolderGone where it did not come whole."""
    path = lab.kept_file
    with lab.asked({"op": "stop"}) as stream:
        heading = _heading(stream)
        whole = json.dumps(heading).encode() + b"\n" + stream.read()
    _recorded(io.BytesIO(whole))  # it is whole
    with output.new_file(path) as file:
        file.write(whole)
    return path


def _heading(stream: BinaryIO) -> dict[str, Any]:
    line = stream.readline()
    if not line:
        raise HolderGone("the recorder died while it was asked", hint=f"invoke lab.logs {RECORDER}")
    value: dict[str, Any] = json.loads(line)
    if error := value.get("error"):
        raise by_name(error["class"])(error["message"], hint=error["hint"])
    return value


def _recorded(stream: BinaryIO) -> Recorded:
    heading = _heading(stream)
    about, tapes = heading["about"], tuple(_tapes(heading["tapes"], stream))
    started_ns = round(about["started_at_s"] * 1e9) if about else None
    return Recorded(tapes, about.get("filter", ""), started_ns, heading.get("read_at_ns", 0))


def _tapes(headings: Iterable[Mapping[str, Any]], stream: BinaryIO) -> Iterator[Tape]:
    for one in headings:
        blocks = tuple(stream.read(length) for length in one["blocks"])
        if [len(block) for block in blocks] != one["blocks"]:
            raise HolderGone("the recorder broke off in the middle", hint=f"invoke lab.logs {RECORDER}")
        links = {int(number): name for number, name in one["links"].items()}
        counts = Counts(one["received"], one["dropped"], one["overwritten"])
        yield Tape(one["place"], one["interface"], links, counts, blocks, one["pod"])
