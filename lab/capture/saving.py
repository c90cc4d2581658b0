"""One pcapng of what was recorded: an interface for every link, names, decisions of the agents as comments.

A link is named as the pod sees it (`frontend/eth0`), and so is its direction, although it is heard on the
node's end. A decision whose packet is not in the capture stands by itself, at its time, on its agent's own
interface (`node1/resolver`, `node1/shim`), as the JSON that was written down; so do the journals' other
lines.
"""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, Final

from lab.backends.network import INTERNET
from lab.capture import pcapng, subject
from lab.capture.decisions import Decision, Decisions
from lab.capture.headers import heads
from lab.capture.joining import Index, Seen
from lab.capture.pcapng import INBOUND, OUTBOUND, Interface, Statistics, Writer
from lab.capture.ring import Packet
from lab.capture.subject import Link, Subject
from lab.capture.tapes import Recorded, Tape
from lab.errors import InputError
from lab.report import output
from lab.runtime.explaining import remark

_NODE_LINK: Final = "eth0"
_JSON: Final = "json"


@dataclass(frozen=True, slots=True)
class Saved:
    """What is in the file, and what is not: `lost` packets, and decisions that were `not_written` down."""

    path: str
    packets: int
    comments: int
    """Decisions that stand with their packet."""
    alone: int
    """Decisions and other lines of the journals that stand by themselves."""
    span_s: float
    lost: int
    overwritten: int
    not_written: int


def save(lab: subject.Recordable, recorded: Recorded, path: Path) -> Saved:
    """Write the file, 0600 and whole at once. Raises InputError where it cannot be written."""
    with output.new_file(path) as file:
        return _Capture(lab, recorded).write(file, str(path))


class _Capture:
    """One save."""

    def __init__(self, lab: subject.Recordable, recorded: Recorded) -> None:
        self._subject = lab.subject()
        self._recorded = recorded
        self._packets = recorded.packets()
        self._decisions = _decisions(lab)
        self._links = _links(self._subject, recorded, self._packets)
        self._ids = {link: number for number, link in enumerate(self._links)}
        self._comments: dict[int, list[str]] = defaultdict(list)
        self._alone: list[tuple[int, str, str, bytes]] = []  # time, interface, text, record

    def write(self, file: BinaryIO, path: str) -> Saved:
        self._join()
        first, last = self._span()
        writer = Writer(
            file,
            comment=self._about(first, last),
            hardware=platform.machine(),
            os=f"{platform.system()} {platform.release()}",
            application=f"acns-lab {metadata.version('acns-lab')}",
        )
        agents = sorted({interface for _, interface, _, _ in self._alone})
        self._write_interfaces(writer, agents)
        writer.names(_names(self._subject, self._decisions))
        self._write_packets(writer, {name: len(self._links) + number for number, name in enumerate(agents)})
        self._write_statistics(writer, first, last)
        counts = [tape.counts for tape in self._recorded.tapes]
        return Saved(
            path,
            packets=len(self._packets),
            comments=sum(map(len, self._comments.values())),
            alone=len(self._alone),
            span_s=round((last - first) / 1e9, 3),
            lost=sum(one.dropped for one in counts),
            overwritten=sum(one.overwritten for one in counts),
            not_written=self._decisions.lost + self._decisions.unreadable,
        )

    # --- decisions ------------------------------------------------------------------------------------------

    def _join(self) -> None:
        index = Index(self._seen(), self._subject.services)
        first, last = self._window()
        for decision in sorted(self._decisions.about_packets, key=lambda one: one.time_ns):
            number = index.claim(decision)
            if number is not None:
                self._comments[number].append(decision.text)
            elif first <= decision.time_ns <= last:
                self._alone.append((decision.time_ns, _agent_of(decision), decision.text, decision.record))
        for note in self._decisions.notes:
            if first <= note.time_ns <= last:
                self._alone.append((note.time_ns, f"{note.node}/{note.agent}", note.text, note.record))
        self._alone.sort(key=lambda one: one[0])

    def _seen(self) -> Iterator[Seen]:
        for number, (tape, packet) in enumerate(self._packets):
            node = tape.place.removeprefix("node/")
            if found := heads(packet.data):
                yield Seen(number, node, packet.time_ns, found)

    def _span(self) -> tuple[int, int]:
        """Times of the first and the last packet."""
        if not self._packets:
            return 0, 0
        return self._packets[0][1].time_ns, self._packets[-1][1].time_ns

    def _window(self) -> tuple[int, int]:
        """From when to when something was recorded: packets may have come only in a part of it."""
        first, last = self._span()
        recorded = self._recorded
        ended_ns = max(last, recorded.ended_ns)
        return (recorded.started_ns or first or ended_ns), ended_ns

    # --- blocks ---------------------------------------------------------------------------------------------

    def _write_interfaces(self, writer: Writer, agents: Iterable[str]) -> None:
        for place, link in self._links:
            name = self._links[place, link]
            heard = f"heard as {link} of {place}"
            writer.interface(Interface(name, heard, filter=self._recorded.filter))
        for name in agents:
            writer.interface(Interface(name, "what this agent wrote down", link_type=pcapng.UPPER_PDU))

    def _write_packets(self, writer: Writer, agents: Mapping[str, int]) -> None:
        alone = iter(self._alone)
        waiting = next(alone, None)
        for number, (tape, packet) in enumerate(self._packets):
            while waiting is not None and waiting[0] < packet.time_ns:
                _write_alone(writer, agents, waiting)
                waiting = next(alone, None)
            link = (tape.place, _link_name(tape, packet.interface))
            writer.packet(
                self._ids[link],
                packet.time_ns,
                packet.data,
                packet.wire_bytes,
                direction=_direction(link, packet),
                comments=self._comments.get(number, ()),
            )
        while waiting is not None:
            _write_alone(writer, agents, waiting)
            waiting = next(alone, None)

    def _write_statistics(self, writer: Writer, first: int, last: int) -> None:
        delivered = Counter(
            (tape.place, _link_name(tape, packet.interface)) for tape, packet in self._packets
        )
        for link, number in self._ids.items():
            counts = [tape.counts for tape in self._recorded.tapes if _hears(tape, link)]
            dropped = sum(one.dropped for one in counts)
            given_up = sum(one.overwritten for one in counts)
            lost = f"lost: {dropped}; given up for newer ones: {given_up}; of all links of {link[0]} together"
            comment = lost if dropped or given_up else ""
            writer.statistics(number, Statistics(first, last, delivered[link], dropped, comment))

    def _about(self, first: int, last: int) -> str:
        counts = [tape.counts for tape in self._recorded.tapes]
        return "\n".join(
            [
                self._subject.title,
                f"acns-lab {metadata.version('acns-lab')}, Python {platform.python_version()}",
                f"{len(self._packets)} packets in {(last - first) / 1e9:.3f} s"
                + (f", filter: {self._recorded.filter}" if self._recorded.filter else ""),
                f"lost: {sum(one.dropped for one in counts)} packets;"
                f" given up for newer ones: {sum(one.overwritten for one in counts)};"
                f" decisions not written down: {self._decisions.lost + self._decisions.unreadable}",
            ]
        )


