"""The statements under `expect:`: what a pod can resolve and reach, in the field's words.

    frontend resolves api.example.com            getaddrinfo gives an IPv4 address
    frontend refused  evil.example.com           its DNS server answers REFUSED
    frontend empty    api.example.com AAAA       NOERROR without an address of that type
    frontend connects api.example.com:443        HTTP(S) on 80/443 answers for the name; else TCP connects
    frontend blocked  api.example.com:8443       a name that resolves, or an address; and no connection

A pod is named `name`, or `namespace/name` where the name alone would be ambiguous; an IPv6 address stands
in brackets. Stdlib only: the probe that runs inside a pod reads this module too.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, get_args

Verb = Literal["resolves", "refused", "empty", "connects", "blocked"]
Scheme = Literal["http", "https", "tcp"]
RecordType = Literal["A", "AAAA"]

SHAPES: dict[str, str] = {
    "resolves": "POD resolves NAME",
    "refused": "POD refused NAME",
    "empty": "POD empty NAME A|AAAA",
    "connects": "POD connects HOST:PORT",
    "blocked": "POD blocked HOST:PORT",
}
_POD = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?)?")
_NAME = re.compile(
    r"([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.?", re.I
)
_SCHEMES: dict[int, Scheme] = {80: "http", 443: "https"}


@dataclass(frozen=True, slots=True)
class Expectation:
    """One statement. `port` and `scheme` belong to connects/blocked, `record_type` to empty."""

    pod: str
    verb: Verb
    name: str
    port: int | None = None
    scheme: Scheme | None = None
    record_type: RecordType | None = None

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The address when the statement gives one in place of a name."""
        return _address(self.name)

    @property
    def words(self) -> str:
        """What is expected, as the truth table prints it."""
        if self.verb == "refused":
            return "REFUSED"
        return f"empty {self.record_type}" if self.verb == "empty" else self.verb

    def __str__(self) -> str:
        host = f"[{self.name}]" if ":" in self.name else self.name
        tail = f":{self.port}" if self.port else f" {self.record_type}" if self.record_type else ""
        return f"{self.pod} {self.verb} {host}{tail}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the truth table: what was expected, what happened, whether they agree.

    `name` is the name or address asked for, `port` is None where the statement has none; `actual` is words
    for people (`connects`, `REFUSED`, `blocked`), `detail` says more (the address, the error).
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
    """A statement as a value.

    Raises ValueError with a message that says what is wrong and what would be right.
    """
    words = statement.split()
    if len(words) < 2:
        raise ValueError(f"'{statement}' is not a statement; they read {_all_shapes()}")
    pod, verb, *rest = words
    if not _POD.fullmatch(pod):
        raise ValueError(f"'{pod}' is not a pod's name (`name` or `namespace/name`)")
    if verb not in get_args(Verb):
        raise ValueError(f"unknown verb '{verb}'{_closest(verb)}; statements read {_all_shapes()}")
    if verb == "empty":
        return _empty(pod, rest)
    if len(rest) != 1:
        raise ValueError(f"'{statement}' should read '{SHAPES[verb]}'")
    if verb in ("connects", "blocked"):
        return _connection(pod, "connects" if verb == "connects" else "blocked", rest[0])
    return Expectation(pod, "resolves" if verb == "resolves" else "refused", _name(rest[0]))


def _empty(pod: str, rest: list[str]) -> Expectation:
    if len(rest) != 2 or rest[1] not in get_args(RecordType):
        raise ValueError(f"'{pod} empty {' '.join(rest)}' should read '{SHAPES['empty']}'")
    return Expectation(pod, "empty", _name(rest[0]), record_type="A" if rest[1] == "A" else "AAAA")


def _connection(pod: str, verb: Literal["connects", "blocked"], target: str) -> Expectation:
    host, colon, port_text = target.rpartition(":")
    if not colon or not port_text.isdecimal():
        raise ValueError(f"'{target}' has no port; write '{target}:443'")
    port = int(port_text)
    if not 0 < port < 65_536:
        raise ValueError(f"{port} is not a port (1 to 65535)")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not isinstance(_address(host), IPv6Address):
            raise ValueError(f"'{host}' is not an IPv6 address")
    elif ":" in host:
        raise ValueError(f"write an IPv6 address in brackets: '[{host}]:{port}'")
    elif not _address(host):
        host = _name(host)
    return Expectation(pod, verb, host, port, _SCHEMES.get(port, "tcp"))


def _name(text: str) -> str:
    if _address(text):
        raise ValueError(f"'{text}' is an address; this verb takes a name")
    if ":" in text:
        raise ValueError(f"'{text}' has a port; only connects and blocked take one")
    if not _NAME.fullmatch(text) or len(text) > 254 or text.rstrip(".").rpartition(".")[2].isdecimal():
        raise ValueError(f"'{text}' is neither a DNS name nor an address")
    return text


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _closest(verb: str) -> str:
    close = difflib.get_close_matches(verb, get_args(Verb), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def _all_shapes() -> str:
    return ", ".join(f"'{shape}'" for shape in SHAPES.values())
