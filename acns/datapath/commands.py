"""Transactions as the kernel takes them: the lines that a change of policy consists of, as netlink messages.

Only what is familiar: a transaction with anything else in it (a table's first one, its base chains, interval
sets) is libnftables' as a whole. See `expressions` for why.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from acns.datapath import constants, expressions, nfnetlink, selectors
from acns.datapath.expressions import UNFAMILIAR, Unfamiliar
from acns.datapath.netlink import NLM_F_CREATE, attribute, nested, text
from acns.datapath.nfnetlink import Message

_TABLE = text(1, constants.TABLE)
_INET = f"{constants.FAMILY} {constants.TABLE}"
_APPEND = 0x800

# linux/netfilter/nf_tables.h; libnftables' numbers of datatypes and kinds of user data
_ANONYMOUS_CONSTANT = 0x1 | 0x2
_TYPE_ADDRESS, _TYPE_MARK = 7, 19
_COUNTER = 1
_JUMP = -3
_KEY_ORDER, _SET_COMMENT, _RULE_COMMENT = 0, 7, 0
_HOST_ORDER, _NETWORK_ORDER = 1, 2
_SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_DESCRIPTION, _SET_ID, _SET_USERDATA = (
    2, 3, 4, 5, 9, 10, 13,
)  # fmt: skip
_ELEMENT_KEY, _ELEMENT_DATA, _ELEMENT_TIMEOUT = 1, 2, 4
_INTERFACE_BYTES = 16


def messages(transaction: str) -> list[Message] | None:
    """The messages of one commit, in order; None where some of it is not familiar."""
    commit = _Commit()
    try:
        for line in transaction.splitlines():
            commit.take(line)
    except UNFAMILIAR:
        return None
    return commit.messages


@dataclass(slots=True)
class _Commit:
    messages: list[Message] = field(default_factory=list)
    anonymous_sets: int = 0

    def take(self, line: str) -> None:
        """One line."""
        verb, _, rest = line.partition(f" {_INET}")
        handle = _VERBS.get(verb)
        if handle is None:
            raise Unfamiliar(line)
        handle(self, rest.removeprefix(" "))

    def add_table(self, rest: str) -> None:
        if rest:
            raise Unfamiliar(rest)
        self._send(nfnetlink.NEWTABLE, b"", NLM_F_CREATE)

    def add_counter(self, name: str) -> None:
        zeros = attribute(1, bytes(8)) + attribute(2, bytes(8))
        body = text(2, name) + _number(3, _COUNTER) + nested(4, zeros)
        self._send(nfnetlink.NEWOBJ, body, NLM_F_CREATE)

    def add_set(self, rest: str) -> None:
        found = _NEW_SET.fullmatch(rest)
        if not found:
            raise Unfamiliar(rest)
        name, comment, elements = found.groups()
        userdata = _userdata(_KEY_ORDER, struct.pack("=I", _NETWORK_ORDER))
        if comment is not None:
            userdata += _userdata(_SET_COMMENT, comment.encode() + b"\0")
        self._new_set(name, _TYPE_ADDRESS, 0, nested(_SET_DESCRIPTION, b""), userdata)
        if elements:
            self.add_element(f"{name} {{ {elements} }}")

    def add_chain(self, name: str) -> None:
        if " " in name:
            raise Unfamiliar(name)
        self._send(nfnetlink.NEWCHAIN, text(3, name), NLM_F_CREATE)

    def add_rule(self, rest: str) -> None:
        found = _NEW_RULE.fullmatch(rest)
        if not found:
            raise Unfamiliar(rest)
        chain, rule, comment = found.groups()
        encoded = nested(4, expressions.encode(rule, self._marks))
        userdata = attribute(7, _userdata(_RULE_COMMENT, comment.encode() + b"\0"))
        self._send(nfnetlink.NEWRULE, text(2, chain) + encoded + userdata, NLM_F_CREATE | _APPEND)

    def add_element(self, rest: str) -> None:
        self._elements(nfnetlink.NEWSETELEM, rest, NLM_F_CREATE)

    def delete_element(self, rest: str) -> None:
        self._elements(nfnetlink.DELSETELEM, rest)

    def flush_chain(self, name: str) -> None:
        self._send(nfnetlink.DELRULE, text(2, name))

    def delete_chain(self, name: str) -> None:
        self._send(nfnetlink.DELCHAIN, text(3, name))

    def delete_set(self, name: str) -> None:
        self._send(nfnetlink.DELSET, text(2, name))

    def delete_counter(self, name: str) -> None:
        self._send(nfnetlink.DELOBJ, text(2, name) + _number(3, _COUNTER))

    def _marks(self, numbers: list[int]) -> tuple[str, int]:
        """A constant set of marks for the next rule."""
        self.anonymous_sets += 1
        name, set_id = "__set%d", self.anonymous_sets
        size = nested(_SET_DESCRIPTION, _number(1, len(numbers)))
        userdata = _userdata(_KEY_ORDER, struct.pack("=I", _HOST_ORDER))
        self._new_set(name, _TYPE_MARK, _ANONYMOUS_CONSTANT, size, userdata, set_id)
        keys = [nested(_ELEMENT_KEY, attribute(1, struct.pack("=I", number))) for number in numbers]
        packed = b"".join(nested(1, key) for key in keys)
        body = text(2, name) + _number(4, set_id) + nested(3, packed)
        self._send(nfnetlink.NEWSETELEM, body, NLM_F_CREATE)
        return name, set_id

    def _new_set(
        self, name: str, key_type: int, flags: int, description: bytes, userdata: bytes, set_id: int = 0
    ) -> None:
        body = text(_SET_NAME, name) + _number(_SET_FLAGS, flags) + _number(_SET_KEY_TYPE, key_type)
        body += _number(_SET_KEY_LENGTH, 4) + _number(_SET_ID, set_id or len(self.messages) + 1_000_000)
        body += description + attribute(_SET_USERDATA, userdata)
        self._send(nfnetlink.NEWSET, body, NLM_F_CREATE)

    def _elements(self, kind: int, rest: str, flags: int = 0) -> None:
        name, _, listed = rest.partition(" { ")
        part = _number_or_address if name == selectors.LEARNED else _part
        packed = b"".join(nested(1, _element(one, part)) for one in listed.removesuffix(" }").split(", "))
        if len(packed) > _LONGEST_LIST:
            raise Unfamiliar(name)
        self._send(kind, text(2, name) + nested(3, packed), flags)

    def _send(self, kind: int, body: bytes, flags: int = 0) -> None:
        self.messages.append(Message(kind, _TABLE + body, flags))


_VERBS: dict[str, Callable[[_Commit, str], None]] = {
    "add table": _Commit.add_table,
    "add counter": _Commit.add_counter,
    "add set": _Commit.add_set,
    "add chain": _Commit.add_chain,
    "add rule": _Commit.add_rule,
    "add element": _Commit.add_element,
    "delete element": _Commit.delete_element,
    "flush chain": _Commit.flush_chain,
    "delete chain": _Commit.delete_chain,
    "delete set": _Commit.delete_set,
    "delete counter": _Commit.delete_counter,
}
_NEW_SET = re.compile(r"(\w+) \{ type ipv4_addr;(?: comment \"([^\"]*)\";)?(?: elements = \{ (.*) \};)? \}")
_NEW_RULE = re.compile(r"(\w+) (.*) comment \"([^\"]*)\"")
_LONGEST_LIST = 60_000  # one attribute holds them, and those end at 64 KiB


def _element(element: str, part: Callable[[str], bytes]) -> bytes:
    """`key`, `key timeout Nms`, or `key : jump chain`. `part` packs each of the key's."""
    key, _, chain = element.partition(" : jump ")
    key, _, timeout = key.partition(" timeout ")
    packed = nested(_ELEMENT_KEY, attribute(1, b"".join(map(part, key.split(" . ")))))
    if timeout:
        packed += attribute(_ELEMENT_TIMEOUT, struct.pack(">Q", int(timeout.removesuffix("ms"))))
    if chain:
        verdict = nested(2, attribute(1, struct.pack(">i", _JUMP)) + text(2, chain))
        packed += nested(_ELEMENT_DATA, verdict)
    return packed


def _part(part: str) -> bytes:
    """Of a key, alone or padded as in a concatenation; what it is shows in how it is written."""
    if part.startswith('"'):
        return part.strip('"').encode().ljust(_INTERFACE_BYTES, b"\0")
    if "." in part:
        return IPv4Address(part).packed
    raise Unfamiliar(part)


def _number_or_address(part: str) -> bytes:
    """Of a learned element's key."""
    return struct.pack("=I", int(part)) if part.isdecimal() else IPv4Address(part).packed


def _userdata(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value)]) + value


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))
