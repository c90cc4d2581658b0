"""The statements under `expect:`: what a pod can resolve and reach, in the field's words.

    frontend resolves api.example.com            getaddrinfo gives an IPv4 address
    frontend refused  evil.example.com           its DNS server answers REFUSED
    frontend connects api.example.com:443        HTTP(S) on 80/443 answers for the name; else TCP connects
    frontend blocked  api.example.com:8443       a name that resolves, or an address; and no connection
    legacy   bypasses resolver                   its queries are not redirected
    policy   wrong.yaml refused not supported    the shims refuse that file, and say so

`VERBS` has them all. Behind a name may stand how it is asked: `by musl` (a program with that C library),
`over tcp`, `at ADDRESS` (another server than the pod's). A pod is named `name`, or `namespace/name` where the
name alone would be ambiguous; an IPv6 address stands in brackets. Stdlib only: the probe that runs inside a
pod reads this module too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, get_args

Verb = Literal[
    "resolves",
    "fails",
    "refused",
    "nxdomain",
    "empty",
    "truncated",
    "unanswered",
    "connects",
    "blocked",
    "uses",
    "bypasses",
]
Scheme = Literal["http", "https", "tcp"]
RecordType = Literal["A", "AAAA"]
Modifier = Literal["by musl", "over tcp", "at ADDRESS"]

RESOLVER = "resolver"


@dataclass(frozen=True, slots=True)
class Meaning:
    """How statements with a verb read, what they say, and `words` for it in the truth table."""

    shape: str
    meaning: str
    words: str
    modifiers: tuple[Modifier, ...] = ()
    may_be_any_name: bool = False
    """A name that the lab does not have is no mistake: that is the point of it."""


_ASKED: tuple[Modifier, ...] = ("over tcp", "at ADDRESS")

VERBS: Mapping[str, Meaning] = {
    "resolves": Meaning(
        "POD resolves NAME",
        "getaddrinfo (glibc's) gives an IPv4 address; over tcp, at ADDRESS: that query gets one",
        "resolves",
        ("by musl", *_ASKED),
    ),
    "fails": Meaning(
        "POD fails NAME", "getaddrinfo gives an error in place of an address", "fails", ("by musl",), True
    ),
    "refused": Meaning("POD refused NAME", "the DNS server answers REFUSED", "REFUSED", _ASKED, True),
    "nxdomain": Meaning("POD nxdomain NAME", "the DNS server answers NXDOMAIN", "NXDOMAIN", _ASKED, True),
    "empty": Meaning(
        "POD empty NAME A|AAAA", "NOERROR without an address of that type", "empty", ("at ADDRESS",)
    ),
    "truncated": Meaning(
        "POD truncated NAME", "the answer over UDP, without EDNS, has TC set", "truncated", ("at ADDRESS",)
    ),
    "unanswered": Meaning(
        "POD unanswered NAME", "no answer comes: the query was dropped", "no answer", _ASKED, True
    ),
    "connects": Meaning(
        "POD connects HOST:PORT",
        "HTTP or HTTPS on 80 and 443 answers for this very host; on other ports TCP connects",
        "connects",
    ),
    "blocked": Meaning(
        "POD blocked HOST:PORT", "an address, or a name that resolves; and no connection", "blocked"
    ),
    "uses": Meaning("POD uses resolver", "its DNS queries are redirected (one is followed)", "uses resolver"),
    "bypasses": Meaning(
        "POD bypasses resolver", "its DNS queries go to the DNS server itself", "bypasses resolver"
    ),
}
POLICY_SHAPE = "policy FILE refused TEXT"
POLICY_MEANING = "every shim refuses that file, and its message has the text in it"

_POD = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?)?")
_NAME = re.compile(
    r"([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.?", re.I
)
_SCHEMES: dict[int, Scheme] = {80: "http", 443: "https"}
_POLICY_FILE = re.compile(r"[^/\s]+\.(yaml|yml|json)")


@dataclass(frozen=True, slots=True)
class Expectation:
    """One statement about a pod. `port` and `scheme` belong to connects/blocked, `record_type` to empty."""

    pod: str
    verb: Verb
    name: str
    port: int | None = None
    scheme: Scheme | None = None
    record_type: RecordType | None = None
    by_musl: bool = False
    over_tcp: bool = False
    server: IPv4Address | None = None

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The address when the statement gives one in place of a name."""
        return _address(self.name)

    @property
    def is_about_names(self) -> bool:
        """Whether a name is looked up for it."""
        return self.address is None and not self.is_traced

    @property
    def is_traced(self) -> bool:
        """Whether it is tried from outside the pod."""
        return self.verb in ("uses", "bypasses")

    @property
    def words(self) -> str:
        """What is expected, as the truth table prints it."""
        return f"empty {self.record_type}" if self.verb == "empty" else VERBS[self.verb].words

    @property
    def about(self) -> str:
        """Name and how it is asked for, as the truth table prints it."""
        return self.name + self._modifiers

    @property
    def _modifiers(self) -> str:
        parts = (" by musl" * self.by_musl, " over tcp" * self.over_tcp)
        return "".join(parts) + (f" at {self.server}" if self.server else "")

    def __str__(self) -> str:
        host = f"[{self.name}]" if ":" in self.name else self.name
        tail = f":{self.port}" if self.port else f" {self.record_type}" if self.record_type else ""
        return f"{self.pod} {self.verb} {host}{tail}{self._modifiers}"


