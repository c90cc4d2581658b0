"""What `invoke lab.capture` does: start and stop a capture of one's own, save what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from acns.located import did_you_mean
from lab.capture import bpf, saving, tapes
from lab.capture.of_namespaces import OfNamespaces
from lab.capture.ring import RING_BYTES
from lab.capture.subject import Recordable
from lab.errors import InputError
from lab.runtime.commands import FORMAT_VERSION, remark
from lab.runtime.lab import Lab

_MIB: Final = 1 << 20
MAX_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Typed:
    """The options as they were typed."""

    filter: str = ""
    output: str | None = None
    size_mib: int = RING_BYTES // _MIB
    json: bool = False


def run(words: Sequence[str], name: str | None, typed: Typed) -> int:
    """`start [LINK…]`, `stop`, `save`, `status`. Raises InputError for what cannot be meant."""
    what, links = (words[0], words[1:]) if words else ("status", ())
    if what not in _DOES:
        hint = did_you_mean(what, _DOES) or f"one of: {', '.join(_DOES)}"
        raise InputError(f"a capture cannot be told to '{what}'", hint=hint)
    if links and what != "start":
        raise InputError(f"links are for `start`, not for `{what}`", hint=f"invoke lab.capture {what}")
    lab = attached(name)
    value, text = _DOES[what](lab, links, typed)
    if typed.json:
        print(json.dumps({"version": FORMAT_VERSION, "lab": lab.name, **value}))
    else:
        remark(text) if what != "status" else print(text)
    return 0


Said = tuple[dict[str, Any], str]
"""For programs, for people."""


def _start(lab: Recordable, links: Sequence[str], typed: Typed) -> Said:
    if not 1 <= typed.size_mib <= MAX_MIB:
        raise InputError(f"a capture cannot have {typed.size_mib} MiB", hint=f"--size 1 to {MAX_MIB}")
    if lab.kept_file.exists():
        raise InputError("a capture was stopped, and not saved yet", hint="first invoke lab.capture save")
    wanted = [(lab.link(one), lab.followed(one)) for one in links]
    wanted = wanted or [(link, "") for link in lab.everywhere()]
    tapes.ask(
        lab,
        op="start",
        links=[{"place": place, "interface": link, "pod": pod} for (place, link), pod in wanted],
        program=bpf.compiled(typed.filter).hex(),
        filter=typed.filter,
        size_bytes=typed.size_mib * _MIB * len(wanted),
    )
    where = ", ".join(links) or "all links"
    return {"started": True, "links": list(links)}, f"capturing at {where}: until `invoke lab.capture stop`"


def _stop(lab: Recordable, links: Sequence[str], typed: Typed) -> Said:
    path = tapes.stop(lab)
    return {"stopped": True}, f"stopped; it is kept until the lab ends or it is saved ({path})"


def _save(lab: Recordable, links: Sequence[str], typed: Typed) -> Said:
    """What was captured last, if anything was; else what is always recorded."""
    path = Path(typed.output or f"{lab.name}.pcapng").absolute()
    running, stopped = tapes.running(lab), tapes.stopped(lab)
    saved = saving.save(lab, running or stopped or tapes.always(lab), path)
    if running is None:
        lab.kept_file.unlink(missing_ok=True)
    lost = f"; LOST: {saved.lost} packets came too fast" if saved.lost else ""
    older = f"; {saved.overwritten} older packets were given up for newer ones" if saved.overwritten else ""
    silent = f"; {saved.not_written} decisions were not written down" if saved.not_written else ""
    text = (
        f"{saved.path}: {saved.packets} packets of {saved.span_s:.1f} s with {saved.comments} decisions,"
        f" and {saved.alone} lines of the agents' journals{lost}{older}{silent}"
    )
    return {"saved": asdict(saved)}, text


def _status(lab: Recordable, links: Sequence[str], typed: Typed) -> Said:
    found = tapes.ask(lab, op="status")
    lines = [f"{one['place'].removeprefix('node/')}: all links, {_counted([one])}" for one in found["counts"]]
    started = found["started"]
    if started:
        of_filter = f", filter: {started['filter']}" if started["filter"] else ""
        lines.append(f"a capture runs{of_filter}: {_counted(found['started_counts'])}")
    elif lab.kept_file.exists():
        lines.append("a capture was stopped, and not saved yet")
    return {"status": found}, "\n".join(lines)


def _counted(parts: Sequence[Mapping[str, int]]) -> str:
    """What was heard in all of these."""
    received, dropped, overwritten = (
        sum(one[key] for one in parts) for key in ("received", "dropped", "overwritten")
    )
    return f"{received} packets heard, {dropped} lost, {overwritten} given up for newer ones"


_DOES: Final[dict[str, Callable[[Recordable, Sequence[str], Typed], Said]]] = {
    "start": _start,
    "stop": _stop,
    "save": _save,
    "status": _status,
}


def attached(name: str | None) -> Recordable:
    """The running lab that is meant. Raises LabNotFound."""
    from lab.backends.kind import commands as on_kind

    if kind := on_kind.lab(name):
        from lab.backends.kind.recording import OnKind

        return OnKind(kind.lab)
    return OfNamespaces(Lab.attach(name))
