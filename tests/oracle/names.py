"""matchName and matchPattern by Python's `re`, over names as tuples of labels (bytes).

Cilium (pkg/fqdn/matchpattern) turns a pattern into a regular expression over the printed name. Here
every label is followed by a character that is no octet, so that a dot inside a label is not the dot
between two, which a printed name cannot tell apart.
"""

from __future__ import annotations

import re
from functools import lru_cache

LETTERS = "[-a-zA-Z0-9_]"
END = "\u0100"
Name = tuple[bytes, ...]

# What the API server takes (the CRD's patterns), at most 255 characters of it.
NAME_TEXT = re.compile(r"([-a-zA-Z0-9_]+[.]?)+", re.ASCII)
PATTERN_TEXT = re.compile(r"([-a-zA-Z0-9_*]+[.]?)+", re.ASCII)


@lru_cache(maxsize=4096)
def expression(text: str) -> re.Pattern[str] | None:
    """None: every name matches, the root too."""
    text = text.lower()
    if re.fullmatch(r"\*+\.?", text):
        return None
    body = text if text.endswith(".") else text + "."
    built = ""
    if leading := re.match(r"\*\*+\.", body):
        built, body = f"(?:{LETTERS}+{END})+", body[leading.end() :]
    for piece in re.findall(r"\*+|\.|[^*.]+", body):
        built += {"*": f"{LETTERS}*", ".": END}.get(piece[0], re.escape(piece))
    return re.compile(built, re.DOTALL)


def pattern_matches(text: str, name: Name) -> bool:
    compiled = expression(text)
    return (
        compiled is None or compiled.fullmatch("".join(_lowered(label) + END for label in name)) is not None
    )


def name_matches(text: str, name: Name) -> bool:
    return text.lower().removesuffix(".").split(".") == [_lowered(label) for label in name]


def _lowered(label: bytes) -> str:
    """DNS folds the case of ASCII letters and of no others."""
    return label.lower().decode("latin-1")


def selects(selector: dict[str, str], name: Name) -> bool:
    """One entry of `toFQDNs` or `rules.dns`."""
    if "matchName" in selector:
        return name_matches(selector["matchName"], name)
    return pattern_matches(selector["matchPattern"], name)


def labels_of(text: str) -> Name:
    """An ordinary name, printed without odd bytes."""
    return tuple(label.encode() for label in text.removesuffix(".").split(".") if label)
