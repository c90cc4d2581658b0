"""A timeline in the terminal: a paragraph for each pod, a line for each event, its lane by its place.

    frontend 10.244.0.5 · 2 unanswered
         0.000 ●    A     api.example.com → 198.51.100.10, TTL 30
         0.002  ◆   would add 198.51.100.10 → 30 s for api.example.com
         0.003   ▶  tcp   api.example.com (198.51.100.10:443) → silent, 3 attempts   ! unanswered

It fits into the width that there is; nothing in it moves the reader's cursor or colours his screen.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from lab.report import printable
from lab.repro.showing.timeline import Event, Lane, Mark, Pod, Timeline

NARROWEST, WIDEST = 80, 120
_PLACES: Final = {Lane.DNS: "●  ", Lane.SET: " ◆ ", Lane.TRAFFIC: "  ▶"}
_KIND_COLUMNS: Final = 5
_MAX_WHY, _MAX_LINES, _MAX_WHY_LINES = 3, 6, 2
_S_NS: Final = 1_000_000_000


def lines(timeline: Timeline, width: int = 100) -> Iterator[str]:
    """The whole; `width` is brought between 80 and 120 columns."""
    fitting = _Lines(timeline.first_ns, min(max(width, NARROWEST), WIDEST))
    yield from fitting.head(timeline)
    if timeline.common:
        yield from fitting.paragraph("agents and policies", timeline.common)
    for pod in timeline.pods:
        yield from fitting.paragraph(_about(pod), pod.events)


class _Lines:
    """Of one width, with times from `start_ns` on."""

    def __init__(self, start_ns: int, width: int) -> None:
        self._start_ns = start_ns
        self._width = width

    def head(self, timeline: Timeline) -> Iterator[str]:
        yield self._fit(timeline.title)
        yield self._fit(
            f"from {_date(timeline.first_ns)}, {_span(timeline):.3f} s; times in seconds from there"
        )
        for note in timeline.notes:
            yield from self._wrapped(f"  {note}")
        counted = _counted(timeline.marks()) or "nothing to remark"
        yield from self._wrapped(f"● DNS  ◆ set  ▶ traffic   {counted}")

    def paragraph(self, title: str, events: Iterable[Event]) -> Iterator[str]:
        yield ""
        yield from self._wrapped(title)
        for event in events:
            yield from self._event(event)

    def _event(self, event: Event) -> Iterator[str]:
        at = f"{(event.at_ns - self._start_ns) / _S_NS:10.3f} {_PLACES[event.lane]} "
        parts = [f"{at}{event.kind:{_KIND_COLUMNS}} {event.what}"]
        outcome = f"→ {event.outcome}" if event.outcome else ""
        for part in (outcome, *(f"! {mark}" for mark in event.marks)):
            if part and len(parts[-1]) + len(part) < self._width:
                parts[-1] += f" {part}"
            elif part:
                parts.append(f"{'':{len(at)}}  {part}")
        yield from map(self._fit, parts)
        for why in event.why[:_MAX_WHY]:
            yield from self._wrapped(f"{'':{len(at)}}  {why}", _MAX_WHY_LINES)

    def _wrapped(self, line: str, most: int = _MAX_LINES) -> Iterator[str]:
        """On as many lines as it takes, but not more than a few."""
        deeper = " " * (len(line) - len(line.lstrip()) + 2)
        yield from textwrap.wrap(
            printable.line(line), self._width, subsequent_indent=deeper, max_lines=most, placeholder=" …"
        )

    def _fit(self, line: str) -> str:
        clean = printable.line(line)
        return clean if len(clean) <= self._width else clean[: self._width - 1] + "…"


def _about(pod: Pod) -> str:
    lanes = Counter(event.lane for event in pod.events)
    counted = f"{lanes[Lane.DNS]} lookups, {lanes[Lane.TRAFFIC]} connections"
    return " · ".join(filter(None, [f"{pod.name} {pod.address}".strip(), counted, _counted(pod.marks())]))


def _counted(marks: Counter[Mark]) -> str:
    return ", ".join(f"{marks[mark]} {mark}" for mark in Mark if marks[mark])


def _date(at_ns: int) -> str:
    try:
        return datetime.fromtimestamp(at_ns // _S_NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at_ns // _S_NS} s after 1970"


def _span(timeline: Timeline) -> float:
    return (timeline.last_ns - timeline.first_ns) / _S_NS
