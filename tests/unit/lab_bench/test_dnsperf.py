"""dnsperf's report as numbers, and its own fault told from the server's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.bench import dnsperf
from lab.errors import ProcessFailed
from lab.kernel import netns
from lab.kernel.netns import Namespace

REPORT = "  Queries sent:  64\n  Queries completed:  63 (98.44%)\n  Queries per second:  6400.5\n"
CLOSED = "Error: failed to receive packet: Bad file descriptor\n"
REFUSED = "Error: unable to open socket: Connection refused\n"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Sets what dnsperf says, run by run; the list is what has not been said yet."""

    def said(*outputs: str) -> list[str]:
        left = list(outputs)

        def one(_pod: Namespace, _run: object) -> subprocess.CompletedProcess[str]:
            text = left.pop(0)
            failed = text.startswith("Error")
            return subprocess.CompletedProcess(
                [], int(failed), "" if failed else text, text if failed else ""
            )

        monkeypatch.setattr(netns, "in_namespace", one)
        return left

    return said


def once(tmp_path: Path) -> dnsperf.Run:
    questions = dnsperf.write_questions(tmp_path / "questions.txt", ["a.example."])
    return dnsperf.once(Namespace(-1), "192.0.2.1", questions)


def test_a_run_that_fell_over_its_own_closed_socket_is_made_again(
    tmp_path: Path, runs: Callable[..., list[str]]
) -> None:
    left = runs(CLOSED, CLOSED, REPORT)
    assert once(tmp_path) == dnsperf.Run(sent=64, completed=63, rate=6400.5, latencies_ms=[])
    assert not left


def test_answers_with_an_error_are_counted(tmp_path: Path, runs: Callable[..., list[str]]) -> None:
    runs(REPORT + "  Response codes:       NOERROR 50 (79.37%), SERVFAIL 9 (14.29%), REFUSED 4 (6.35%)\n")
    assert once(tmp_path).failed == 13


def test_every_run_that_falls_over_is_an_error(tmp_path: Path, runs: Callable[..., list[str]]) -> None:
    left = runs(*[CLOSED] * 9)
    with pytest.raises(ProcessFailed, match="Bad file descriptor"):
        once(tmp_path)
    assert len(left) == 4


def test_what_the_server_did_is_an_error_at_once(tmp_path: Path, runs: Callable[..., list[str]]) -> None:
    left = runs(REFUSED, REPORT)
    with pytest.raises(ProcessFailed, match="Connection refused"):
        once(tmp_path)
    assert left == [REPORT]
