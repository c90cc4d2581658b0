"""What of a capture is marked, and what is not."""

from __future__ import annotations

import json
import struct
import zipfile
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.capture import pcapng as writing
from lab.errors import InputError
from lab.repro.reading import capture
from lab.repro.showing import building, opening
from lab.repro.showing.timeline import Event, Lane, Mark, Timeline
from tests.unit.lab_repro_reading.made import (
    ACK,
    ANSWER,
    MS,
    POD,
    PSH,
    QUERY,
    RST,
    SYN,
    T0,
    At,
    Talk,
    answered,
    asked,
    pcap,
)

WEB, OTHER = "198.51.100.7", "203.0.113.9"  # the former is what ANSWER says, for 30 s
S = 1_000 * MS


def timeline(frames: list[At], folder: Path) -> Timeline:
    path = folder / "x.pcap"
    path.write_bytes(pcap(sorted(frames)))
    return building.timeline(capture.read(path), "x")


def of_lane(found: Timeline, lane: Lane) -> list[Event]:
    (pod,) = [one for one in found.pods if one.address == POD]
    return [one for one in pod.events if one.lane is lane]


def traffic(frames: list[At], folder: Path) -> Event:
    (event,) = of_lane(timeline(frames, folder), Lane.TRAFFIC)
    return event


def lookup(at_ns: int = T0, after_ns: int = 3 * MS) -> list[At]:
    return [(at_ns, asked()), (at_ns + after_ns, answered())]


def with_rcode(rcode: int) -> bytes:
    return QUERY[:2] + bytes((0x81, 0x80 | rcode)) + QUERY[4:]


def connection(at_ns: int, server: str = WEB) -> list[At]:
    talk = Talk(server)
    frames = [*talk.handshake(), talk.out(PSH | ACK, 1, 5_001, b"get"), talk.back(ACK, 1, 4)]
    return [(at_ns + number * MS, frame) for number, frame in enumerate(frames)]


def silence(at_ns: int, server: str = WEB) -> list[At]:
    talk = Talk(server)
    return [(at_ns + number * S, talk.out(SYN, 0)) for number in range(3)]


# --- DNS ----------------------------------------------------------------------------------------------------


def test_a_lookup_says_what_it_found_and_what_that_would_have_opened(tmp_path: Path) -> None:
    found = timeline(lookup(), tmp_path)
    (asked_for,), (added,) = of_lane(found, Lane.DNS), of_lane(found, Lane.SET)
    assert (asked_for.kind, asked_for.what, asked_for.outcome, asked_for.marks) == (
        "A",
        "api.example.com",
        f"{WEB}, TTL 30",
        (),
    )
    assert (asked_for.at_ns, asked_for.until_ns, asked_for.frames) == (T0, T0 + 3 * MS, (1, 2))
    assert (added.kind, added.what, added.until_ns) == ("would add", WEB, T0 + 3 * MS + 30 * S)


@pytest.mark.parametrize(("rcode", "mark"), [(5, Mark.REFUSED), (2, Mark.FAILED), (3, None)])
def test_refused_and_failed_lookups_are_marked_so(tmp_path: Path, rcode: int, mark: Mark | None) -> None:
    frames = [(T0, asked()), (T0 + MS, answered(with_rcode(rcode)))]
    (event,) = of_lane(timeline(frames, tmp_path), Lane.DNS)
    assert event.marks == ((mark,) if mark else ())


def test_a_query_without_answer_and_its_repetition_are_marked(tmp_path: Path) -> None:
    again = b"\x99\x99" + QUERY[2:]
    found = timeline([(T0, asked()), (T0 + 5 * S, asked(again, ident=2, port=40_001))], tmp_path)
    assert [one.marks for one in of_lane(found, Lane.DNS)] == [
        (Mark.UNANSWERED,),
        (Mark.RETRANSMITTED, Mark.UNANSWERED),
    ]


def test_two_programs_that_ask_for_one_name_at_a_time_repeat_nothing(tmp_path: Path) -> None:
    other = b"\x99\x99" + QUERY[2:]
    found = timeline([(T0, asked()), (T0 + 9 * MS, asked(other, ident=2, port=40_001))], tmp_path)
    assert [one.marks for one in of_lane(found, Lane.DNS)] == [(Mark.UNANSWERED,)] * 2
    found = timeline([(T0, asked()), (T0 + 9 * MS, asked(ident=2))], tmp_path)
    assert Mark.RETRANSMITTED in of_lane(found, Lane.DNS)[1].marks


