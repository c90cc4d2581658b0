"""The statements under `expect:`: what a pod can resolve and reach, in the field's words.

    frontend resolves api.example.com            getaddrinfo gives an IPv4 address
    frontend refused  evil.example.com           its DNS server answers REFUSED
    frontend empty    api.example.com AAAA       NOERROR without an address of that type
    frontend connects api.example.com:443        HTTP(S) on 80/443 answers for that name; elsewhere TCP connects
    frontend blocked  api.example.com:8443       a name that resolves, or an address; and no connection

A pod is named `name`, or `namespace/name` where the name alone would be ambiguous; an IPv6 address stands in
brackets. Stdlib only: the probe that runs inside a pod reads this module too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verb = Literal["resolves", "refused", "empty", "connects", "blocked"]
Scheme = Literal["http", "https", "tcp"]
RecordType = Literal["A", "AAAA"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One statement. `port` and `scheme` belong to connects/blocked, `record_type` to empty (and refused: A)."""

    pod: str
    verb: Verb
    name: str
    port: int | None = None
    scheme: Scheme | None = None
    record_type: RecordType | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the truth table: what was expected, what happened, whether they agree.

    `name` is the name or address asked for, `port` is None where the statement has none; `actual` is words for
    people (`connects`, `REFUSED`, `timed out after 2.0 s`), `detail` says more (the addresses, the error).
    """

    pod: str
    name: str
    port: int | None
    expected: str
    actual: str
    ok: bool
    detail: str = ""
    elapsed_ms: float = 0.0


def parse(statement: str) -> Expectation:
    """A statement as a value. Raises ValueError with a message that says what is wrong and what would be right."""
    raise NotImplementedError
