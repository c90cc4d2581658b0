"""What the Internet's DNS answers: from records to an answer, without sockets.

Names are looked up without regard to case. A CNAME is followed and its chain given in order, also before
an NXDOMAIN (RFC 6604); one that loops ends after 16 steps. A name that exists without the type asked for,
or above one that exists, is NODATA; any other is NXDOMAIN. `*.example.com` answers for names below
`example.com` that nothing else covers (RFC 4592). Rotation counts its turns in a table of the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from lab.spec.rdata import NUMBERS

A, CNAME, AAAA, ANY = 1, 5, 28, 255
NOERROR, NXDOMAIN = 0, 3
RCODES = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}
NEGATIVE_TTL_S = 30
MAX_CHAIN = 16


@dataclass(frozen=True, slots=True)
class Name:
    """The records of one name; as `lab.spec.topology.InternetName`, without the price of its import."""

    a: tuple[IPv4Address, ...] = ()
    aaaa: tuple[IPv6Address, ...] = ()
    cname: str | None = None
    ttl_s: int = 60
    rotate: bool = False
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    delay_s: float = 0.0
    rcode: int | None = None
    truncate: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Name:
        """Raises ValueError for what is no address or no number, TypeError for what is no mapping."""
        return cls(
            tuple(IPv4Address(text) for text in value.get("a", ())),
            tuple(IPv6Address(text) for text in value.get("aaaa", ())),
            value.get("cname"),
            int(value.get("ttl_s", 60)),
            bool(value.get("rotate", False)),
            {kind: tuple(texts) for kind, texts in value.get("records", {}).items()},
            int(value.get("delay_ms", 0)) / 1000,
            RCODES[value["rcode"]] if value.get("rcode") else None,
            bool(value.get("truncate", False)),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an answer; its owner is the question's name, or the CNAME before it."""

    type: str
    data: str
    """As a zone file has it."""
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`soa_owner` is empty unless the answer is negative; `delay_s` and `truncate` are the asked name's."""

    rcode: int
    records: tuple[Record, ...]
    soa_owner: str = ""
    delay_s: float = 0.0
    truncate: bool = False


class Zone:
    """All names of the Internet."""

    def __init__(self, names: Mapping[str, Name]) -> None:
        self._names = {name.lower().rstrip("."): records for name, records in names.items()}
        self._inner = {"", *(parent for name in self._names for parent in _ancestors(name))}

    @classmethod
    def from_json(cls, text: str) -> Zone:
        """The zone of a records file; a wrong one raises Value-, Key-, Type- or AttributeError."""
        return cls({name: Name.from_json(value) for name, value in json.loads(text)["names"].items()})

    def lookup(self, name: str, qtype: int, turns: MutableMapping[str, int]) -> Answer:
        """The answer to a question; `turns` counts the answers of names that rotate."""
        owner = name.lower().rstrip(".")
        asked = self._find(owner)
        if asked is None:
            return self._records(owner, qtype, turns)
        bare = asked.rcode is not None
        answer = Answer(asked.rcode or NOERROR, ()) if bare else self._records(owner, qtype, turns)
        return replace(answer, delay_s=asked.delay_s, truncate=asked.truncate)

    def _records(self, owner: str, qtype: int, turns: MutableMapping[str, int]) -> Answer:
        chain: list[Record] = []
        for _ in range(MAX_CHAIN):
            records = self._find(owner)
            if records is None:
                return self._negative(owner, chain)
            if records.cname is None or qtype == CNAME:
                break
            chain.append(Record("CNAME", records.cname, records.ttl_s))
            owner = records.cname.lower().rstrip(".")
        else:
            return Answer(NOERROR, tuple(chain))
        found = _of_type(owner, records, qtype, turns)
        return Answer(NOERROR, (*chain, *found), "" if found else _apex(owner))

    def _find(self, owner: str) -> Name | None:
        """The records of a name: its own, else those of the wildcard below its closest existing ancestor."""
        if owner in self._names or owner in self._inner:
            return self._names.get(owner)
        for parent in _ancestors(owner):
            if wildcard := self._names.get(f"*.{parent}"):
                return wildcard
            if parent in self._names or parent in self._inner:
                return None
        return None

    def _negative(self, owner: str, chain: list[Record]) -> Answer:
        rcode = NOERROR if owner in self._inner else NXDOMAIN
        return Answer(rcode, tuple(chain), _apex(owner))


def _of_type(owner: str, records: Name, qtype: int, turns: MutableMapping[str, int]) -> list[Record]:
    found: list[Record] = []
    if qtype == CNAME and records.cname:
        found.append(Record("CNAME", records.cname, records.ttl_s))
    if qtype in (A, ANY) and records.a:
        addresses = records.a
        if records.rotate:
            turn = turns.get(owner, 0)
            turns[owner] = turn + 1
            addresses = (records.a[turn % len(records.a)],)
        found.extend(Record("A", str(address), records.ttl_s) for address in addresses)
    if qtype in (AAAA, ANY):
        found.extend(Record("AAAA", str(address), records.ttl_s) for address in records.aaaa)
    for kind, texts in records.records.items():
        if qtype in (NUMBERS[kind], ANY):
            found.extend(Record(kind, text, records.ttl_s) for text in texts)
    return found


def _ancestors(name: str) -> list[str]:
    """`b.c`, `c` for `a.b.c`: nearest first."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


def _apex(name: str) -> str:
    """The zone a name would be served from: its last two labels."""
    return ".".join(name.split(".")[-2:]) + "."
