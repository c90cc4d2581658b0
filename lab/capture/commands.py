"""What `invoke lab.capture` does: start and stop a capture of one's own, save what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from acns.located import did_you_mean
from lab.backends.network import INTERNET, node_place
from lab.capture import bpf, saving, tapes
from lab.capture.ring import RING_BYTES
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
    lab = Lab.attach(name)
    value, text = _DOES[what](lab, links, typed)
    if typed.json:
        print(json.dumps({"version": FORMAT_VERSION, "lab": lab.name, **value}))
    else:
        remark(text) if what != "status" else print(text)
    return 0


Said = tuple[dict[str, Any], str]
"""For programs, for people."""


def _start(lab: Lab, links: Sequence[str], typed: Typed) -> Said:
    if not 1 <= typed.size_mib <= MAX_MIB:
        raise InputError(f"a capture cannot have {typed.size_mib} MiB", hint=f"--size 1 to {MAX_MIB}")
    if tapes.kept_file(lab.folder).exists():
        raise InputError("a capture was stopped, and not saved yet", hint="first invoke lab.capture save")
    wanted = [found for word in links for found in [_link(lab, word)]] or _everywhere(lab)
    tapes.ask(
        lab,
        op="start",
        links=[{"place": place, "interface": interface} for place, interface in wanted],
        program=bpf.compiled(typed.filter).hex(),
        filter=typed.filter,
        size_bytes=typed.size_mib * _MIB * len(wanted),
    )
    where = ", ".join(links) or "all links"
    return {"started": True, "links": list(links)}, f"capturing at {where}: until `invoke lab.capture stop`"


def _stop(lab: Lab, links: Sequence[str], typed: Typed) -> Said:
    path = tapes.stop(lab)
    return {"stopped": True}, f"stopped; it is kept until the lab ends or it is saved ({path})"


def _save(lab: Lab, links: Sequence[str], typed: Typed) -> Said:
    """What was captured last, if anything was; else what is always recorded."""
    path = Path(typed.output or f"{lab.name}.pcapng").absolute()
    running, stopped = tapes.running(lab), tapes.stopped(lab)
    saved = saving.save(lab, running or stopped or tapes.always(lab), path)
    if running is None:
        tapes.kept_file(lab.folder).unlink(missing_ok=True)
    lost = f"; LOST: {saved.lost} packets came too fast" if saved.lost else ""
    older = f"; {saved.overwritten} older packets were given up for newer ones" if saved.overwritten else ""
    silent = f"; {saved.not_written} decisions were not written down" if saved.not_written else ""
    text = (
        f"{saved.path}: {saved.packets} packets of {saved.span_s:.1f} s with {saved.comments} decisions,"
        f" and {saved.alone} lines of the agents' journals{lost}{older}{silent}"
    )
    return {"saved": asdict(saved)}, text


def _status(lab: Lab, links: Sequence[str], typed: Typed) -> Said:
    found = tapes.ask(lab, op="status")
    lines = [
        f"{one['place'].removeprefix('node/')}: all links, {one['received']} packets heard,"
        f" {one['dropped']} lost, {one['overwritten']} given up for newer ones"
        for one in found["counts"]
    ]
    started = found["started"]
    if started:
        lines.append(f"a capture runs{', filter: ' + started['filter'] if started['filter'] else ''}")
    elif tapes.kept_file(lab.folder).exists():
        lines.append("a capture was stopped, and not saved yet")
    return {"status": found}, "\n".join(lines)


_DOES: Final[dict[str, Callable[[Lab, Sequence[str], Typed], Said]]] = {
    "start": _start,
    "stop": _stop,
    "save": _save,
    "status": _status,
}


def _everywhere(lab: Lab) -> list[tuple[str, str]]:
    return [(place, "") for place in (INTERNET, *(node_place(node.name) for node in lab.nodes))]


def _link(lab: Lab, word: str) -> tuple[str, str]:
    """`frontend`, `frontend/eth0`, `kube-system/kube-dns`, `node1/lo`, `internet`: place and interface.

    A pod's link is listened to at its node's end. Raises LabNotFound.
    """
    owner, _, interface = word.rpartition("/")
    if interface not in ("eth0", "lo"):
        owner, interface = word, "eth0"
    if owner == INTERNET:
        return INTERNET, interface
    if owner in (node.name for node in lab.nodes):
        return node_place(owner), interface
    pod = lab.pod(owner)
    if interface != "eth0":
        raise InputError(f"nothing of {word} is recorded: it stays in the pod", hint=f"{owner}/eth0")
    return node_place(pod.node), pod.node_iface