@dataclass(frozen=True, slots=True)
class PolicyExpectation:
    """A statement about a policy file: it is refused, with this text in the message."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"policy {self.file} refused {self.text}"


Statement = Expectation | PolicyExpectation


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


def parse_any(statement: str) -> Statement:
    """A statement as a value, whatever it is about. Raises ValueError as `parse` does."""
    words = statement.split()
    if len(words) > 2 and words[0] == "policy" and _POLICY_FILE.fullmatch(words[1]):
        if words[2] != "refused" or len(words) < 4:
            raise ValueError(f"'{statement}' should read '{POLICY_SHAPE}'")
        return PolicyExpectation(words[1], " ".join(words[3:]))
    return parse(statement)


def parse(statement: str) -> Expectation:
    """A statement about a pod as a value.

    Raises ValueError with a message that says what is wrong and what would be right.
    """
    words = statement.split()
    if len(words) < 2:
        raise ValueError(f"'{statement}' is not a statement; they read {_all_shapes()}")
    pod, verb, *rest = words
    if not _POD.fullmatch(pod):
        raise ValueError(f"'{pod}' is not a pod's name (`name` or `namespace/name`)")
    known = _verb(verb)
    if known is None:
        raise ValueError(f"unknown verb '{verb}'{_closest(verb)}; statements read {_all_shapes()}")
    return _statement(pod, known, rest)


def _statement(pod: str, verb: Verb, words: list[str]) -> Expectation:
    rest, by_musl, over_tcp, server = _without_modifiers(verb, words)
    if verb == "empty":
        name, record_type = _empty(pod, rest)
        return Expectation(pod, verb, name, record_type=record_type, server=server)
    if len(rest) != 1:
        raise ValueError(f"'{' '.join([pod, verb, *words])}' should read '{_whole_shape(verb)}'")
    if verb == "connects" or verb == "blocked":
        return _connection(pod, verb, rest[0])
    if verb == "uses" or verb == "bypasses":
        if rest[0] != RESOLVER:
            raise ValueError(f"'{rest[0]}' should read '{RESOLVER}': '{VERBS[verb].shape}'")
        return Expectation(pod, verb, RESOLVER)
    return Expectation(pod, verb, _name(rest[0]), by_musl=by_musl, over_tcp=over_tcp, server=server)


def _without_modifiers(verb: Verb, words: list[str]) -> tuple[list[str], bool, bool, IPv4Address | None]:
    """What stands before `by`, `over` and `at`, and what these say."""
    allowed = {modifier.split()[0] for modifier in VERBS[verb].modifiers}
    start = next((i for i, word in enumerate(words) if i and word in allowed), len(words))
    rest, modifiers = words[:start], words[start:]
    said: dict[str, str] = {}
    while len(modifiers) >= 2 and modifiers[0] in allowed and modifiers[0] not in said:
        said[modifiers[0]] = modifiers[1]
        modifiers = modifiers[2:]
    wrong = modifiers or said.get("by", "musl") != "musl" or said.get("over", "tcp") != "tcp"
    server = _address(said["at"]) if "at" in said else None
    if wrong or ("at" in said and not isinstance(server, IPv4Address)) or ("by" in said and len(said) > 1):
        raise ValueError(f"'{' '.join(words[start:])}' does not say how: '{_whole_shape(verb)}'")
    return rest, "by" in said, "over" in said, server if isinstance(server, IPv4Address) else None


def _empty(pod: str, rest: list[str]) -> tuple[str, RecordType]:
    if len(rest) != 2 or rest[1] not in get_args(RecordType):
        raise ValueError(f"'{pod} empty {' '.join(rest)}' should read '{_whole_shape('empty')}'")
    return _name(rest[0]), "A" if rest[1] == "A" else "AAAA"


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


def _verb(word: str) -> Verb | None:
    return next((verb for verb in get_args(Verb) if verb == word), None)


def _whole_shape(verb: Verb) -> str:
    return VERBS[verb].shape + "".join(f" [{modifier}]" for modifier in VERBS[verb].modifiers)


def _closest(verb: str) -> str:
    close = difflib.get_close_matches(verb, get_args(Verb), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def _all_shapes() -> str:
    return ", ".join(f"'{shape}'" for shape in (*(one.shape for one in VERBS.values()), POLICY_SHAPE))
