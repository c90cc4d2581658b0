"""Elements of the learned set, by raw netlink: one batch for one answer, tens of microseconds.

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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from acns.datapath import constants, netlink, nfnetlink, selectors
from acns.datapath.netlink import Attributes, Refused
from acns.datapath.nfnetlink import Message, NetfilterSocket, Overtaken
from acns.errors import Bug, EnvironmentFault, PeerError

_LIST_ELEMENT = 1
_KEY, _TIMEOUT, _EXPIRATION, _USER_DATA = 1, 4, 5, 6
_USER_DATA_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT: `nft list` shows it
_COMMENT_BEGIN = bytes([_USER_DATA_COMMENT])
_DATA_VALUE = 1
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_ID = 1, 2, 3, 4, 5, 10
_TABLE_NAME = 1
_TYPE_IPV4_ADDRESS = 7  # TYPE_IPADDR of libnftables
_FLAG_TIMEOUT = 0x10

_PER_MESSAGE = 900  # a list is one attribute, and those end at 64 KiB
_LONGEST_S = 10 * 365 * 86_400.0
_CHUNKS_PER_COMMIT = 10
PER_COMMIT: Final = _PER_MESSAGE * _CHUNKS_PER_COMMIT
"""So many elements at once: how much goes to the kernel in one piece is bounded, and how long that takes."""
_TRIES_WHEN_LOST = 3
_TRIES = 20


__all__ = ["PER_COMMIT", "Elements", "Found", "NoSuchSet", "Overtaken"]


class NoSuchSet(PeerError):
    """The kernel has no learned set: our table is gone."""


class Found(NamedTuple):
    """An element that is there. `comment`: the one that it was put with, or ""."""

    left_s: float
    comment: str


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
    ) -> int:
        """Add or refresh: selector id → address → timeout_s from now. Returned after the ack: how many
        commits it took, one unless there are more than `PER_COMMIT`.

        The caller keeps the maximum: what is written here is what the kernel has, also when it is less. With
        a `generation` it is written only while the ruleset still has that one. New elements get the
        `comment`; those that are there keep theirs. Raises NoSuchSet or Overtaken (nothing of that commit is
        written, nor of later ones), EnvironmentFault.
        """
        noted = netlink.attribute(_USER_DATA, _user_data(comment)) if comment else b""
        chunks = (self._put_messages(chunk, noted) for chunk in _chunks(_keyed(wanted)))
        return self._commit(chunks, "adding learned addresses", generation)

    def delete(self, unwanted: Mapping[str, Iterable[bytes]], *, generation: int | None = None) -> int:
        """Remove; an address that is not there (any more) is no error. The rest as for `put`."""
        doomed = {id_: dict.fromkeys(addresses, _LONGEST_S) for id_, addresses in unwanted.items()}
        chunks = (
            [
                Message(nfnetlink.NEWSETELEM, _learned(chunk), netlink.NLM_F_CREATE),
                Message(nfnetlink.DELSETELEM, _keys(chunk)),
            ]
            for chunk in _chunks(_keyed(doomed))
        )
        return self._commit(chunks, "removing learned addresses", generation)

    def read(self) -> dict[str, dict[bytes, float]]:
        """All: selector id → address → seconds left (inf without timeout). Raises NoSuchSet.

        Where elements expire meanwhile the kernel may leave out others, which is not seen: who must have all
        takes `read_surely`.
        """
        found: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
        for element in self._dump():
            id_, address = _place(element)
            found[id_][address] = _left_s(element)
        return dict(found)

    def read_surely(self) -> dict[str, dict[bytes, float]]:
        """As `read`, until nothing new shows. Raises NoSuchSet, Lost where that never is."""
        found = self.read()
        for _ in range(_TRIES):
            again, new = self.read(), 0
            for id_, left_s in again.items():
                known = found.setdefault(id_, {})
                new += len(left_s.keys() - known.keys())
                known.update(left_s)
            if not new:
                return found
        raise netlink.Lost("reading the learned set: it never stood still")

    def find(self, wanted: Mapping[str, Iterable[bytes]]) -> dict[str, dict[bytes, Found]]:
        """Of these, those that are there: one look-up each. Nothing is where there is no set."""
        found: dict[str, dict[bytes, Found]] = {}
        for id_, addresses in wanted.items():
            prefix = selectors.key_prefix(id_)
            for address in addresses:
                element = self._element(prefix + address)
                if element is not None and (left_s := _left_s(element)) > 0:
                    found.setdefault(id_, {})[address] = Found(left_s, _comment(element))
        return found

    def generation(self) -> int:
        """The ruleset's generation in this namespace; grows by one with each commit, anybody's."""
        return self._socket.generation()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _put_messages(self, chunk: list[tuple[bytes, float]], noted: bytes) -> list[Message]:
        add = Message(nfnetlink.NEWSETELEM, _learned(chunk, noted), netlink.NLM_F_CREATE)
        return [add] if self._re_adding else [add, Message(nfnetlink.DELSETELEM, _keys(chunk)), add]

    def _element(self, key: bytes) -> Attributes | None:
        try:
            return self._socket.element(constants.TABLE, selectors.LEARNED, key)
        except Refused as refused:
            if refused.number == errno.ENOENT:
                return None
            raise _explained(refused) from refused

    def _dump(self) -> list[Attributes]:
        return _dump(self._socket, constants.TABLE, selectors.LEARNED)

    def _commit(self, chunks: Iterator[list[Message]], what: str, generation: int | None) -> int:
        commits = 0
        while messages := list(itertools.chain(*itertools.islice(chunks, _CHUNKS_PER_COMMIT))):
            self._commit_once(messages, what, None if generation is None else generation + commits)
            commits += 1
        return commits

    def _commit_once(self, messages: list[Message], what: str, generation: int | None) -> None:
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
            return NoSuchSet(str(refused), hint="somebody has removed our table")
        case errno.EPERM:
            return EnvironmentFault(str(refused), hint="needs CAP_NET_ADMIN in this network namespace")
        case errno.ENOMEM | errno.ENFILE | errno.ENOSPC:
            return EnvironmentFault(str(refused))
        case _:
            return Bug(str(refused))


def _keyed(elements: Mapping[str, Mapping[bytes, float]]) -> Iterator[tuple[bytes, float]]:
    """By the keys that the kernel has them under."""
    for id_, timeouts_s in elements.items():
        prefix = selectors.key_prefix(id_)
        for address, timeout_s in timeouts_s.items():
            yield prefix + address, timeout_s


def _chunks(items: Iterator[tuple[bytes, float]]) -> Iterator[list[tuple[bytes, float]]]:
    while chunk := list(itertools.islice(items, _PER_MESSAGE)):
        yield chunk


def _learned(elements: Iterable[tuple[bytes, float]], noted: bytes = b"") -> bytes:
    return _list(constants.TABLE, selectors.LEARNED, elements, noted)


def _keys(elements: Iterable[tuple[bytes, float]]) -> bytes:
    return _learned((key, math.inf) for key, _ in elements)


def _list(table: str, set_name: str, elements: Iterable[tuple[bytes, float]], noted: bytes = b"") -> bytes:
    """The attributes of a message about these elements; `noted`: user data of each, packed."""
    packed = (netlink.nested(_LIST_ELEMENT, _element(key, timeout_s) + noted) for key, timeout_s in elements)
    return nfnetlink.element_list(table, set_name, b"".join(packed))


def _user_data(comment: str) -> bytes:
    text = comment.encode() + b"\0"
    return bytes((_USER_DATA_COMMENT, len(text))) + text


def _comment(element: Attributes) -> str:
    noted = element.get(_USER_DATA, b"")
    return noted[2:].rstrip(b"\0").decode("utf-8", "replace") if noted[:1] == _COMMENT_BEGIN else ""


def _element(key: bytes, timeout_s: float) -> bytes:
    packed_key = netlink.nested(_KEY, netlink.attribute(_DATA_VALUE, key))
    if timeout_s == math.inf:
        return packed_key
    packed = struct.pack(">Q", max(1, round(min(timeout_s, _LONGEST_S) * 1000)))
    return packed_key + netlink.attribute(_TIMEOUT, packed) + netlink.attribute(_EXPIRATION, packed)


def _dump(socket: NetfilterSocket, table: str, set_name: str) -> list[Attributes]:
    try:
        return socket.elements(table, set_name)
    except Refused as refused:
        raise _explained(refused) from refused


def _place(element: Attributes) -> tuple[str, bytes]:
    """Whose element it is: the selector's id, and the address."""
    key = netlink.attributes(element[_KEY])[_DATA_VALUE]
    return selectors.id_in(key[: selectors.PREFIX_BYTES]), key[selectors.PREFIX_BYTES :]


def _left_s(element: Attributes) -> float:
    left_ms = element.get(_EXPIRATION)
    return int.from_bytes(left_ms, "big") / 1000 if left_ms else math.inf


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
            (element,) = _dump(socket, table, set_name)
            return _left_s(element) > 500
        finally:
            socket.batch([Message(nfnetlink.DELTABLE, netlink.text(_TABLE_NAME, table))], what)
    except Refused as refused:
        raise _explained(refused) from refused