def test_the_same_question_after_its_answer_is_no_repetition(tmp_path: Path) -> None:
    found = timeline([*lookup(), (T0 + S, asked(ident=5)), (T0 + S + MS, answered(ident=6))], tmp_path)
    assert [one.marks for one in of_lane(found, Lane.DNS)] == [(), ()]


@pytest.mark.parametrize(
    "forged", [b"\x99\x99" + ANSWER[2:], ANSWER[:13] + b"x" + ANSWER[14:]], ids=["ID", "question"]
)
def test_an_answer_to_no_query_stands_by_itself(tmp_path: Path, forged: bytes) -> None:
    found = timeline([(T0, asked()), (T0 + MS, answered(forged))], tmp_path)
    assert [one.marks for one in of_lane(found, Lane.DNS)] == [(Mark.UNANSWERED,), (Mark.UNASKED,)]
    assert of_lane(found, Lane.SET) == []


def test_the_second_of_two_answers_is_unasked(tmp_path: Path) -> None:
    found = timeline([*lookup(), (T0 + 9 * MS, answered(ident=77))], tmp_path)
    assert [one.marks for one in of_lane(found, Lane.DNS)] == [(), (Mark.UNASKED,)]


def test_what_is_no_dns_is_unreadable(tmp_path: Path) -> None:
    (event,) = of_lane(timeline([(T0, asked(b"hello"))], tmp_path), Lane.DNS)
    assert (event.marks, event.what) == ((Mark.UNREADABLE,), "5 octets that are no DNS")


# --- traffic ------------------------------------------------------------------------------------------------


def test_a_connection_to_what_an_answer_named_has_its_name_and_no_mark(tmp_path: Path) -> None:
    event = traffic([*lookup(), *connection(T0 + 5 * MS)], tmp_path)
    assert (event.what, event.marks) == (f"api.example.com ({WEB}:443)", ())
    assert event.outcome == "established, 3 B out, 0 B in, open"


def test_who_connects_before_the_answer_is_there_is_marked(tmp_path: Path) -> None:
    event = traffic([*lookup(after_ns=200 * MS), *silence(T0 + 100 * MS)], tmp_path)
    assert event.marks == (Mark.UNANSWERED, Mark.RETRANSMITTED, Mark.BEFORE_ANSWER)


def test_an_address_that_no_answer_named_is_marked_where_it_failed(tmp_path: Path) -> None:
    failed = traffic([*lookup(), *silence(T0 + S, OTHER)], tmp_path)
    assert failed.marks == (Mark.UNANSWERED, Mark.RETRANSMITTED, Mark.NEVER_LEARNED)
    assert traffic([*lookup(), *connection(T0 + S, OTHER)], tmp_path).marks == ()


def test_a_connection_after_the_ttl_is_marked_unless_another_answer_came(tmp_path: Path) -> None:
    late = T0 + 31 * S
    assert traffic([*lookup(), *connection(late)], tmp_path).marks == (Mark.EXPIRED,)
    renewed = [(T0 + 20 * S, asked(ident=8)), (T0 + 20 * S + MS, answered(ident=9))]
    assert traffic([*lookup(), *renewed, *connection(late)], tmp_path).marks == ()


def test_a_reset_is_a_refusal_and_an_established_connection_without_answers_is_cut(tmp_path: Path) -> None:
    talk = Talk(WEB)
    reset = [(T0 + S, talk.out(SYN, 0)), (T0 + S + MS, talk.back(RST | ACK, 0, 1))]
    assert traffic([*lookup(), *reset], tmp_path).marks == (Mark.REFUSED,)
    talk = Talk(WEB)
    frames = [*talk.handshake(), *(talk.out(PSH | ACK, 1, 5_001, b"get") for _ in range(4))]
    cut = [(T0 + S + number * MS, frame) for number, frame in enumerate(frames)]
    assert traffic([*lookup(), *cut], tmp_path).marks == (Mark.CUT,)


def test_pods_with_most_to_remark_come_first(tmp_path: Path) -> None:
    other = asked()[:26] + bytes((10, 244, 0, 6)) + asked()[30:]
    found = timeline([*lookup(), (T0, other)], tmp_path)
    assert [pod.address for pod in found.pods] == ["10.244.0.6", POD]


# --- of our own ---------------------------------------------------------------------------------------------

COMMITTED = {
    "event": "mapping.committed",
    "agent": "shim",
    "name": "api.example.com.",
    "addresses": [WEB],
    "ttl": 30,
}
POLICY = {"event": "policy.committed", "agent": "shim", "endpoints": 3}


def record(at_ns: int, fields: dict[str, object]) -> bytes:
    return json.dumps({"ts": at_ns / 1e9, **fields}).encode()


