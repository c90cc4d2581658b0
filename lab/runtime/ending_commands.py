"""`lab.down` and `lab.gc`. Apart from the other commands, for they need little and are to be over quickly."""

from __future__ import annotations

import json
from dataclasses import asdict

from lab.backends.kind import commands as on_kind
from lab.runtime.ending import gc, sole_name, take_down
from lab.runtime.explaining import FORMAT_VERSION, remark


def down(name: str | None, *, as_json: bool = False) -> int:
    """Take a lab down, whatever state it is in."""
    if kind := on_kind.lab(name):
        return kind.down(as_json=as_json)
    name = sole_name() if name is None else name
    was_there = name is not None and take_down(name, remark)
    if as_json:
        print(json.dumps({"version": FORMAT_VERSION, "lab": name, "was_there": was_there}))
    elif name is None:
        remark("no lab is there: nothing to take down")
    elif was_there:
        remark(f"lab {name} is down: nothing of it is left")
    else:
        remark(f"there is no lab {name}: nothing to take down")
    return 0


def collect(*, as_json: bool) -> int:
    """Remove what crashed labs have left; one line per folder looked at."""
    found = gc()
    if as_json:
        print(json.dumps({"version": FORMAT_VERSION, "found": [asdict(one) for one in found]}))
        return 0
    for one in found:
        print(f"{one.name}\t{one.fate}")
    if not any(one.fate == "removed" for one in found):
        remark("no crashed lab has left anything")
    return 0
