"""Reading our table back: what the kernel holds now, in the words of the ruleset.

By netlink dumps rather than `nft -j`: rules matter only by the id in their comments, the learned set
(large) is left unread, and nothing depends on how a version of nft prints things.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable
from ipaddress import IPv4Address

from acns.datapath import constants, grants, names, netlink, nfnetlink, rules
from acns.datapath.model import Inventory
from acns.datapath.netlink import Attributes
from acns.datapath.nfnetlink import NetfilterSocket

_TABLE = 1
_NAME = 2  # of a set or an object; the chain of a rule
_CHAIN_NAME = 3
_RULE_USERDATA = 7
_USERDATA_COMMENT = 0
_SET_FLAGS, _SET_KEY_TYPE = 3, 4
_SET_INTERVAL, _SET_MAP, _SET_TIMEOUT = 0x4, 0x8, 0x10
_SET_ANONYMOUS = 0x1
_OBJECT_TYPE, _OBJECT_DATA, _OBJECT_COUNTER = 3, 4, 1
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_KEY, _DATA = 1, 2
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CHAIN = 1, 2, 2
_TYPE_BITS = 6  # concatenations: libnftables packs one type number into each six bits

# libnftables' datatypes: number → (width in bytes, text)
_TYPES: dict[int, tuple[int, Callable[[bytes], str]]] = {
    7: (4, lambda raw: str(IPv4Address(raw))),
    12: (1, lambda raw: rules.protocol(raw[0])),
    13: (2, lambda raw: str(int.from_bytes(raw, "big"))),
    41: (16, lambda raw: names.interface(netlink.name(raw))),
}


def read_inventory(socket: NetfilterSocket) -> Inventory:
    """What our table holds."""
    chains = _named(socket, nfnetlink.GETCHAIN, _CHAIN_NAME, "chains")
    found_sets = _named(socket, nfnetlink.GETSET, _NAME, "sets")
    counters = _named(socket, nfnetlink.GETOBJ, _NAME, "counters")
    if not (chains or found_sets or counters):
        return Inventory()
    found_rules = _comments(socket)
    set_elements, map_elements = {}, {}
    for name, one in found_sets.items():
        flags = _number(one, _SET_FLAGS)
        if flags & _SET_MAP:
            map_elements[name] = dict(_map_elements(socket, name, _number(one, _SET_KEY_TYPE)))
        elif not flags & (_SET_INTERVAL | _SET_TIMEOUT):
            set_elements[name] = frozenset(_set_elements(socket, name, _number(one, _SET_KEY_TYPE)))
    return Inventory(
        exists=True,
        counters=frozenset(counters),
        sets=frozenset(found_sets.keys() - map_elements.keys()),
        set_elements=set_elements,
        map_elements=map_elements,
        chain_rules={chain: tuple(words[0] for words in found_rules[chain]) for chain in chains},
        grants={
            words[0]: int(words[1])
            for found in found_rules.values()
            for words in found
            if words[0].startswith(tuple(grants.PREFIXES.values()))
            and len(words) > 1
            and words[1].isdecimal()
        },
    )


def read_counters(socket: NetfilterSocket) -> dict[str, tuple[int, int]]:
    """Named counters: packets, bytes."""
    found = {}
    for name, one in _named(socket, nfnetlink.GETOBJ, _NAME, "counters").items():
        if _number(one, _OBJECT_TYPE) == _OBJECT_COUNTER:
            data = netlink.attributes(one[_OBJECT_DATA])
            found[name] = (_number(data, _COUNTER_PACKETS), _number(data, _COUNTER_BYTES))
    return found


def _comments(socket: NetfilterSocket) -> defaultdict[str, list[list[str]]]:
    """The words of each rule's comment, by chain: its id, then (where it gives one) its grant."""
    found: defaultdict[str, list[list[str]]] = defaultdict(list)
    for one in _ours(socket, nfnetlink.GETRULE, "rules"):
        found[netlink.name(one[_NAME])].append(_comment(one.get(_RULE_USERDATA, b"")).split(" "))
    return found


def _comment(userdata: bytes) -> str:
    """The comment in a rule's userdata: entries of a byte of type, a byte of length, and the value."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _USERDATA_COMMENT:
            value = userdata[offset + 2 : offset + 2 + length].rstrip(b"\0")
            return value.decode("utf-8", "replace")
        offset += 2 + length
    return ""


def _set_elements(socket: NetfilterSocket, name: str, key_type: int) -> list[str]:
    return [_key_text(element, key_type) for element in socket.elements(constants.TABLE, name)]


def _map_elements(socket: NetfilterSocket, name: str, key_type: int) -> list[tuple[str, str]]:
    pairs = []
    for element in socket.elements(constants.TABLE, name):
        data = netlink.attributes(element.get(_DATA, b""))
        chain = netlink.attributes(data.get(_DATA_VERDICT, b"")).get(_VERDICT_CHAIN, b"")
        pairs.append((_key_text(element, key_type), netlink.name(chain)))
    return pairs


def _key_text(element: Attributes, key_type: int) -> str:
    raw = netlink.attributes(element[_KEY])[_DATA_VALUE]
    parts, offset = [], 0
    for number in _subtypes(key_type):
        width, render = _TYPES[number]
        parts.append(render(raw[offset : offset + width]))
        offset += width + (-width % 4)
    return " . ".join(parts)


def _subtypes(key_type: int) -> list[int]:
    found: list[int] = []
    while key_type:
        found.insert(0, key_type & ((1 << _TYPE_BITS) - 1))
        key_type >>= _TYPE_BITS
    return found


def _named(socket: NetfilterSocket, kind: int, name_attribute: int, what: str) -> dict[str, Attributes]:
    return {
        netlink.name(one[name_attribute]): one
        for one in _ours(socket, kind, what)
        if kind != nfnetlink.GETSET or not _number(one, _SET_FLAGS) & _SET_ANONYMOUS
    }


def _ours(socket: NetfilterSocket, kind: int, what: str) -> list[Attributes]:
    """Objects of our table; not every kernel filters by itself, and a missing table is no error here."""
    request = netlink.text(_TABLE, constants.TABLE)
    try:
        found = socket.objects(kind, request, f"reading the table's {what}")
    except netlink.Refused as refused:
        if refused.number == errno.ENOENT:
            return []
        raise
    named = [netlink.attributes(one) for one in found]
    return [one for one in named if netlink.name(one[_TABLE]) == constants.TABLE]


def _number(one: Attributes, kind: int) -> int:
    return int.from_bytes(one.get(kind, b""), "big")
