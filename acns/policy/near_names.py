"""What is missing where a pod may not look a name up: the rules that come nearest, and what to add to which.

The commonest mistakes with patterns come first, then the most similar name, then the rule whose names end
most like this one; and where a rule waits for the name by `toFQDNs`, that. Where no rule is for the server at
all, the question is rather which server was meant. Nothing is to be added for names that no policy can spell.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from acns.dns import name as names
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.policy.model import DNSAllow, Origin
from acns.policy.reasons import Said
from acns.policy.wording import selector_text, servers_text

_SIMILAR = 0.8
_ALPHABET = frozenset(b"-abcdefghijklmnopqrstuvwxyz0123456789_")


def refused(name: Name, text: str, serving: Sequence[DNSAllow], waiting: Iterable[Said]) -> Iterator[str]:
    """Rules for this server, none of which has the name, `text`. `waiting`: the toFQDNs that match it."""
    selectors = {selector: one.origin for one in serving for selector in one.names or ()}
    if unspelled := _unspelled(name, text):
        yield unspelled
    else:
        yield from _near(text, selectors)
    for said in waiting:
        yield f"{said.origin} waits for this name in vain ({said.text}): no rules.dns lets it be asked for"


def blocked(name: Name, text: str, server: str, rules: Sequence[DNSAllow]) -> Iterator[str]:
    """No rule is for this server; `rules`: those for others."""
    listing = [one for one in rules if one.redirects]
    unspelled = _unspelled(name, text)
    if not listing:
        entry = "its names" if unspelled else f"matchName {text}"
        yield (
            f"no rule with rules.dns is for the server {server}, nor for any other: add an egress rule with "
            f"toEndpoints or toCIDR for it, toPorts 53, and rules.dns with {entry}"
        )
    if unspelled:
        yield unspelled
    if not listing:
        return
    having = [one for one in listing if one.names is None or any(each.matches(name) for each in one.names)]
    for one in having or listing[:1]:
        what = "lets it ask for this name" if having else "has rules.dns (without this name)"
        yield f"{one.origin} {what}, but at {servers_text(one.servers)}; {server} is not among these"


def _unspelled(name: Name, text: str) -> str:
    """Why neither matchName nor matchPattern can say the name; empty where they can."""
    alone = "only a pattern that matches every name matches"
    if not name:
        return f"{alone} the root"
    odd = next((byte for label in name for byte in label.lower() if byte not in _ALPHABET), None)
    if odd is None:
        return ""
    shown = names.to_text((bytes([odd]),)).removesuffix(".")
    return f"{alone} {text}: '{shown}' is none of the letters, digits, '-' and '_' that others have"


def _near(text: str, selectors: Mapping[FQDNSelector, Origin]) -> Iterator[str]:
    near = list(_labels_apart(text, selectors)) or list(_similar(text, selectors))
    yield from near
    nearest = _nearest(text, selectors)
    if not near and nearest:
        origin, selector = nearest
        yield f"the nearest rule is {origin}, with {selector_text(selector)}; add matchName {text} there"


def _labels_apart(text: str, selectors: Mapping[FQDNSelector, Origin]) -> Iterator[str]:
    for selector, origin in selectors.items():
        pattern = _plain(selector)
        if pattern.startswith("*."):
            base = pattern.removeprefix("*.")
            if text == base:
                yield f"{origin}: {pattern} is exactly one label more than {base}; add matchName {base}"
            elif "*" not in base and text.endswith(f".{base}"):
                yield f"{origin}: {pattern} is exactly one label more than {base}, and {text} has more"


def _similar(text: str, selectors: Mapping[FQDNSelector, Origin]) -> Iterator[str]:
    texts = {_plain(selector): origin for selector, origin in selectors.items()}
    for close in difflib.get_close_matches(text, texts, n=1, cutoff=_SIMILAR):
        yield f"{texts[close]} has {close}: is that it?"


def _nearest(text: str, selectors: Mapping[FQDNSelector, Origin]) -> tuple[Origin, FQDNSelector] | None:
    """The one that shares the most labels at the end; of several, the first."""
    wanted = text.split(".")[::-1]

    def shared(selector: FQDNSelector) -> int:
        pairs = zip(wanted, _plain(selector).split(".")[::-1], strict=False)
        return next((count for count, (one, other) in enumerate(pairs) if one != other), len(wanted))

    found = max(selectors, key=shared, default=None)
    return None if found is None else (selectors[found], found)


def _plain(selector: FQDNSelector) -> str:
    return selector.text.removesuffix(".")
