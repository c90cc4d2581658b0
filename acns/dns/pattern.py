"""matchName and matchPattern: which names a policy speaks of.

The language is Cilium's (pkg/fqdn/matchpattern): `*` is zero or more of letters, digits, `-` and `_`, never a
dot, so `*.a.io` is exactly one label more than `a.io`. A leading `**.` is one or more whole labels; anywhere
else `**` is `*`. `*`, `**`, `*.` and `**.` alone match every name, the root too. Nothing else is special.

What this module keeps true:
* Names are matched as labels. One with a dot or another byte outside the alphabet inside a label matches
  only match-all.
* Selectors that mean the same have the same text where that is cheap to see: lower case, a trailing dot,
  runs of stars shortened. `key` names a selector for ever (kernel sets are named after it).
* Matching takes time linear in stars × name, whatever the pattern: pods choose the names, and the owner of
  one namespace must not be able to write a pattern that stalls the node. Hence the atomic groups.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from acns.dns.name import Name
from acns.errors import cut

Kind = Literal["name", "pattern"]

MAX_TEXT_CHARACTERS = 255
MATCH_ALL_TEXT = "*."

_ALPHABET = "[-a-z0-9_]"
_NAME_TEXT = re.compile(r"[-a-zA-Z0-9_.]+")
_PATTERN_TEXT = re.compile(r"[-a-zA-Z0-9_.*]+")
_MATCH_ALL = re.compile(r"\*+\.?")


class Frame(NamedTuple):
    """What all names that a pattern matches have in common; for look-ups of patterns by name."""

    end: Name
    """Their last labels: those behind the last one with a wildcard."""
    head: bytes
    """What they begin with: the text before the first wildcard."""
    tail: bytes
    """What stands before their last labels: the rest of the last label with a wildcard."""


@dataclass(frozen=True, slots=True, order=True)
class FQDNSelector:
    """One matchName or matchPattern. Make it with the functions below, which check and canonicalise."""

    kind: Kind
    text: str
    """Canonical: lower case with a trailing dot."""
    _regex: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)
    _name: Name | None = field(init=False, repr=False, compare=False)
    frame: Frame | None = field(init=False, repr=False, compare=False)
    """None where it matches just one name."""

    def __post_init__(self) -> None:
        literal = "*" not in self.text
        name = tuple(self.text.encode("ascii").split(b".")[:-1]) if literal else None
        regex = None if literal or self.is_match_all else re.compile(_regex_text(self.text))
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_regex", regex)
        object.__setattr__(self, "frame", None if literal else _frame(self.text))

    @property
    def key(self) -> str:
        """Unique among selectors and stable: `kind:text`."""
        return f"{self.kind}:{self.text}"

    @property
    def is_match_all(self) -> bool:
        """Whether it matches every name there can be."""
        return self.text == MATCH_ALL_TEXT

    @property
    def literal(self) -> Name | None:
        """The only name it matches, where there is just one; for look-ups by name."""
        return self._name

    def matches(self, name: Name) -> bool:
        """Whether the policy speaks of this name."""
        if self._regex is None:
            return name == self._name or self._name is None
        joined = b".".join(name) + b"."
        # More dots than labels: one of them stands inside a label, where no pattern has anything to match it.
        return self._regex.fullmatch(joined) is not None and joined.count(b".") == len(name)


def match_name(text: str) -> FQDNSelector:
    """`matchName: text`. Raises ValueError saying what to write instead."""
    if "*" in text:
        raise ValueError(f"matchName {cut(text)!r} holds a *: use matchPattern for wildcards")
    _check(text, _NAME_TEXT, "matchName", "letters, digits, '-', '_' and '.'")
    return FQDNSelector("name", _with_dot(text.lower()))


def match_pattern(text: str) -> FQDNSelector:
    """`matchPattern: text`. Raises ValueError saying what to write instead."""
    _check(text, _PATTERN_TEXT, "matchPattern", "letters, digits, '-', '_', '.' and the wildcard '*'")
    if _MATCH_ALL.fullmatch(text):
        return FQDNSelector("pattern", MATCH_ALL_TEXT)
    return FQDNSelector("pattern", _shortened(_with_dot(text.lower())))


def from_wire_pattern(text: str) -> FQDNSelector:
    """A `dns_pattern` of FQDNData, where names and patterns stand in one list: no `*`, then it is a name."""
    undotted = text.removesuffix(".")  # the dot that canonical texts have does not count towards the limit
    if undotted.endswith("."):
        raise ValueError(f"{cut(text)!r} ends in an empty label: remove the dot too many")
    return match_pattern(undotted) if "*" in text else match_name(undotted)


def _check(text: str, allowed: re.Pattern[str], what: str, alphabet: str) -> None:
    if not text:
        raise ValueError(f"{what} is empty: write a name such as www.example.com")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"{what} has {len(text)} characters: at most {MAX_TEXT_CHARACTERS} are allowed")
    if not allowed.fullmatch(text):
        odd = next(character for character in text if not allowed.fullmatch(character))
        raise ValueError(
            f"{what} {text!r} holds {odd!r}: only {alphabet} are allowed (international names in xn-- form)"
        )
    if "" in text.removesuffix(".").split("."):
        raise ValueError(f"{what} {text!r} has an empty label: remove the dot too many")


def _with_dot(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _shortened(text: str) -> str:
    """Runs of stars as short as they can be: `**` for a leading label of only stars, `*` elsewhere."""
    first, rest = text.split(".", 1)
    head = "**" if first.strip("*") == "" and len(first) > 1 else re.sub(r"\*+", "*", first)
    return head + "." + re.sub(r"\*+", "*", rest)


def _frame(text: str) -> Frame:
    labels = text.encode("ascii").split(b".")[:-1]
    end = max(place for place, label in enumerate(labels, start=1) if b"*" in label)
    wild = b".".join(labels[:end])
    return Frame(tuple(labels[end:]), wild[: wild.index(b"*")], wild[wild.rindex(b"*") + 1 :])


def _regex_text(text: str) -> bytes:
    labels = text.split(".")[:-1]
    prefix = ""
    if labels[0] == "**":
        prefix = rf"(?:{_ALPHABET}++\.)+"
        labels = labels[1:]
    return (prefix + "".join(_label_regex(label) + r"\." for label in labels)).encode("ascii")


def _label_regex(label: str) -> str:
    """The first place that a middle part fits is as good as any later one, so none is ever tried again."""
    first, *rest = label.split("*")
    if not rest:
        return re.escape(first)
    middle = "".join(f"(?>{_ALPHABET}*?{re.escape(part)})" for part in rest[:-1] if part)
    return f"{re.escape(first)}{middle}{_ALPHABET}*{re.escape(rest[-1])}"
