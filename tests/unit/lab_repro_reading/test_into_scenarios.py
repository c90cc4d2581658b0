"""What a scenario can be made of, of captures that are odd: too long, with ports that are none."""

from __future__ import annotations

from pathlib import Path

from lab.repro.importing import importer
from lab.repro.importing.given import Given

from .made import MS, SYN, T0, WEB, Talk, answered, asked, evidence, pcap

DAY = 86_400_000 * MS


def connection(at_ns: int, last_ns: int, port: int = 443) -> list[tuple[int, bytes]]:
    talk = Talk(WEB, port)
    return [
        *((at_ns + number * MS, one) for number, one in enumerate(talk.handshake())),
        (last_ns, talk.out(16, 1, 5_001)),
    ]


def test_of_a_capture_of_days_the_first_is_taken_and_that_is_said(tmp_path: Path) -> None:
    late = [(T0 + 2 * DAY, asked(ident=9)), (T0 + 2 * DAY + MS, answered(ident=10))]
    frames = [(T0, asked()), (T0 + MS, answered()), *connection(T0 + 5 * MS, T0 + 3 * DAY), *late]
    made = importer.from_evidence(evidence(pcap(sorted(frames)), tmp_path), Given(), "x")
    assert [step.kind for step in made.steps] == ["ask", "connect"]
    assert any("only the first day" in one for one in made.assumptions)


def test_a_connection_to_port_0_is_no_step(tmp_path: Path) -> None:
    frames = [(T0, asked()), (T0 + MS, answered()), (T0 + 5 * MS, Talk(WEB, 0).out(SYN, 0))]
    made = importer.from_evidence(evidence(pcap(frames), tmp_path), Given(), "x")
    assert [step.kind for step in made.steps] == ["ask"]
