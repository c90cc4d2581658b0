"""Why a packet's fate is what it is, at one of its ends: which rule, selector, learned address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from acns.policy import verdict
from acns.policy.learnings import Learning
from acns.policy.misses import Question, missing, restricted_by
from acns.policy.model import FQDN, Direction, Match, Origin
from acns.policy.overview import Overview
from acns.policy.verdict import Decision, Verdict
from acns.policy.wording import peer_text, traffic_text


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule says that matters here; for a name, what was `learned` for it."""

    origin: Origin
    text: str
    learned: tuple[Learning, ...] = ()


@dataclass(frozen=True, slots=True)
class Side:
    """One end's verdict. `rules`: those that decided, then those that would have said the same. `missing`:
    what a rule would have to say that there is not, or for a deny what it overrules."""

    direction: Direction
    endpoint: str
    node: str
    decision: Decision
    summary: str
    rules: tuple[Said, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return Verdict(self.decision).allowed


def reasons(question: Question, decided: Verdict, overview: Overview) -> Side:
    """The verdict in words."""
    end, direction = question.end, question.direction
    summary, rules, absent = _SAY[decided.decision](question, decided, overview)
    return Side(direction, end.key, end.node.node, decided.decision, summary, rules, absent)


_Words = tuple[str, tuple[Said, ...], tuple[str, ...]]


def _unenforced(question: Question, _: Verdict, overview: Overview) -> _Words:
    return f"no policy restricts its {question.direction}", (), ()


def _itself(_: Question, __: Verdict, ___: Overview) -> _Words:
    return "a pod always reaches itself", (), ()


def _own_node(_: Question, __: Verdict, ___: Overview) -> _Words:
    return "a node reaches its own pods, unless a rule denies it", (), ()


def _allowed(question: Question, decided: Verdict, overview: Overview) -> _Words:
    if not overview.denies_by_default(question.end.resident, question.direction):
        return "nothing is denied by default: no policy that selects it says so", (), ()
    return "allowed", _said(question, question.candidates, decided), ()


def _denied(question: Question, decided: Verdict, overview: Overview) -> _Words:
    rules = _said(question, question.end.side(question.direction).denies, decided)
    overruled = {one.origin for one in _matching(question, question.candidates)}
    absent = tuple(
        f"a deny beats every allow: {origin} would have let it through" for origin in sorted(overruled)
    )
    return "denied by a rule", rules, absent


def _unmatched(question: Question, _: Verdict, overview: Overview) -> _Words:
    end = question.end
    if len(claimants := overview.claimants(end.resident)) > 1:
        pods = " and ".join(each.key for each in claimants)
        effect = f"all traffic of this address is denied on node {end.node.node}"
        hint = "a finished pod should be in phase Succeeded or Failed"
        return f"pods {pods} have the same address {end.address}: {effect} ({hint})", (), ()
    which = "to" if question.direction is Direction.EGRESS else "from"
    wanted = question.traffic.replace("all ", "any ")
    text = f"{restricted_by(question, overview)} allows {wanted} {which} {question.called}"
    return text, (), missing(question, overview)


_SAY = {
    Decision.UNENFORCED: _unenforced,
    Decision.ITSELF: _itself,
    Decision.OWN_NODE: _own_node,
    Decision.ALLOWED: _allowed,
    Decision.DENIED: _denied,
    Decision.UNMATCHED: _unmatched,
}


def _said(question: Question, candidates: Iterable[Match], decided: Verdict) -> tuple[Said, ...]:
    found = _matching(question, candidates)
    found.sort(key=lambda match: match != decided.match)
    return tuple(dict.fromkeys(_say(question, match) for match in found))


def _say(question: Question, match: Match) -> Said:
    learned: tuple[Learning, ...] = ()
    if isinstance(match.peer, FQDN):
        at = question.learned.at(question.peer)
        learned = tuple(one for one in at if match.peer.selector in one.selectors)
    return Said(match.origin, f"{peer_text(match.peer)}, {traffic_text(match.traffic)}", learned)


def _matching(question: Question, candidates: Iterable[Match]) -> list[Match]:
    return list(
        verdict.matching(candidates, question.end.node, question.peer, question.packet, question.learned.open)
    )
