"""Faults as values: what, where, how bad. Their words are those of the command line, both ways."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from acns.located import did_you_mean, nearest
from lab.errors import InputError
from lab.runtime.explaining import FORMAT_VERSION
from lab.spec.topology import AGENTS, Agent
from lab.world import dns_fault

AgentAction = Literal["kill", "stop", "hang", "cont", "upgrade"]
LinkMode = Literal["down", "lossy"]

AGENT_ACTIONS: Final[tuple[AgentAction, ...]] = get_args(AgentAction)
LINK_MODES: Final[tuple[LinkMode, ...]] = get_args(LinkMode)
MENDED: Final = "ok"
_KINDS: Final = (*AGENT_ACTIONS, "upstream", "link", "clear")
MAX_S: Final = 3_600.0

USAGE: Final = """\
invoke lab.fault kill|stop|hang|cont|upgrade shim|resolver [--node NODE]
       invoke lab.fault upstream silent|servfail|slow|lossy|lying|flapping|ok [--at POD]
       invoke lab.fault link down|lossy|ok POD|NODE
       invoke lab.fault clear"""


@dataclass(frozen=True, slots=True)
class AgentFault:
    """`kill`: SIGKILL, and the lab starts it again, as a DaemonSet would. `stop`: SIGTERM, and it stays down.
    `hang`: SIGSTOP. `cont`: mends both. `upgrade`: another process takes over (resolver), or it starts anew
    on the kernel's state (shim)."""

    action: AgentAction
    agent: Agent
    node: str

    def __str__(self) -> str:
        return f"{self.action} {self.agent}" + f" --node {self.node}" * bool(self.node)

    @property
    def lasts(self) -> bool:
        """Whether it stays until it is mended."""
        return self.action in ("stop", "hang")


@dataclass(frozen=True, slots=True)
class UpstreamFault:
    """The DNS server at `place` (a pod's key, or `internet`) has a bad day: `lab.world.dns_fault`."""

    mode: dns_fault.Mode
    place: str
    delay_s: float
    share: float

    def __str__(self) -> str:
        delay, share = f" --delay {self.delay_s:g}", f" --share {self.share:g}"
        options = {"slow": delay, "flapping": delay, "lossy": share}
        return f"upstream {self.mode} --at {self.place}{options.get(self.mode, '')}"

    @property
    def lasts(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class LinkFault:
    """Packets on the link of a pod, or of a node to the others, get lost: a share of them, or all."""

    mode: LinkMode
    place: str
    share: float

    def __str__(self) -> str:
        return f"link {self.mode} {self.place}" + f" --share {self.share:g}" * (self.mode == "lossy")

    @property
    def lasts(self) -> bool:
        return True


Fault = AgentFault | UpstreamFault | LinkFault


@dataclass(frozen=True, slots=True)
class Mending:
    """What is to be well again: a link, a DNS server, or everything."""

    what: Literal["upstream", "link", "everything"]
    place: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.place}".rstrip()


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the words. `node` and `at` "": the only one there is."""

    node: str = ""
    at: str = ""
    delay_s: float = 2.0
    share: float = 0.3


def as_object(lab: str, what: Fault | Mending, *, lasts: bool) -> dict[str, object]:
    """What was done, for programs; `lasts`: until it is mended."""
    kind = "mended" if isinstance(what, Mending) else "fault"
    return {"version": FORMAT_VERSION, "lab": lab, kind: str(what), "lasts": lasts}


def parse(words: Sequence[str], options: Options) -> Fault | Mending:
    """The fault that the words name. Raises InputError, with what may be written instead."""
    if not 0 <= options.share <= 1:
        raise InputError(f"a share is from 0 to 1, not {options.share:g}")
    if not 0 < options.delay_s <= MAX_S:
        raise InputError(f"a delay is above 0 s and up to an hour, not {options.delay_s:g} s")
    match list(words):
        case ["clear"]:
            return Mending("everything")
        case ["upstream", "ok"]:
            return Mending("upstream", options.at)
        case ["link", "ok", place]:
            return Mending("link", place)
        case ["upstream", mode]:
            _check("upstream", mode, (*dns_fault.MODES, MENDED))
            return UpstreamFault(mode, options.at, options.delay_s, options.share)  # type: ignore[arg-type]
        case ["link", mode, place]:
            _check("link", mode, (*LINK_MODES, MENDED))
            return LinkFault(mode, place, options.share)  # type: ignore[arg-type]
        case [action, agent] if action in AGENT_ACTIONS:
            _check(action, agent, AGENTS)
            return AgentFault(action, agent, options.node)  # type: ignore[arg-type]
        case [kind, *_] if kind in _KINDS:
            raise InputError(f"'{' '.join(words)}' has too few words, or too many", hint=_usage(kind))
        case _:
            hint = nearest(words[0], _KINDS) if words else ""
            raise InputError(f"no fault is called '{' '.join(words)}'", hint=hint or f"usage: {USAGE}")


def read(text: str) -> Fault | Mending:
    """The fault of one line, options and all, as on the command line. Raises InputError."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--node", default="")
    parser.add_argument("--at", default="")
    parser.add_argument("--delay", type=float, default=Options().delay_s)
    parser.add_argument("--share", type=float, default=Options().share)
    try:
        given, unknown = parser.parse_known_intermixed_args(shlex.split(text))
    except (argparse.ArgumentError, ValueError) as error:
        raise InputError(f"'{text}' is not a fault: {error}", hint=f"usage: {USAGE}") from error
    if unknown:
        raise InputError(f"no fault takes '{' '.join(unknown)}'", hint="--node, --at, --delay, --share")
    return parse(given.words, Options(given.node, given.at, given.delay, given.share))


def _usage(kind: str) -> str:
    """The line of this kind of fault."""
    lines = [line.strip() for line in USAGE.splitlines()]
    return next(line for line in lines if kind in line.split()[2].split("|"))


def _check(what: str, word: str, allowed: Sequence[str]) -> None:
    if word not in allowed:
        raise InputError(f"{what} cannot be '{word}'", hint=did_you_mean(word, allowed))
