"""Explanations as people read them, indented lines from the verdict down to its reasons, and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from acns.dns import name as names
from acns.policy.connections import Part
from acns.policy.explain import Explanation
from acns.policy.learnings import Learning
from acns.policy.lookups import Answer, Lookup
from acns.policy.reasons import Said, Side
from acns.policy.routes import Outcome
from lab.policy_tools.seen import Answered, QuerySeen, RuleSeen, Seen
from lab.report.tables import FORMAT_VERSION, console_for

_STYLES = {
    Outcome.ALLOWED: "bold green",
    Outcome.DENIED: "bold red",
    Outcome.REDIRECTED: "bold cyan",
    Outcome.PARTLY: "bold yellow",
}
_ANSWERS = {
    Answer.ASKED: ("let through: the resolver asks the server and learns from its answer", Outcome.ALLOWED),
    Answer.REFUSED: ("REFUSED by the resolver", Outcome.DENIED),
    Answer.UNPROXIED: ("not looked at: this server's DNS is not proxied for the pod", Outcome.ALLOWED),
    Answer.BLOCKED: ("no answer: the query is dropped, nobody takes it to the resolver", Outcome.DENIED),
}
_SHOWN_NAMES = 8


def print_explanation(
    found: Answered, what: str, *, is_live: bool, now_s: float, out: TextIO | None = None
) -> None:
    """`what` it is about (a topology, a lab); `is_live`: whether the kernel was asked too."""
    console, model = console_for(out), found.model
    head = Text.assemble(
        f"{model.source} → {model.destination}: ",
        (_outcome_text(model), _STYLES[model.outcome]),
        f"   ({what})",
    )
    console.print(head, soft_wrap=True)
    if model.lookup:
        _print_lookup(console, model.lookup, now_s, model.supposed)
    if found.query:
        _print_query(console, found.query)
    for number, part in enumerate(model.parts):
        _print_part(console, part, now_s, model.supposed)
        if is_live and number < len(found.seen):
            _print_seen(console, found.seen[number])
    for note in model.notes:
        _line(console, 1, "note: ", note)
    if is_live and not found.agrees:
        text = "the model and the kernel differ: one of them is wrong, please report it"
        console.print(Text(text, style="bold red"), soft_wrap=True)


def explanation_json(found: Answered, what: str, *, is_live: bool) -> str:
    """One JSON object with `version`; `seen` and `agrees` where the kernel was asked."""
    model = found.model
    value: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "about": what,
        "source": model.source,
        "destination": model.destination,
        "outcome": model.outcome,
        "supposed": model.supposed,
        "parts": [_part_value(part) for part in model.parts],
        "lookup": _lookup_value(model.lookup) if model.lookup else None,
        "notes": list(model.notes),
    }
    if is_live:
        value |= {
            "agrees": found.agrees,
            "seen": [asdict(one) for one in found.seen],
            "query": asdict(found.query) if found.query else None,
        }
    return json.dumps(value, indent=2, default=str)


# --- names ------------------------------------------------------------------------------------------------


def _print_lookup(console: Console, found: Lookup, now_s: float, supposed: bool) -> None:
    text, outcome = _ANSWERS[found.answer]
    _line(console, 1, f"name {found.name}, asked of {found.server}: ", text, _STYLES[outcome])
    for said in found.redirects:
        _line(console, 2, "redirected by ", str(said.origin))
    if found.allow:
        _line(console, 2, "allowed by ", f"{found.allow.origin}: {found.allow.text}")
    elif found.names:
        for origin, listed in _by_origin(found.names):
            more = f" and {len(listed) - _SHOWN_NAMES} more" if len(listed) > _SHOWN_NAMES else ""
            _line(console, 2, "allowed there: ", f"{', '.join(listed[:_SHOWN_NAMES])}{more} ({origin})")
    for part in found.parts:
        _print_part(console, part, now_s, supposed)
    for said in found.opens:
        _line(console, 2, "its addresses open ", f"{said.text} ({said.origin})")
    if not found.opens and found.answer is Answer.ASKED:
        _line(console, 2, "", "no toFQDNs of the pod matches it: its addresses are opened for nothing")
    for hint in found.hints:
        _line(console, 2, "hint: ", hint)


def _outcome_text(model: Explanation) -> str:
    """A name's addresses open when it is looked up; queries may be open to some names only."""
    waits = (
        model.supposed
        and model.outcome is Outcome.DENIED
        and model.lookup is not None
        and model.lookup.answer is Answer.ASKED
        and any(part.outcome is Outcome.ALLOWED for part in model.parts)
    )
    if waits:
        return f"{model.outcome.upper()} until it has been looked up"
    if model.outcome is Outcome.ALLOWED and model.redirected:
        return f"{model.outcome.upper()}, {', '.join(model.redirected)} through the resolver"
    return model.outcome.upper()


def _by_origin(said: Iterable[Said]) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for one in said:
        found.setdefault(str(one.origin), []).append(one.text)
    yield from found.items()


def _print_query(console: Console, seen: QuerySeen) -> None:
    _line(
        console,
        2,
        "a real query got ",
        f"{seen.answer} {_agreement(seen.agrees)}",
        _agreement_style(seen.agrees),
    )


# --- connections ------------------------------------------------------------------------------------------


