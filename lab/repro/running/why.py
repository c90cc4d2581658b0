"""The reasons of a step's outcome in one line: policy, rule at file:line, mapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.name import Name
from acns.policy.connections import Part
from acns.policy.learnings import Learning, Learnings
from acns.policy.lookups import Answer, Server, lookup
from acns.policy.overview import Local, Overview
from acns.policy.reasons import Said


def of_query(overview: Overview, source: Local, server: IPv4Address, name: Name, known: Learnings) -> str:
    """Why a query is forwarded, refused, dropped, or not looked at."""
    found = lookup(overview, source, name, Server(server), known)
    match found.answer:
        case Answer.REFUSED:
            by = ", ".join(dict.fromkeys(str(one.origin) for one in (*found.names, *found.redirects)))
            return f"refused: no name of {by} is {found.name}"
        case Answer.ASKED:
            assert found.allow is not None
            return f"allowed by {found.allow.origin}: {found.allow.text}"
        case Answer.UNPROXIED:
            return "not redirected: its names are not looked at"
    return "dropped: no rule lets it reach the server"


def of_connection(parts: Iterable[Part], known: Learnings, now: float) -> str:
    """Why a connection comes to something, or to nothing."""
    return "; ".join(dict.fromkeys(text for part in parts for text in _part(part, known, now)))


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
