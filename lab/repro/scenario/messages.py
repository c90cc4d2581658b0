"""DNS messages of a scenario as octets, and octets in a scenario's words; pure.

What this module keeps true: a message is put into words only where the words give the very same octets again;
else its octets stand in the scenario. IDs and, in answers, the question are the asker's of the moment, so
that an answer fits whoever asks in this run.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from acns.dns import name as names
from acns.dns import types
from acns.dns.name import MalformedDNS
from acns.dns.wire import AA, AD, CD, CLASS_IN, HEADER_OCTETS, QR, RA, RD, TC
from lab.repro.reading import remembered
from lab.repro.scenario import records
from lab.repro.scenario.model import Answer, Step
from lab.repro.scenario.records import Record, Writer

RCODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
SILENT: Final = "silent"
NOT_DNS: Final = "not DNS"
_FLAGS: Final = {"aa": AA, "tc": TC, "rd": RD, "ra": RA, "ad": AD, "cd": CD}
_HEADER: Final = struct.Struct("!6H")
_COUNTS_AT: Final = 4
_TAIL: Final = struct.Struct("!HH")
_SECTIONS: Final = ("records", "authority", "additional")


@dataclass(frozen=True, slots=True)
class Question:
    """The first question of a message, in the case it was sent in; `end`: the offset behind it."""

    labels: tuple[bytes, ...]
    qtype: int
    qclass: int
    end: int

    @property
    def folded(self) -> tuple[tuple[bytes, ...], int, int]:
        """For comparing: without case."""
        return tuple(label.lower() for label in self.labels), self.qtype, self.qclass

    def __str__(self) -> str:
        return f"{records.name_text(self.labels)} {types.text(self.qtype)}"


def question(packet: bytes) -> Question | None:
    """None where there is none that can be read."""
    return _question(packet[_COUNTS_AT:])


@remembered.short
def _question(counted: bytes) -> Question | None:
    """Of a message from its counts on: IDs and flags are others each time, the rest of most is not."""
    packet = bytes(_COUNTS_AT) + counted
    try:
        if len(packet) < HEADER_OCTETS or not struct.unpack_from("!H", packet, _COUNTS_AT)[0]:
            return None
        labels, end = names.read_labels(packet, HEADER_OCTETS)
        qtype, qclass = _TAIL.unpack_from(packet, end)
        return Question(tuple(labels), qtype, qclass, end + _TAIL.size)
    except (MalformedDNS, struct.error):
        return None


def parse_ask(text: str) -> tuple[tuple[bytes, ...], int]:
    """NAME TYPE. Raises ValueError."""
    name, _, kind = text.rpartition(" ")
    if not name:
        raise ValueError(f"'{text}' is no question: NAME TYPE, such as 'api.example.com A'")
    return records.labels_of(name), types.number(kind)


def query(step: Step, ident: int) -> bytes:
    """The octets of a step's query."""
    if step.query is not None:
        return struct.pack("!H", ident) + bytes.fromhex(step.query)
    assert step.ask is not None
    labels, qtype = parse_ask(step.ask)
    writer = Writer(_HEADER.pack(ident, RD, 1, 0, 0, int(step.edns is not None)))
    writer.question(labels, _TAIL.pack(qtype, CLASS_IN))
    if step.edns is not None:
        writer.record(Record((), types.NUMBERS["OPT"], step.edns, 0, b""))
    return bytes(writer.octets)


def query_words(packet: bytes) -> dict[str, object]:
    """The fields of a step that asks this."""
    asked = question(packet)
    if asked is not None and asked.qclass == CLASS_IN:
        edns = None
        if packet[10:12] == b"\0\1" and len(packet) >= asked.end + 5:
            edns = struct.unpack_from("!H", packet, asked.end + 3)[0]
        step = Step(ask=str(asked), edns=edns)
        try:
            if query(step, int.from_bytes(packet[:2])) == packet:
                return {"ask": step.ask, "edns": edns}
        except ValueError:
            pass
    return {"query": packet[2:].hex()}


