"""A timeline as one HTML file that needs no other: lanes to zoom into, a table of what is in sight.

What is in the capture is in the page as data, never as markup: JSON without a `<`, and the page's script sets
text only. Its policy (CSP) lets the page load nothing. The script draws what is in sight on a canvas, so that
ten thousand events are no weight.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any, Final

from lab.repro.showing.timeline import Event, Lane, Mark, Timeline

_LANES: Final = {lane: number for number, lane in enumerate(Lane)}
_MARKS: Final = {mark: number for number, mark in enumerate(Mark)}
_MAX_FRAMES: Final = 16
_COMMON: Final = "agents and policies"


def page(timeline: Timeline) -> str:
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("@DATA@", _data(timeline))


def _data(timeline: Timeline) -> str:
    """JSON that may stand in a script element: nothing in it ends that, or begins a comment there."""
    counted = timeline.marks()
    pods: list[dict[str, Any]] = [
        {"name": pod.name, "address": pod.address, "events": _events(pod.events, timeline.first_ns)}
        for pod in timeline.pods
    ]
    if timeline.common:
        common = _events(timeline.common, timeline.first_ns)
        pods.insert(0, {"name": _COMMON, "address": "", "common": True, "events": common})
    value = {
        "title": timeline.title,
        "about": timeline.about,
        "notes": timeline.notes,
        "span": (timeline.last_ns - timeline.first_ns) / 1_000,
        "marks": [mark.value for mark in Mark],
        "counts": [counted[mark] for mark in Mark],
        "pods": pods,
    }
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _events(events: Iterable[Event], start_ns: int) -> list[list[Any]]:
    """Times in microseconds from the start on."""
    return [
        [
            (event.at_ns - start_ns) / 1_000,
            None if event.until_ns is None else (event.until_ns - start_ns) / 1_000,
            _LANES[event.lane],
            event.kind,
            event.what,
            event.outcome,
            [_MARKS[mark] for mark in event.marks],
            event.why,
            event.frames[:_MAX_FRAMES],
        ]
        for event in events
    ]