def own(folder: Path, frames: list[At], records: list[tuple[int, bytes]]) -> Path:
    path = folder / "own.pcapng"
    with path.open("wb") as stream:
        writer = writing.Writer(stream, application="acns-lab 0.1.0")
        writer.interface(writing.Interface("frontend/eth0"))
        writer.interface(writing.Interface("node1/shim", link_type=writing.UPPER_PDU))
        writer.names({ip_address(POD).packed: ["frontend"]})
        for at_ns, frame in frames:
            dropped = ["egress 203.0.113.9:443 → dropped, POLICY_DENIED"] if at_ns == T0 + S else []
            writer.packet(0, at_ns, frame, len(frame), comments=dropped)
        for at_ns, data in records:
            pdu = writing.upper_pdu("json", data)
            writer.packet(1, at_ns, pdu, len(pdu), comments=["shim: said"])
    return path


def test_of_our_own_capture_sets_are_what_the_agents_wrote_down(tmp_path: Path) -> None:
    records = [(T0 + 2 * MS, record(T0 + 2 * MS, COMMITTED)), (T0 + S, record(T0 + S, POLICY))]
    path = own(tmp_path, [*lookup(), *silence(T0 + S, OTHER)], records)
    found = building.timeline(*_with_title(path))
    (added,) = of_lane(found, Lane.SET)
    assert (added.kind, added.what, added.until_ns) == (
        "added",
        f"api.example.com → set +{WEB} 30 s",
        T0 + 2 * MS + 30 * S,
    )
    assert [one.kind for one in found.common] == ["policy.committed"]
    (event,) = of_lane(found, Lane.TRAFFIC)
    assert (event.marks[0], event.why) == (Mark.REFUSED, ("egress 203.0.113.9:443 → dropped, POLICY_DENIED",))
    assert (found.pods[0].name, found.is_own) == ("frontend", True)


def test_who_connects_before_the_set_has_the_address_is_marked_though_the_answer_was_there(
    tmp_path: Path,
) -> None:
    late = T0 + 50 * MS
    path = own(tmp_path, [*lookup(), *silence(T0 + 5 * MS)], [(late, record(late, COMMITTED))])
    (event,) = of_lane(building.timeline(*_with_title(path)), Lane.TRAFFIC)
    assert Mark.BEFORE_ANSWER in event.marks


def test_a_bundle_is_read_with_its_journals_and_a_line_that_is_twice_counts_once(tmp_path: Path) -> None:
    line = record(T0 + 2 * MS, COMMITTED)
    before = record(T0 - 90 * S, {**COMMITTED, "ttl": 7})
    bundle = tmp_path / "b.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.write(own(tmp_path, lookup(), [(T0 + 2 * MS, line)]), "capture.pcapng")
        archive.writestr("nodes/node1/shim-journal.jsonl", line + b"\nnot json\n[]\n")
        archive.writestr("nodes/node1/shim-journal.jsonl.1", before)
        archive.writestr("../../nodes/node1/shim-journal.jsonl", b"{}")
    evidence, journal = opening.evidence_of(bundle)
    added = of_lane(building.timeline(evidence, "b", journal), Lane.SET)
    assert [(one.at_ns, one.until_ns) for one in added] == [
        (T0 - 90 * S, T0 - 83 * S),
        (T0 + 2 * MS, T0 + 2 * MS + 30 * S),
    ]


@pytest.mark.parametrize("what", ["nothing", "broken", "no capture", "a capture that is none"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, what: str) -> None:
    bundle = tmp_path / "b.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("x" if what != "a capture that is none" else "capture.pcapng", b"hello, world" * 99)
    if what == "broken":
        bundle.write_bytes(bundle.read_bytes()[:-30])
    if what == "nothing":
        bundle.unlink()
    with pytest.raises(InputError):
        opening.evidence_of(bundle)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 50_000,
        b'{"event": "mapping.committed", "ts": 1e400}',
        b'{"event": "mapping.committed", "ts": "x", "addresses": 7}',
        b'{"event": ["mapping.committed"], "ts": 1}',
        b'{"event": "mapping.committed", "ts": 1, "name": 7, "addresses": ["nowhere"]}',
        b'{"event": "mapping.committed", "ts": 1, "name": {}, "addresses": {}, "ttl": "x", "sets": 3}',
        struct.pack("<I", 7),
    ],
)
def test_a_journal_may_say_anything(tmp_path: Path, line: bytes) -> None:
    path = own(tmp_path, lookup(), [(T0, line)])
    assert len(of_lane(building.timeline(*_with_title(path)), Lane.DNS)) == 1


def _with_title(path: Path) -> tuple[capture.Evidence, str]:
    return capture.read(path), path.name
