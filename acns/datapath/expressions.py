"""Rules as the kernel takes them: the part of nft's language that rules of policy are written in, encoded.

libnftables reads all sets, chains and counters of the namespace before each transaction, which takes longer
than the transaction. For the texts that changes of policy consist of, this is as good: what comes out is,
byte for byte, what nft makes of the same text (a test compares). What is not familiar is left to libnftables.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from acns.datapath.netlink import attribute, nested, text

_EXPRESSION = 1
_NAME, _DATA = 1, 2
_VALUE, _VERDICT = 1, 2

# linux/netfilter/nf_tables.h
_EQUAL, _NOT_EQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5
_MARK, _NFPROTO, _L4PROTO = 3, 15, 16
_CT_STATE, _CT_DIRECTION, _CT_MARK = 0, 1, 3
_NETWORK, _TRANSPORT = 1, 2
_ADDRESS_TYPE = 3
_REGISTERS = (1, 9, 10)  # the parts of a concatenation, each in 32 bits of the first register's own

_VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}
_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_DIRECTIONS = {"original": 0, "reply": 1}
_ADDRESS_TYPES = {"unicast": 1, "local": 2}
_TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "ack": 16}
_OFFSETS = {"saddr": 12, "daddr": 16, "sport": 0, "dport": 2}
_ADMIN_PROHIBITED = 13


class Unfamiliar(Exception):
    """Not among the texts that this module knows."""


UNFAMILIAR = (Unfamiliar, KeyError, ValueError, OverflowError)
"""The same for a word that is none of those it knows in that place, or an impossible number."""


@dataclass(slots=True)
class Rule:
    """A rule in the making."""

    new_set: Callable[[list[int]], tuple[str, int]]
    expressions: list[bytes] = field(default_factory=list)
    is_ipv4: bool = False

    def add(self, name: str, data: bytes) -> None:
        body = text(_NAME, name) + nested(_DATA, data)
        self.expressions.append(nested(_EXPRESSION, body))

    def needs_ipv4(self) -> None:
        """As nft does: whatever is of IPv4 only, once in a rule, stands behind a match of it."""
        if not self.is_ipv4:
            self.is_ipv4 = True
            self.meta(_NFPROTO)
            self.compare(_EQUAL, b"\2")

    def meta(self, key: int, register: int = 1) -> None:
        self.add("meta", _number(2, key) + _number(1, register))

    def payload(self, base: int, offset: int, length: int, register: int = 1) -> None:
        self.add("payload", _number(1, register) + _number(2, base) + _number(3, offset) + _number(4, length))

    def connection(self, key: int) -> None:
        self.add("ct", _number(1, 1) + _number(2, key))

    def mask(self, mask: bytes, xor: bytes) -> None:
        data = _number(1, 1) + _number(2, 1) + _number(3, len(mask)) + _number(6, 0)
        self.add("bitwise", data + nested(4, attribute(_VALUE, mask)) + nested(5, attribute(_VALUE, xor)))

    def compare(self, operator: int, value: bytes) -> None:
        self.add("cmp", _number(1, 1) + _number(2, operator) + nested(3, attribute(_VALUE, value)))

    def look_up(self, set_name: str, *, inverted: bool = False, set_id: int = 0) -> None:
        identity = _number(4, set_id) if set_id else b""
        self.add("lookup", text(1, set_name) + _number(2, 1) + identity + _number(5, int(inverted)))

    def end(self, verdict: str, chain: str = "") -> None:
        target = text(2, chain) if chain else b""
        packed = nested(_VERDICT, attribute(1, struct.pack(">i", _VERDICTS[verdict])) + target)
        self.add("immediate", _number(1, 0) + nested(2, packed))


def encode(rule_text: str, new_set: Callable[[list[int]], tuple[str, int]]) -> bytes:
    """The list of expressions. `new_set` makes an anonymous set of marks: its name and id. Raises
    one of `UNFAMILIAR`."""
    rule = Rule(new_set)
    if "reject with icmp " in rule_text:
        rule.needs_ipv4()
    position = 0
    while position < len(rule_text):
        position = _statement(rule, rule_text, position)
    return b"".join(rule.expressions)


def _statement(rule: Rule, rule_text: str, position: int) -> int:
    """Encode the statement that begins there; where the next one does."""
    word = rule_text[position : rule_text.find(" ", position) % (len(rule_text) + 1)]
    for pattern, apply in _STATEMENTS.get(word, ()):
        if found := pattern.match(rule_text, position):
            apply(rule, *found.groups())
            return found.end()
    raise Unfamiliar(rule_text[position:])


# --- statements ---------------------------------------------------------------------------------------------


def _ipv4(rule: Rule) -> None:
    rule.needs_ipv4()


def _l4proto(rule: Rule, name: str) -> None:
    rule.meta(_L4PROTO)
    if name.startswith("@"):
        rule.look_up(name[1:])
    else:
        rule.compare(_EQUAL, bytes([_PROTOCOLS[name]]))


def _other_port(rule: Rule, port: str) -> None:
    rule.payload(_TRANSPORT, _OFFSETS["dport"], 2)
    rule.compare(_NOT_EQUAL, int(port).to_bytes(2, "big"))


def _ports(rule: Rule, side: str, first: str, last: str | None) -> None:
    rule.payload(_TRANSPORT, _OFFSETS[side], 2)
    if last is None:
        rule.compare(_EQUAL, int(first).to_bytes(2, "big"))
    else:
        rule.compare(_AT_LEAST, int(first).to_bytes(2, "big"))
        rule.compare(_AT_MOST, int(last).to_bytes(2, "big"))


def _icmp(rule: Rule, kind: str) -> None:
    rule.needs_ipv4()
    _l4proto(rule, "icmp")
    rule.payload(_TRANSPORT, 0, 1)
    rule.compare(_EQUAL, bytes([int(kind)]))


def _address(rule: Rule, side: str, inverted: str | None, set_name: str) -> None:
    rule.needs_ipv4()
    rule.payload(_NETWORK, _OFFSETS[side], 4)
    rule.look_up(set_name, inverted=inverted is not None)


def _learned(rule: Rule, first: str, second: str, side: str, set_name: str) -> None:
    rule.needs_ipv4()
    for number, register in zip((first, second), _REGISTERS, strict=False):
        rule.add("numgen", _number(1, register) + _number(2, 1) + _number(3, 0) + _number(4, int(number)))
    rule.payload(_NETWORK, _OFFSETS[side], 4, _REGISTERS[2])
    rule.look_up(set_name)


def _addresses(rule: Rule, set_name: str) -> None:
    rule.needs_ipv4()
    for side, register in zip(("saddr", "daddr"), _REGISTERS, strict=False):
        rule.payload(_NETWORK, _OFFSETS[side], 4, register)
    rule.look_up(set_name)


def _server(rule: Rule, set_name: str) -> None:
    rule.needs_ipv4()
    rule.payload(_NETWORK, _OFFSETS["daddr"], 4, _REGISTERS[0])
    rule.meta(_L4PROTO, _REGISTERS[1])
    rule.payload(_TRANSPORT, _OFFSETS["dport"], 2, _REGISTERS[2])
    rule.look_up(set_name)


def _fib(rule: Rule, side: str, kind: str) -> None:
    rule.add("fib", _number(1, 1) + _number(2, _ADDRESS_TYPE) + _number(3, 1 if side == "saddr" else 2))
    rule.compare(_EQUAL, struct.pack("=I", _ADDRESS_TYPES[kind]))


def _state(rule: Rule, states: str) -> None:
    bits = sum(_STATES[state] for state in states.split(","))
    rule.connection(_CT_STATE)
    rule.mask(struct.pack("=I", bits), bytes(4))
    rule.compare(_NOT_EQUAL, bytes(4))


def _direction(rule: Rule, direction: str) -> None:
    rule.connection(_CT_DIRECTION)
    rule.compare(_EQUAL, bytes([_DIRECTIONS[direction]]))


def _grant(rule: Rule, mask: str, one: str | None, several: str | None) -> None:
    rule.connection(_CT_MARK)
    rule.mask(_mark(mask), bytes(4))
    if several is None:
        rule.compare(_EQUAL, _mark(one or ""))
    else:
        name, set_id = rule.new_set([int(number) for number in several.split(", ")])
        rule.look_up(name, set_id=set_id)


def _packet_mark(rule: Rule, mask: str, value: str) -> None:
    rule.meta(_MARK)
    rule.mask(_mark(mask), bytes(4))
    rule.compare(_EQUAL, _mark(value))


def _set_ct_mark(rule: Rule, mask: str, value: str | None) -> None:
    rule.connection(_CT_MARK)
    rule.mask(_mark(mask), _mark(value or "0"))
    rule.add("ct", _number(4, 1) + _number(2, _CT_MARK))


def _set_packet_mark(rule: Rule, mask: str, value: str) -> None:
    rule.meta(_MARK)
    rule.mask(_mark(mask), _mark(value))
    rule.add("meta", _number(2, _MARK) + _number(3, 1))


def _flags(rule: Rule, mask: str, value: str) -> None:
    rule.payload(_TRANSPORT, 13, 1)
    rule.mask(bytes([sum(_TCP_FLAGS[flag] for flag in mask.split(" | "))]), b"\0")
    rule.compare(_NOT_EQUAL, bytes([_TCP_FLAGS[value]]))


def _counter(rule: Rule, name: str) -> None:
    rule.add("objref", text(2, name) + _number(1, 1))


def _limit(rule: Rule, rate: str, burst: str) -> None:
    amounts = attribute(1, struct.pack(">Q", int(rate))) + attribute(2, struct.pack(">Q", 1))
    rule.add("limit", amounts + _number(3, int(burst)) + _number(4, 0) + _number(5, 0))


def _log(rule: Rule, prefix: str, group: str) -> None:
    rule.add("log", text(2, prefix) + attribute(1, struct.pack(">H", int(group))))


def _reject(rule: Rule) -> None:
    rule.add("reject", _number(1, 0) + attribute(2, bytes([_ADMIN_PROHIBITED])))


def _notrack(rule: Rule) -> None:
    rule.expressions.append(nested(_EXPRESSION, text(_NAME, "notrack")))


def _verdict(rule: Rule, verdict: str) -> None:
    rule.end(verdict)


def _lead(rule: Rule, verdict: str, chain: str) -> None:
    rule.end(verdict, chain)


_MATCHES: list[tuple[str, Callable[..., None]]] = [
    (r"meta nfproto ipv4", _ipv4),
    (r"meta l4proto (icmp|tcp|udp|sctp|@\w+)", _l4proto),
    (r"meta mark & (0x[0-9a-f]+) == (0x[0-9a-f]+)", _packet_mark),
    (r"meta mark set meta mark & (0x[0-9a-f]+) \| (0x[0-9a-f]+)", _set_packet_mark),
    (r"th dport != (\d+)", _other_port),
    (r"th ([sd]port) (\d+)(?:-(\d+))?", _ports),
    (r"icmp type (\d+)", _icmp),
    (r"ip ([sd]addr) (!= )?@(\w+)", _address),
    (
        r"numgen inc mod 1 offset (\d+) \. numgen inc mod 1 offset (\d+) \. ip ([sd]addr) @(\w+)",
        _learned,
    ),
    (r"ip saddr \. ip daddr @(\w+)", _addresses),
    (r"ip daddr \. meta l4proto \. th dport @(\w+)", _server),
    (r"fib ([sd]addr) type (unicast|local)", _fib),
    (r"ct state ([a-z,]+)", _state),
    (r"ct direction (original|reply)", _direction),
    (r"ct mark & (0x[0-9a-f]+) (?:(\d+)|\{ ([\d, ]+) \})", _grant),
    (r"ct mark set ct mark & (0x[0-9a-f]+)(?: \| (0x[0-9a-f]+))?", _set_ct_mark),
    (r"tcp flags & \(([a-z |]+)\) != ([a-z]+)", _flags),
    (r"counter name (\w+)", _counter),
    (r"limit rate (\d+)/second burst (\d+) packets", _limit),
    (r'log prefix "([^"]*)" group (\d+)', _log),
    (r"reject with icmp admin-prohibited", _reject),
    (r"notrack", _notrack),
    (r"(accept|drop|return)", _verdict),
    (r"(goto|jump) (\w+)", _lead),
]
_STATEMENTS: dict[str, list[tuple[re.Pattern[str], Callable[..., None]]]] = {}
for _text, _apply in _MATCHES:
    for _word in re.findall(r"[a-z]+", _text)[: 3 if _text.startswith("(") else 1]:
        _STATEMENTS.setdefault(_word, []).append((re.compile(_text + r"(?: |\Z)"), _apply))


def _mark(number: str) -> bytes:
    return struct.pack("=I", int(number, 0))


@lru_cache(1024)
def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))
