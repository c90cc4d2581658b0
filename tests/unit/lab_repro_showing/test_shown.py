"""A timeline as text, as JSON, as a page: it fits, has a version, and carries nobody's markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import InputError
from lab.repro.showing import commands, page, text
from lab.repro.showing.timeline import Event, Lane, Mark, Pod, Timeline
from tests.unit.lab_repro_reading.made import MS, T0, answered, asked, paced, pcap

HOSTILE = "</script><b>\u2028\x1b[31m&<!--"
EVENTS = (
    Event(
        T0,
        Lane.DNS,
        "A",
        "api.example.com",
        "198.51.100.7, TTL 30",
        T0 + 3 * MS,
        (),
        ("query → allowed",),
        (1, 2),
    ),
    Event(T0 + 3 * MS, Lane.SET, "would add", "198.51.100.7", "30 s for api.example.com", T0 + 30_003 * MS),
    Event(
        T0 + 900 * MS,
        Lane.TRAFFIC,
        "tcp",
        "203.0.113.9:443",
        "silent",
        None,
        (Mark.UNANSWERED, Mark.NEVER_LEARNED),
    ),
)
SHOWN = Timeline(
    "x.pcap", T0, T0 + 2_000 * MS, (Pod("10.244.0.5", "frontend", EVENTS),), notes=("10 frames",)
)


def of(said: str) -> Timeline:
    event = Event(T0, Lane.DNS, said, said, said, None, (Mark.REFUSED,), (said,), (1,))
    return Timeline(said, T0, T0, (Pod("10.244.0.5", said, (event,)),), (event,), (said,))


def test_text_has_a_line_for_each_event_in_its_lane_with_its_marks() -> None:
    lines = list(text.lines(SHOWN, 100))
    assert "frontend 10.244.0.5 · 1 lookups, 1 connections · 1 unanswered, 1 address never learned" in lines
    assert "     0.000 ●   A     api.example.com → 198.51.100.7, TTL 30" in lines
    assert "                 query → allowed" in lines
    assert "     0.003  ◆  would add 198.51.100.7 → 30 s for api.example.com" in lines
    assert "     0.900   ▶ tcp   203.0.113.9:443 → silent ! unanswered ! address never learned" in lines


@given(st.text(max_size=400), st.integers(0, 300))
def test_text_fits_and_moves_nobodys_cursor(said: str, width: int) -> None:
    for line in text.lines(of(said), width):
        assert len(line) <= min(max(width, 80), 120)
        assert line.isprintable()


class Markup(HTMLParser):
    """Which elements there are, and what stands in scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts.append(data)


def parsed(found: Timeline) -> Markup:
    markup = Markup()
    markup.feed(page.page(found))
    return markup


@given(st.one_of(st.text(max_size=200), st.just(HOSTILE), st.just("@DATA@")))
def test_what_a_capture_says_is_data_in_the_page_and_never_markup(said: str) -> None:
    markup = parsed(of(said))
    assert markup.tags == parsed(SHOWN).tags
    value = json.loads(markup.scripts[0])
    assert value["title"] == said
    assert value["pods"][1]["events"][0][3:6] == [said, said, said]
    assert not set("<>&") & set(markup.scripts[0])


def test_the_page_needs_nothing_else_and_may_load_nothing() -> None:
    written = page.page(SHOWN)
    assert "default-src 'none'" in written
    assert not re.search(r"\b(src|href)\s*=|@import|url\(|https?://|innerHTML|insertAdjacent|eval\(", written)
    assert "prefers-color-scheme: dark" in written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(paced([asked(), answered()])))
    return path


def test_json_has_a_version_and_the_events(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.show(str(file), as_json=True) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["version"] == 1
    assert [(one["lane"], one["kind"]) for one in value["pods"][0]["events"]] == [
        ("dns", "A"),
        ("set", "would add"),
    ]


def test_a_page_is_written_whole_for_its_owner_alone(file: Path, tmp_path: Path) -> None:
    written = tmp_path / "x.html"
    assert commands.show(str(file), output=str(written)) == 0
    assert (written.stat().st_mode & 0o777, "api.example.com" in written.read_text()) == (0o600, True)


@pytest.mark.parametrize(("output", "as_json"), [("x.svg", False), ("x.html", True), ("none/x.html", False)])
def test_what_cannot_be_written_is_refused(
    file: Path, output: str, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(InputError):
        commands.show(str(file), output=output, as_json=as_json)


@pytest.mark.parametrize(
    ("pods", "events", "said"),
    [(0, 0, "0 pods, 0 events"), (1, 1, "1 pod, 1 event"), (2, 2, "2 pods, 4 events")],
)
def test_how_much_it_is_is_said(pods: int, events: int, said: str) -> None:
    event = Event(at_ns=0, lane=Lane.DNS, kind="A", what="x", outcome="y")
    pod = Pod("10.244.0.2", "", (event,) * events)
    assert Timeline("x", 0, 0, (pod,) * pods, (), ()).about == said
