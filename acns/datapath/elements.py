"""Elements of the learned sets, by raw netlink: one batch for one answer, tens of microseconds.

Two traps of the kernel are dealt with here:

* Re-adding an element moves its expiry from Linux 6.12 on, and only if the message carries an *expiration*:
  with the timeout alone, an equal timeout changes nothing. Older kernels ignore a re-add altogether and need
  add + delete + add in one batch. Which one it is, is tried once in a scratch table.
* Deleting what is not there fails the whole batch; add + delete never does.
"""

from __future__ import annotations

import errno
import itertools
import math
import secrets
import struct
from collections.abc import Iterable, Iterator, Mapping

from acns.datapath import constants, netlink, nfnetlink
from acns.datapath.netlink import Attributes, Refused
from acns.datapath.nfnetlink import Message, NetfilterSocket, Overtaken
from acns.errors import Bug, EnvironmentFault, PeerError

_LIST_ELEMENT = 1
_KEY, _TIMEOUT, _EXPIRATION, _USER_DATA = 1, 4, 5, 6
_USER_DATA_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT: `nft list` shows it
_DATA_VALUE = 1
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_ID = 1, 2, 3, 4, 5, 10
_TABLE_NAME = 1
_TYPE_IPV4_ADDRESS = 7  # TYPE_IPADDR of libnftables
_FLAG_TIMEOUT = 0x10

_PER_MESSAGE = 1000  # a list is one attribute, and those end at 64 KiB
_LONGEST_S = 10 * 365 * 86_400.0
_TRIES_WHEN_LOST = 3


__all__ = ["Elements", "NoSuchSet", "Overtaken"]


class NoSuchSet(PeerError):
    """A batch named a set (or a table) that the kernel does not have: the ruleset has moved on."""


class Elements:
    """A netlink socket in the namespace of the calling thread. `address` is 4 raw bytes everywhere."""

    def __init__(self, *, refresh_by_re_adding: bool | None = None) -> None:
        """None: probe the kernel (once per instance) in a scratch table of this namespace."""
        self._socket = NetfilterSocket()
        self._re_adding = _probe(self._socket) if refresh_by_re_adding is None else refresh_by_re_adding

    @property
    def refresh_by_re_adding(self) -> bool:
        """Whether this kernel moves an expiry when an element is added again (Linux 6.12)."""
        return self._re_adding

    def put(
        self,
        wanted: Mapping[str, Mapping[bytes, float]],
        *,
        generation: int | None = None,
        comment: str = "",
    ) -> None:
        """Add or refresh: set name → address → timeout_s from now. All in one commit, returned after the ack.

        The caller keeps the maximum: what is written here is what the kernel has, also when it is less. With
        a `generation` it is written only while the ruleset still has that one. New elements get the
        `comment`; those that are there keep theirs. Raises NoSuchSet or Overtaken (nothing is written),
        EnvironmentFault.
        """
        messages = [
            message
            for set_name, timeouts_s in wanted.items()
            for chunk in _chunks(timeouts_s.items())
            for message in self._put_messages(set_name, chunk, comment)
        ]
        self._commit(messages, "adding set elements", generation)

    def delete(self, unwanted: Mapping[str, Iterable[bytes]], *, generation: int | None = None) -> None:
        """Remove; an address that is not there (any more) is no error. `generation` as for `put`."""
        messages = []
        for set_name, addresses in unwanted.items():
            for chunk in _chunks((address, _LONGEST_S) for address in addresses):
                packed = _list(constants.TABLE, set_name, chunk)
                keys = _list(constants.TABLE, set_name, [(address, math.inf) for address, _ in chunk])
                messages.append(Message(nfnetlink.NEWSETELEM, packed, netlink.NLM_F_CREATE))
                messages.append(Message(nfnetlink.DELSETELEM, keys))
        self._commit(messages, "removing set elements", generation)

    def read(self, set_name: str) -> dict[bytes, float]:
        """Address → seconds left (inf without timeout). Raises NoSuchSet."""
        return _read(self._socket, constants.TABLE, set_name)

    def commented(self, set_name: str, comment: str) -> frozenset[bytes]:
        """The addresses that were put with this comment. Raises NoSuchSet."""
        wanted = _user_data(comment)
        return frozenset(
            _address(element)
            for element in _dump(self._socket, constants.TABLE, set_name)
            if element.get(_USER_DATA) == wanted
        )

    def generation(self) -> int:
        """The ruleset's generation in this namespace; grows by one with each commit, anybody's."""
        return self._socket.generation()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _put_messages(self, set_name: str, chunk: list[tuple[bytes, float]], comment: str) -> list[Message]:
        packed = _list(constants.TABLE, set_name, chunk, comment)
        add = Message(nfnetlink.NEWSETELEM, packed, netlink.NLM_F_CREATE)
        if self._re_adding:
            return [add]
        keys = _list(constants.TABLE, set_name, [(address, math.inf) for address, _ in chunk])
        return [add, Message(nfnetlink.DELSETELEM, keys), add]

    def _commit(self, messages: list[Message], what: str, generation: int | None = None) -> None:
        if not messages:
            return None
        for attempt in itertools.count(1):
            try:
                return self._socket.batch(messages, what, generation=generation)
            except netlink.Lost:
                # Every batch of ours may be repeated: it says what shall be, not what to change. (A fenced
                # one that was committed is then overtaken by itself, and its maker looks again.)
                if attempt == _TRIES_WHEN_LOST:
                    raise
            except Refused as refused:
                raise _explained(refused) from refused
        return None