def _print_part(console: Console, part: Part, now_s: float, supposed: bool) -> None:
    through = f", by {part.through}" if part.through else ""
    if supposed:
        through += ", where it has been looked up"
    _line(console, 1, f"{part.traffic} to {part.to}{through}: ", part.outcome.upper(), _STYLES[part.outcome])
    for said in part.redirects:
        _line(console, 2, "to the resolver, which lets pass: ", f"{said.text} ({said.origin})")
    for side in part.sides:
        _print_side(console, side, now_s, supposed)


def _print_side(console: Console, side: Side, now_s: float, supposed: bool) -> None:
    style = "green" if side.allowed else "red"
    at = f" on {side.node}" if side.node else ""
    _line(console, 2, f"{side.direction} of {side.endpoint}{at}: ", side.summary, style)
    for number, said in enumerate(side.rules):
        _line(console, 3, "" if number == 0 else "also ", f"{said.origin}: {said.text}")
        if not supposed:
            for one in said.learned:
                _line(console, 4, "", _learned_text(one, now_s))
    for text in side.missing:
        _line(console, 3, "nearest: " if not side.rules else "", text)


def _learned_text(one: Learning, now_s: float) -> str:
    if one.of_kernel:
        return f"{one.address} is in the kernel's set; the shim cannot be asked whether it is to be there"
    if one.name is None or one.learned_at is None:
        return f"{one.address} was learned before the shim was started"
    name = names.to_text(one.name).removesuffix(".")
    left_s = one.expires_at - now_s
    until = (
        f"its TTL ends in {left_s:.0f} s"
        if left_s > 0
        else f"its TTL is over since {-left_s:.0f} s, and is kept"
    )
    at = time.strftime("%H:%M:%S", time.localtime(one.learned_at))
    return f"{one.address}: answer to {one.asked_by or 'a pod'} asking for {name} at {at}; {until}"


# --- the kernel -------------------------------------------------------------------------------------------


def _print_seen(console: Console, seen: Seen) -> None:
    if not seen.tried:
        _line(console, 2, "kernel: ", "not tried: there is no packet that would tell")
        return
    outcome = seen.outcome.upper() if seen.outcome else "LOST: neither dropped by a rule nor seen to arrive"
    answer = f", {seen.answer}" if seen.answer else ""
    by_others = seen.outcome is Outcome.DENIED and seen.agrees and any(one.of_services for one in seen.rules)
    agreement = "(not by policy)" if by_others else _agreement(seen.agrees)
    if seen.agrees and not seen.compared:
        agreement = "(the model has it from this kernel: not compared)"
    text = f"{outcome}{answer} {agreement}"
    _line(console, 2, "kernel: ", text, _agreement_style(seen.agrees))
    for rule in seen.rules:
        _line(console, 3, f"{rule.node} {rule.id}: ", _rule_text(rule))


def _rule_text(rule: RuleSeen) -> str:
    origins = f" ({'; '.join(rule.origins)})" if rule.origins else ""
    counted = f", {rule.packets} packets so far" if rule.packets is not None else ""
    wrong = ": no policy of either end has this rule" if rule.is_nobodys else ""
    return f"{rule.text}{origins}{counted}{wrong}"


def _agreement(agrees: bool) -> str:
    return "(as the model says)" if agrees else "(the model says otherwise)"


def _agreement_style(agrees: bool) -> str:
    return "" if agrees else "bold red"


def _line(console: Console, depth: int, lead: str, text: str, style: str = "") -> None:
    console.print(
        Text.assemble("  " * depth, (lead, "dim" if not style else ""), (text, style)), soft_wrap=True
    )


# --- JSON -------------------------------------------------------------------------------------------------


def _part_value(part: Part) -> Mapping[str, Any]:
    return {
        "to": part.to,
        "address": str(part.route.reached),
        "asked": str(part.route.asked),
        "through": part.through,
        "traffic": part.traffic,
        "outcome": part.outcome,
        "redirects": [_said_value(one) for one in part.redirects],
        "sides": [
            {
                "direction": side.direction,
                "endpoint": side.endpoint,
                "node": side.node,
                "decision": side.decision,
                "allowed": side.allowed,
                "summary": side.summary,
                "rules": [_said_value(one) for one in side.rules],
                "missing": list(side.missing),
            }
            for side in part.sides
        ],
    }


def _lookup_value(found: Lookup) -> Mapping[str, Any]:
    return {
        "name": found.name,
        "server": str(found.server),
        "answer": found.answer,
        "redirects": [_said_value(one) for one in found.redirects],
        "allow": _said_value(found.allow) if found.allow else None,
        "names": [_said_value(one) for one in found.names],
        "parts": [_part_value(part) for part in found.parts],
        "opens": [_said_value(one) for one in found.opens],
        "hints": list(found.hints),
    }


def _said_value(said: Said) -> Mapping[str, Any]:
    learned = [
        {
            "name": names.to_text(one.name) if one.name is not None else None,
            "address": str(one.address),
            "learned_at_s": one.learned_at,
            "expires_at_s": one.expires_at,
            "asked_by": one.asked_by,
            "of_kernel": one.of_kernel,
        }
        for one in said.learned
    ]
    return {"origin": asdict(said.origin), "text": said.text, "learned": learned}
