"""Names that are new to a pod, and how many of them it may bring: each has its addresses committed, which
costs as much as dozens of queries.

A name counts from when it is asked, or a flood would be on its way before the first is counted, and no longer
where its answer needs no commit: it has no addresses, they are in the kernel already, or nobody answers. Once
a pod was given a name's addresses nothing more is due for it, however often they change. A name is the same
in whatever case and with whatever options.
"""

from __future__ import annotations

from typing import Final

from acns.dns import message
from acns.resolver.judged import Case
from acns.resolver.memory import Memory
from acns.resolver.rates import Rates
from acns.resolver.settings import ResolverSettings

_MEMORY_BYTES: Final = 2 << 20
_ENTRY_BYTES: Final = 150  # of a dictionary, and an object's head

_Name = bytes
"""A pod's address, four octets, and a name in lower case."""


class NewNames:
    """Those of all pods. What is told of a case counts once: `was_counted` says whether it is due."""

    def __init__(self, settings: ResolverSettings) -> None:
        per_second = settings.max_new_names_per_second_per_pod
        self._rates = Rates(per_second, settings.max_new_names_at_once_per_pod / per_second)
        self._asked = _memory()
        self._given = _memory()
        """Apart, since these are paid for: names that cost nothing cannot push them out."""

    def may_be_asked(self, pod: bytes, packet: bytes, now: float) -> bool:
        """Whether the pod may bring another name, or this is none; looked at before the query is judged."""
        return not self._rates.wait_s(pod, now) or self._is_known(_name(pod, packet))

    def ask(self, case: Case, packet: bytes, now: float) -> bool:
        """The same for a query that is to go on; a new name is counted until its answer says otherwise."""
        name = _name(case.asker.source, packet)
        if case.was_counted or self._is_known(name):
            return True
        case.was_counted = self._rates.take(case.asker.source, now)
        if case.was_counted:
            self._asked.put(name, True)
        return case.was_counted

    def commit(self, case: Case, packet: bytes, now: float) -> bool:
        """Whether its addresses may be committed. It may have been asked for at no cost, by a type that it
        has no records of."""
        name = _name(case.asker.source, packet)
        may = case.was_counted or self._given.get(name) or self._rates.take(case.asker.source, now)
        case.was_counted = False
        if may:
            self._given.put(name, True)
        return bool(may)

    def is_open(self, case: Case, packet: bytes) -> None:
        """Its addresses are in the kernel: they cost this pod nothing, now and later."""
        self._given.put(_name(case.asker.source, packet), True)
        self.is_empty(case)

    def is_empty(self, case: Case) -> None:
        """It has no addresses."""
        if case.was_counted:
            case.was_counted = False
            self._rates.give_back(case.asker.source)

    def is_unanswered(self, case: Case, packet: bytes) -> None:
        """It is as new the next time as it was."""
        if case.was_counted:
            self.is_empty(case)
            case.was_taken_on = case.is_plain = False
            self._asked.discard(_name(case.asker.source, packet))

    def _is_known(self, name: _Name) -> bool:
        return bool(self._given.get(name) or self._asked.get(name))


def _name(pod: bytes, packet: bytes) -> _Name:
    return pod + message.folded_name(packet)


def _memory() -> Memory[_Name, bool]:
    return Memory(_MEMORY_BYTES, lambda name, _: _ENTRY_BYTES + len(name))