def _write_alone(writer: Writer, agents: Mapping[str, int], one: tuple[int, str, str, bytes]) -> None:
    time_ns, interface, text, record = one
    data = pcapng.upper_pdu(_JSON, record)
    writer.packet(agents[interface], time_ns, data, len(data), comments=[text])


def _decisions(lab: subject.Recordable) -> Decisions:
    """None where no agent of ours writes them down: the packets are worth saving all the same."""
    try:
        return lab.decisions()
    except InputError as error:
        remark(f"without the agents' decisions: {error.message}")
        return Decisions()


def _agent_of(decision: Decision) -> str:
    return f"{decision.node}/{'resolver' if decision.key[0] == 'dns' else 'shim'}"


def _links(about: Subject, recorded: Recorded, packets: Iterable[tuple[Tape, Packet]]) -> dict[Link, str]:
    """What each link is called in the file; those that are gone by now have only their number."""
    followed = {
        (one.place, one.only): subject.pod_link(*one.pod.split("/")) for one in recorded.tapes if one.pod
    }
    named = {**followed, **about.links}
    heard = [
        (tape.place, name)
        for tape in recorded.tapes
        for name in tape.links.values()
        if tape.only in ("", name)
    ]
    sent = {(tape.place, _link_name(tape, packet.interface)) for tape, packet in packets}
    found = dict.fromkeys([*heard, *sorted(sent)])
    return {link: named.get(link) or f"{link[0].removeprefix('node/')}/{link[1]}" for link in found}


def _link_name(tape: Tape, interface: int) -> str:
    return tape.links.get(interface, f"link{interface}")


def _hears(tape: Tape, link: Link) -> bool:
    return tape.place == link[0] and tape.only in ("", link[1])


def _direction(link: Link, packet: Packet) -> int:
    """As the one sees it after whom the link is called: a pod's link is heard at its other end."""
    is_own_end = link[0] == INTERNET or link[1] in (_NODE_LINK, "lo")
    return OUTBOUND if packet.outgoing == is_own_end else INBOUND


def _names(about: Subject, decisions: Decisions) -> dict[bytes, list[str]]:
    """Those of the lab; then what pods were told."""
    named = defaultdict(list, {address: list(names) for address, names in about.names.items()})
    for told, names in decisions.names.items():
        named[told] += [name for name in names if name not in named[told]]
    return {ip_address(address).packed: names for address, names in named.items()}
