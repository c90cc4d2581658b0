"""What the agents wrote of a run: each query's fate, each mapping with its time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from acns.telemetry.journal import Event
from lab.repro.scenario import messages, records
from lab.repro.scenario.model import Scenario, Step, endpoint
from lab.runtime.lab import Lab

NOT_LEARNED: Final = "no name's answer has put"
_NEAR_S: Final = 10.0
_FILES: Final = ("resolver-journal.jsonl", "shim-journal.jsonl")


@dataclass(frozen=True, slots=True)
class Begun:
    """Where each node's files ended at a run's beginning."""

    sizes: dict[str, tuple[tuple[Path, int], ...]]


@dataclass(frozen=True, slots=True)
class Said:
    """Lines of both agents of each node."""

    lines: dict[str, tuple[dict[str, Any], ...]]

    def about(self, scenario: Scenario, step: Step, began_s: float) -> str:
        """What is known of a step that began then."""
        lines = self.lines[scenario.node_of(scenario.pod_of(step))]
        match step.kind:
            case "ask":
                return _query(lines, step, began_s)
            case "connect":
                assert step.connect is not None
                return _mapping(lines, str(endpoint(step.connect)[0]), began_s)
        return ""


def _query(lines: Iterable[dict[str, Any]], step: Step, began_s: float) -> str:
    asked = messages.question(messages.query(step, 0))
    if asked is None:
        return ""
    name = records.name_text([label.lower() for label in asked.labels]).rstrip(".") + "."
    words = []
    for line in _near(lines, began_s, name=name, type=asked.qtype, transport=step.transport):
        if line["event"] == Event.DNS_QUERY and line.get("verdict") != "forward":
            words.append(f"resolver: {line.get('verdict')}, {line.get('reason')}")
        elif line["event"] == Event.DNS_ANSWER:
            words.append(f"resolver: {line.get('outcome')} after {_ms(line['ts'] - began_s)}")
    return "; ".join(words[:2])


def _mapping(lines: Iterable[dict[str, Any]], address: str, began_s: float) -> str:
    found = [
        line for line in lines if line["event"] == Event.MAPPING_COMMITTED and address in line["addresses"]
    ]
    if not found:
        return f"{NOT_LEARNED} {address} into a set"
    nearest = min(found, key=lambda line: abs(line["ts"] - began_s))
    apart_s = nearest["ts"] - began_s
    when = f"{_ms(abs(apart_s))} {'after' if apart_s > 0 else 'before'} this"
    sets = ", ".join(nearest.get("sets", ())) or "no set"
    return f"{nearest['name']} → {address} committed {when}, TTL {nearest['ttl']:g} s, into {sets}"


def _near(lines: Iterable[dict[str, Any]], began_s: float, **fields: Any) -> Iterator[dict[str, Any]]:
    """Lines with these fields, of this step's time."""
    for line in lines:
        if -0.05 <= line["ts"] - began_s <= _NEAR_S and all(
            line.get(key) == value for key, value in fields.items()
        ):
            yield line


def begin(lab: Lab) -> Begun:
    """At a run's beginning."""
    homes = {node.name: lab.folder.node(node.name) for node in lab.nodes}
    return Begun(
        {node: tuple((home / name, _size(home / name)) for name in _FILES) for node, home in homes.items()}
    )


def read(begun: Begun) -> Said:
    """What was written since."""
    return Said(
        {
            node: tuple(line for path, size in sizes for line in _lines(path, size))
            for node, sizes in begun.sizes.items()
        }
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _lines(path: Path, size: int) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(size if _size(path) >= size else 0)
        for line in file:
            try:
                value = json.loads(line)
            except ValueError:
                continue  # the last one, half-written
            if isinstance(value, dict) and "event" in value and "ts" in value:
                yield value


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
