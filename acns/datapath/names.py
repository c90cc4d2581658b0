"""Names, ids and texts that go into nft: short, stable, and unable to break out of nft's quotes.

nft's quoted strings know no escapes, so what a comment may hold is cut down to printable ASCII without quotes
and backslashes; whoever needs the full text finds it under the id. An id is a digest of what it names: the
same rule has the same id on every node and after every restart.
"""

from __future__ import annotations

import hashlib
import re

from acns.datapath import constants
from acns.errors import Bug

ID_DIGITS = 10

_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\Z")
_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")


def digest(*parts: str) -> str:
    """Ten hex digits of the parts; no two lists of parts run together."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:ID_DIGITS]


def quotable(text: str, limit_bytes: int) -> str:
    """The text as it may stand between nft's double quotes: other characters become `?`, a cut end `...`."""
    clean = _UNQUOTABLE.sub("?", text)
    return clean if len(clean) <= limit_bytes else clean[: limit_bytes - 3] + "..."


def comment(rule_id: str, note: str) -> str:
    """A rule's comment: the id, then as much of the note as fits in."""
    return quotable(f"{rule_id} {note}".rstrip(), constants.COMMENT_BYTES - 1)


def interface(name: str) -> str:
    """An interface's name, quoted; odd ones (nft's wildcard `*`, quotes) are refused."""
    if not _INTERFACE.match(name):
        raise Bug(f"interface name {name!r} cannot be used in a rule")
    return f'"{name}"'
