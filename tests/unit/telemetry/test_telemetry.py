"""Logs, journal, metrics and unix sockets."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault, InputError
from acns.telemetry import log as logs
from acns.telemetry import metrics, sockets
from acns.telemetry.journal import Event, Journal
from acns.telemetry.metrics import Reading, Tally


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- logs ----------------------------------------------------------------------------------------------


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    logs.configure("resolver", str(tmp_path / "log"))
    yield tmp_path / "log"
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_log_line_is_json_with_event_and_fields(log_file: Path) -> None:
    logs.named("acns.x").info("policy applied", endpoints=3, level="odd", path=Path("/p"))
    (line,) = lines(log_file)
    assert (line["event"], line["level"], line["agent"], line["logger"]) == (
        "policy applied",
        "info",
        "resolver",
        "acns.x",
    )
    assert (line["endpoints"], line["level_"], line["path"]) == (3, "odd", "/p")
    assert str(line["ts"]).endswith("+00:00")


def test_foreign_logs_come_in_the_same_form_and_debug_stays_out(log_file: Path) -> None:
    logging.getLogger("asyncio").warning("slow %s", "loop")
    logs.named("acns.x").debug("detail")
    assert [line["event"] for line in lines(log_file)] == ["slow loop"]


def test_a_failure_has_a_traceback_only_when_it_is_our_bug(log_file: Path) -> None:
    log = logs.named("acns.x")
    for error in (EnvironmentFault("no nft", hint="install it"), KeyError("x")):
        try:
            raise error
        except Exception as caught:  # noqa: BLE001
            log.failure("failed", caught)
    first, second = lines(log_file)
    assert "install it" in str(first["error"])
    assert ("traceback" in first, "traceback" in second) == (False, True)


def test_a_name_with_a_newline_cannot_forge_a_line(log_file: Path) -> None:
    logs.named("acns.x").info("seen", name='a\n{"event": "forged"}')
    assert [line["event"] for line in lines(log_file)] == ["seen"]


def test_what_may_come_at_any_rate_is_logged_seldom() -> None:
    now = [0.0]
    seldom = logs.Seldom(1.0, clock=lambda: now[0])
    said = []
    for now[0] in (0.0, 0.5, 0.99, 1.0, 1.5, 7.0):
        said.append(seldom())
    assert said == [True, False, False, True, False, True]


def test_a_log_file_that_cannot_be_written_is_an_environment_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot write the log"):
        logs.configure("resolver", str(tmp_path / "absent" / "log"))


# --- journal -------------------------------------------------------------------------------------------


def test_recorded_decisions_are_in_the_file_in_order(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver", clock=lambda: 12.5)
    journal.start()
    for number in range(1000):
        journal.record(Event.DNS_QUERY, number=number)
    journal.close()
    assert [line["number"] for line in lines(tmp_path / "journal")] == list(range(1000))
    assert lines(tmp_path / "journal")[0] == {
        "ts": 12.5,
        "agent": "resolver",
        "event": "dns.query",
        "number": 0,
    }
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o600


def test_without_a_path_nothing_is_kept() -> None:
    journal = Journal("", "resolver")
    journal.start()
    journal.record(Event.DNS_QUERY)
    journal.close()
    assert journal.dropped == 0


def test_a_slow_disk_drops_and_counts_but_never_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver", limit_bytes=10_000)
    writing_ends, append = threading.Event(), journal._file.append

    def slow(text: str) -> None:
        writing_ends.wait(5)
        append(text)

    monkeypatch.setattr(journal._file, "append", slow)
    journal.start()
    for _ in range(10_000):
        journal.record(Event.DNS_QUERY)
    assert journal.dropped > 9000
    writing_ends.set()
    journal.close()
    assert lines(tmp_path / "journal")[-1]["event"] == "journal.dropped"


def test_the_file_is_bounded(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"), "resolver", max_bytes=2000)
    journal.start()
    for number in range(5000):
        journal.record(Event.DNS_QUERY, number=number)
    journal.close()
    assert (tmp_path / "journal.1").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "journal.1"]


# --- metrics -------------------------------------------------------------------------------------------


def test_a_tally_counts_by_label_and_shows_known_zeroes() -> None:
    registry = metrics.new_registry()
    tally = Tally("acns_seen", "Seen.", ("kind",), registry=registry, known=(("late",),))
    tally.add("early", by=2)
    text = metrics.exposition(registry).decode()
    assert 'acns_seen_total{kind="late"} 0.0' in text
    assert 'acns_seen_total{kind="early"} 2.0' in text
    assert (tally.count("early"), tally.count()) == (2, 2)


def test_a_tally_refuses_the_wrong_number_of_labels() -> None:
    tally = Tally("acns_seen", "Seen.", ("kind",), registry=metrics.new_registry())
    with pytest.raises(ValueError, match="kind"):
        tally.add()


def test_a_reading_is_taken_when_scraped() -> None:
    registry, values = metrics.new_registry(), [1.0]
    Reading("acns_now", "Now.", lambda: values[-1], registry=registry)
    values.append(7.0)
    assert "acns_now 7.0" in metrics.exposition(registry).decode()


# --- unix sockets --------------------------------------------------------------------------------------


def test_a_socket_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with sockets.listen(tmp_path / "s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_socket_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    sockets.listen(tmp_path / "s").close()
    assert (tmp_path / "s").exists()
    sockets.listen(tmp_path / "s").close()


def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    with sockets.listen(tmp_path / "s") as living:
        with pytest.raises(EnvironmentFault, match="in use"):
            sockets.listen(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            living.accept()[0].close()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(EnvironmentFault, match="not a socket"):
        sockets.listen(tmp_path / "s")
    assert (tmp_path / "s").read_text() == "precious"


def test_a_path_too_long_for_the_kernel_says_so(tmp_path: Path) -> None:
    room = sockets.MAX_PATH_BYTES - len(str(tmp_path)) - 1
    sockets.listen(tmp_path / ("x" * room)).close()
    with pytest.raises(InputError, match="108 bytes"):
        sockets.listen(tmp_path / ("x" * (room + 1)))


def test_a_next_generation_takes_the_link_and_the_last_ones_end_leaves_it(tmp_path: Path) -> None:
    first, second = (sockets.Generation(tmp_path / "s") for _ in range(2))
    with sockets.listen(first.own):
        first.switch()
        with sockets.listen(second.own), socket.socket(socket.AF_UNIX) as client:
            second.clear()
            second.switch()
            first.remove()
            client.connect(str(tmp_path / "s"))
    second.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_generation_is_overtaken_when_the_link_does_not_lead_to_it_and_another_is_served_while_it_lives(
    tmp_path: Path,
) -> None:
    first, second = (sockets.Generation(tmp_path / "s") for _ in range(2))
    assert not first.is_overtaken
    with sockets.listen(first.own):
        first.switch()
        assert not first.is_overtaken
        with sockets.listen(second.own):
            second.switch()
            assert first.is_overtaken
            assert not second.is_overtaken
            assert first.is_served()
        assert first.is_overtaken
        assert not first.is_served()
        second.remove()
        assert first.is_overtaken, "another has been there"


def test_a_generation_is_lost_when_its_link_is_gone_or_leads_to_the_dead(tmp_path: Path) -> None:
    first, second = (sockets.Generation(tmp_path / "s") for _ in range(2))
    with sockets.listen(first.own):
        assert not first.is_lost, "it has not been found yet"
        first.switch()
        assert not first.is_lost
        first.link.unlink()
        assert first.is_lost
        with sockets.listen(second.own):
            second.switch()
            assert not first.is_lost, "another is found"
        assert first.is_lost


def test_what_killed_generations_left_is_cleared_and_the_living_and_the_new_are_not(tmp_path: Path) -> None:
    dead, new, living, own = (sockets.Generation(tmp_path / "s") for _ in range(4))
    for one in (dead, new):
        sockets.listen(one.own).close()
    with sockets.listen(living.own):
        for one in (dead, living):
            os.utime(one.own, (0, 0))
        own.clear()
        assert set(tmp_path.iterdir()) == {new.own, living.own}


def test_a_link_that_a_killed_generation_has_not_put_in_place_is_cleared(tmp_path: Path) -> None:
    dead, new, own = (sockets.Generation(tmp_path / "s") for _ in range(3))
    dead.prepare()
    (made,) = tmp_path.iterdir()
    os.utime(made, (0, 0), follow_symlinks=False)
    new.prepare()
    own.clear()
    assert not made.is_symlink()
    new.switch()
    assert os.readlink(new.link) == new.own.name


def test_a_generations_link_takes_the_place_of_nothing_but_a_link(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(EnvironmentFault, match="not a socket"):
        sockets.Generation(tmp_path / "s").clear()
    assert (tmp_path / "s").read_text() == "precious"
