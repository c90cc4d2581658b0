"""What this machine can do for a lab, printed: what is missing, what that costs, how to mend it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol, TextIO

from rich.text import Text

from lab.report.tables import FORMAT_VERSION, console_for, table


class Feature(Protocol):
    """One probed thing, as lab.kernel.features reports it."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def required(self) -> bool: ...
    @property
    def detail(self) -> str: ...
    @property
    def cost(self) -> str: ...
    @property
    def mend(self) -> str: ...


def print_doctor(features: Sequence[Feature], out: TextIO | None = None) -> None:
    """Every feature with what was found; what a missing one costs and how to mend it; the verdict."""
    console = console_for(out)
    found = table(console, "", "feature", "found", "what is lost", "how to mend it")
    for feature in features:
        lost = ("", "") if feature.ok else (feature.cost, feature.mend)
        found.add_row(_mark(feature), feature.name, Text(feature.detail), *map(Text, lost))
    console.print(found)
    missing = [feature for feature in features if not feature.ok]
    if any(feature.required for feature in missing):
        console.print(Text("labs cannot run on this machine as it is", style="bold red"))
    elif missing:
        console.print(Text("labs run here; what is missing costs what is said above", style="bold yellow"))
    else:
        console.print(Text("labs run here, with everything", style="bold green"))


def doctor_json(features: Sequence[Feature]) -> str:
    """One JSON object with `version`, `ready` (whether labs can run) and `features`."""
    fields = ("name", "ok", "required", "detail", "cost", "mend")
    listed = [{field: getattr(feature, field) for field in fields} for feature in features]
    ready = all(feature.ok or not feature.required for feature in features)
    return json.dumps({"version": FORMAT_VERSION, "ready": ready, "features": listed}, indent=2)


def _mark(feature: Feature) -> Text:
    if feature.ok:
        return Text("ok", style="green")
    return Text("missing", style="bold red") if feature.required else Text("absent", style="yellow")
