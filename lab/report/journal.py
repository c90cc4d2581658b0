"""A line of an agent's journal, or of the lab's own, as a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from acns.telemetry.journal import Event
from lab.report import printable

_COMMITTED: Final = "committed"
_SKIPPED: Final = frozenset({"ts", "agent", "event", "laps_ms", "request_id"})


def text(value: Mapping[str, Any]) -> str:
    """`mapping.sent api.example.com → set +192.0.2.7 30 s`, `policy.committed endpoints=5 took_ms=226.5`."""
    event = value["event"]
    if "addresses" in value and "name" in value:
        return printable.line(f"{event} {value['name'].removesuffix('.')} → {mapping(value)}")
    said = " ".join(f"{key}={_short(one)}" for key, one in value.items() if key not in _SKIPPED)
    return printable.line(f"{event} {said}".rstrip())


def mapping(value: Mapping[str, Any]) -> str:
    """What a mapping put into sets: `set +192.0.2.7 30 s`, and how that went where it did not just happen."""
    added = " ".join(f"+{address}" for address in value.get("addresses", ()))
    silent = _COMMITTED if value["event"] == Event.MAPPING_COMMITTED else value.get("why", "")
    outcome = value.get("outcome", silent)
    sets = f" in {', '.join(value['sets'])}" if value.get("sets") else ""
    how = f" ({outcome})" if outcome and outcome != _COMMITTED else ""
    return f"set {added} {value.get('ttl', 0):g} s{sets}{how}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