def _explained(refused: Refused) -> Exception:
    match refused.number:
        case errno.ENOENT:
            return NoSuchSet(str(refused), hint="the ruleset was replaced: compile again")
        case errno.EPERM:
            return EnvironmentFault(str(refused), hint="needs CAP_NET_ADMIN in this network namespace")
        case errno.ENOMEM | errno.ENFILE | errno.ENOSPC:
            return EnvironmentFault(str(refused))
        case _:
            return Bug(str(refused))


def _chunks(items: Iterable[tuple[bytes, float]]) -> Iterator[list[tuple[bytes, float]]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _PER_MESSAGE)):
        yield chunk


def _list(table: str, set_name: str, elements: Iterable[tuple[bytes, float]], comment: str = "") -> bytes:
    noted = netlink.attribute(_USER_DATA, _user_data(comment)) if comment else b""
    packed = (
        netlink.nested(_LIST_ELEMENT, _element(address, timeout_s) + noted) for address, timeout_s in elements
    )
    return nfnetlink.element_list(table, set_name, b"".join(packed))


def _user_data(comment: str) -> bytes:
    text = comment.encode() + b"\0"
    return bytes((_USER_DATA_COMMENT, len(text))) + text


def _element(address: bytes, timeout_s: float) -> bytes:
    key = netlink.nested(_KEY, netlink.attribute(_DATA_VALUE, address))
    if timeout_s == math.inf:
        return key
    packed = struct.pack(">Q", max(1, round(min(timeout_s, _LONGEST_S) * 1000)))
    return key + netlink.attribute(_TIMEOUT, packed) + netlink.attribute(_EXPIRATION, packed)


def _dump(socket: NetfilterSocket, table: str, set_name: str) -> list[Attributes]:
    try:
        return socket.elements(table, set_name)
    except Refused as refused:
        raise _explained(refused) from refused


def _read(socket: NetfilterSocket, table: str, set_name: str) -> dict[bytes, float]:
    found = {}
    for element in _dump(socket, table, set_name):
        left_ms = element.get(_EXPIRATION)
        found[_address(element)] = int.from_bytes(left_ms, "big") / 1000 if left_ms else math.inf
    return found


def _address(element: Attributes) -> bytes:
    return netlink.attributes(element[_KEY])[_DATA_VALUE]


def _probe(socket: NetfilterSocket) -> bool:
    """Whether adding an element again moves its expiry."""
    table = f"{constants.TABLE}-probe-{secrets.token_hex(4)}"
    address, set_name = bytes(4), "probe"
    create = netlink.NLM_F_CREATE
    scratch_set = (
        netlink.text(_SET_TABLE, table)
        + netlink.text(_SET_NAME, set_name)
        + netlink.attribute(_SET_FLAGS, struct.pack(">I", _FLAG_TIMEOUT))
        + netlink.attribute(_SET_KEY_TYPE, struct.pack(">I", _TYPE_IPV4_ADDRESS))
        + netlink.attribute(_SET_KEY_LENGTH, struct.pack(">I", 4))
        + netlink.attribute(_SET_ID, struct.pack(">I", 1))
    )
    first, second = (
        Message(nfnetlink.NEWSETELEM, _list(table, set_name, [(address, timeout_s)]), create)
        for timeout_s in (100.0, 1000.0)
    )
    what = "probing set elements in a scratch table"
    made = [
        Message(nfnetlink.NEWTABLE, netlink.text(_TABLE_NAME, table), create),
        Message(nfnetlink.NEWSET, scratch_set, create),
        first,
    ]
    try:
        socket.batch(made, what)
        try:
            socket.batch([second], what)
            return _read(socket, table, set_name)[address] > 500
        finally:
            socket.batch([Message(nfnetlink.DELTABLE, netlink.text(_TABLE_NAME, table))], what)
    except Refused as refused:
        raise _explained(refused) from refused