def answer(said: Answer, asked: bytes) -> bytes:
    """What this answer is to the query `asked`, as it came."""
    ident = (int.from_bytes(asked[:2]) ^ (0x55AA if said.wrong_id else 0)).to_bytes(2)
    about = question(asked)
    if said.octets is not None:
        return _with_question(ident + bytes.fromhex(said.octets), asked, about)
    flags = QR | rcode_number(said.rcode)
    for word in said.flags.split():
        flags |= _FLAGS[word]
    sections = [[records.parse(line) for line in getattr(said, name)] for name in _SECTIONS]
    writer = Writer(ident + struct.pack("!5H", flags, int(about is not None), *map(len, sections)))
    if about is not None:
        writer.question(about.labels, _TAIL.pack(about.qtype, about.qclass))
    for section in sections:
        for record in section:
            writer.record(record)
    return bytes(writer.octets)


def answer_words(packet: bytes, asked: bytes) -> Answer:
    """The answer as words where they say all of it, else as octets. Times and senders are the caller's."""
    try:
        found = _in_words(packet, asked)
        if answer(found, packet[:2] + asked[2:]) == packet:
            return found
    except (MalformedDNS, ValueError, struct.error):
        pass
    return Answer(octets=packet[2:].hex())


def outcome(asked: bytes, reply: bytes | None) -> str:
    """What a client is told: `silent`, or the rcode, `tc`, addresses, types of what else is in it."""
    if reply is None:
        return SILENT
    if len(reply) < HEADER_OCTETS:
        return NOT_DNS
    flags, _, answers = struct.unpack_from("!3H", reply, 2)
    words = [rcode_text(flags & 0xF)]
    words += ["tc"] if flags & TC else []
    mine, theirs = question(asked), question(reply)
    if mine and theirs and mine.labels != theirs.labels and mine.folded == theirs.folded:
        words.append("other-case")
    elif mine and (theirs is None or mine.folded != theirs.folded):
        words.append("other-question")
    try:
        found, _ = records.read(reply, theirs.end, answers) if theirs else ([], 0)
    except MalformedDNS:
        return " ".join([*words, "cut off"])
    a_type = types.NUMBERS["A"]
    others = {types.text(record.type) for record in found if record.type != a_type}
    return " ".join([*words, *sorted(others), *sorted(set(records.addresses(found)))])


def rcode_text(number: int) -> str:
    return RCODES[number] if number < len(RCODES) else f"RCODE{number}"


def rcode_number(text: str) -> int:
    """Raises ValueError."""
    if text in RCODES:
        return RCODES.index(text)
    if text.startswith("RCODE") and text[5:].isdecimal() and int(text[5:]) < 16:
        return int(text[5:])
    raise ValueError(f"there is no rcode '{text}'")


def told_addresses(packet: bytes) -> set[str]:
    """Of the A records in an answer, and hints of others, as far as it can be read."""
    about = question(packet)
    try:
        count = struct.unpack_from("!H", packet, 6)[0]
        found = records.read(packet, about.end, count)[0] if about else []
        return {*records.addresses(found), *records.hints(found)}
    except (MalformedDNS, struct.error):
        return set()


def _in_words(packet: bytes, asked: bytes) -> Answer:
    about = question(packet)
    _, flags, _, *counts = _HEADER.unpack_from(packet)
    offset = about.end if about else HEADER_OCTETS
    sections: dict[str, tuple[str, ...]] = {}
    for name, count in zip(_SECTIONS, counts, strict=True):
        found, offset = records.read(packet, offset, count)
        sections[name] = tuple(map(records.text, found))
    words = " ".join(word for word, bit in _FLAGS.items() if flags & bit)
    return Answer(rcode=rcode_text(flags & 0xF), flags=words, **sections)


def _with_question(packet: bytes, asked: bytes, about: Question | None) -> bytes:
    """The recorded octets under the question as it is asked now: 0x20 clients vary its case."""
    theirs = question(packet)
    if about is None or theirs is None or theirs.folded != about.folded or theirs.end != about.end:
        return packet
    return packet[:HEADER_OCTETS] + asked[HEADER_OCTETS : about.end] + packet[theirs.end :]
