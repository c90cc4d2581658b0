"""The reasons of a step's outcome in one line: policy, rule at file:line, mapping.

And what of them decides it, by names that stay where a scenario is made smaller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from acns.dns import name as names
from acns.dns.name import Name
from acns.policy.connections import Part
from acns.policy.learnings import Learning, Learnings
from acns.policy.lookups import Answer, Server, lookup
from acns.policy.model import Origin
from acns.policy.overview import Local, Overview
from acns.policy.reasons import Said

_PLACES: Final = re.compile(r"\[\d+\]| \([^()]*:\d+:\d+\)")
"""Of a rule: its number and its line, which others' going changes."""


class Why(NamedTuple):
    """`text` for people. `causes`: what decides."""

    text: str
    causes: tuple[str, ...] = ()


NOTHING: Final = Why("")


def of_query(overview: Overview, source: Local, server: IPv4Address, name: Name, known: Learnings) -> Why:
    """Why a query is forwarded, refused, dropped, or not looked at."""
    found = lookup(overview, source, name, Server(server), known)
    match found.answer:
        case Answer.REFUSED:
            by = ", ".join(dict.fromkeys(str(one.origin) for one in (*found.names, *found.redirects)))
            return Why(f"refused: no name of {by} is {found.name}", ("refused",))
        case Answer.ASKED:
            assert found.allow is not None
            text = f"allowed by {found.allow.origin}: {found.allow.text}"
            return Why(text, (_plain_rule(text),))
        case Answer.UNPROXIED:
            return Why("not redirected: its names are not looked at", ("not redirected",))
    return Why("dropped: no rule lets it reach the server", ("dropped",))


def of_connection(parts: Sequence[Part], known: Learnings, now: float) -> Why:
    """Why a connection comes to something, or to nothing."""
    text = "; ".join(dict.fromkeys(text for part in parts for text in _part(part, known, now)))
    return Why(text, tuple(dict.fromkeys(cause for part in parts for cause in _causes(part, known))))


def of_grant(origin: Origin) -> Why:
    """Why a connection lives on whose name is forgotten."""
    text = f"the connection is older; {origin} still lets it be"
    return Why(text, (_plain_rule(text),))


def _causes(part: Part, known: Learnings) -> Iterator[str]:
    """The rule that decides, or what the nearest one lacks; whose answer opened the address."""
    deciding = next((side for side in part.sides if not side.allowed), None)
    if deciding is not None:
        yield f"{deciding.direction}: {deciding.decision}"
        said = [f"{one.origin}: {one.text}" for one in deciding.rules[:1]] or deciding.missing[:1]
        yield from map(_plain_rule, said)
        yield from (f"{_plain(one)} has it" for one in known.at(part.route.reached)[:1])
        return
    for side in part.sides:
        for said_of in side.rules[:1]:
            learned = "".join(f", {_plain(one)}" for one in said_of.learned[:1])
            yield _plain_rule(f"{said_of.origin}: {said_of.text}{learned}")
        if not side.rules:
            yield side.summary


def _plain_rule(text: str) -> str:
    return _PLACES.sub("", text)


def _part(part: Part, known: Learnings, now: float) -> Iterator[str]:
    deciding = next((side for side in part.sides if not side.allowed), None)
    if deciding is not None:
        rules = "".join(f", {one.origin}: {one.text}" for one in deciding.rules[:1])
        yield f"{deciding.direction} of {deciding.endpoint}: {deciding.summary}{rules}"
        yield from deciding.missing[:1]
        if others := known.at(part.route.reached):
            yield f"{_plain(others[0])} has it, {_mapping(others[0], now)}"
        return
    for side in part.sides:
        yield from (_said(said, now) for said in side.rules[:1])
        if not side.rules:
            yield side.summary


def _said(said: Said, now: float) -> str:
    mapping = f", {_plain(said.learned[0])} {_mapping(said.learned[0], now)}" if said.learned else ""
    return f"allowed by {said.origin}: {said.text}{mapping}"


def _mapping(one: Learning, now: float) -> str:
    since = "" if one.learned_at is None else f"learned {(now - one.learned_at) * 1000:.0f} ms before"
    left_s = one.expires_at - now
    return f"{since}, TTL {'has' if left_s >= 0 else 'was over by'} {abs(left_s):.0f} s" + (
        " left" if left_s >= 0 else ""
    )


def _plain(one: Learning) -> str:
    return names.to_text(one.name).removesuffix(".") if one.name is not None else str(one.address)
