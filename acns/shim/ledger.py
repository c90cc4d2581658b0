"""The numbers and ids that the kernel and the peers carry for us, kept on disk.

`ct mark`s, identities and endpoint ids outlive the shim in the kernel and in the resolver, so the registries
are saved before a ruleset that uses them is committed. Beside them lies what each short id in `nft list
ruleset` and in a drop's log prefix stands for: selector, policy, rule and file:line.

The file is also what the resolver goes by when it commits addresses in this process's stead
(`acns.api.ledger_file`): which selectors rules name, and how long their elements stay.

Only what is new is written, as one line of a log; a crash after that and before the commit leaves numbers
that nobody uses, which is no harm. Nothing is synced before a commit: what a power loss takes from the disk
it takes from the kernel too. Ids that are used no more stay readable until the log is rewritten.

A disk that is full keeps no policy from being withdrawn, and no shim from starting: only what brings a new
number, selector or rule has to wait for it. A chain's id, which is another with every change of its content,
says no more than what sort of chain it is, and where a rule stands in its file may be out of date for as
long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from acns.api.ledger_file import FORMAT, VERSION, Terms
from acns.datapath.grants import Grants
from acns.datapath.model import Description
from acns.errors import EnvironmentFault
from acns.policy import numbers
from acns.policy.numbers import NumberRegistry
from acns.shim.retiming import Retiming
from acns.statelog import StateLog
from acns.telemetry import log as logs

log = logs.named(__name__)

Numbers = dict[str, dict[str, int]]
"""Kind of registry → text → number."""
Ids = dict[str, dict[str, Any]]
"""Id → what it stands for, as it is written."""

NOT_WRITTEN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _News:
    """What is not on disk. `is_needed`: the kernel must not have it before it is."""

    numbers: Numbers
    ids: Ids
    is_needed: bool

    @property
    def is_empty(self) -> bool:
        return not self.numbers and not self.ids


class Ledger:
    """Registries for identities, CIDR identities, endpoints and grants, and the table of ids."""

    def __init__(self, path: Path, terms: Terms, fence: Callable[[], object] = lambda: None) -> None:
        """`fence`: as a `StateLog`'s."""
        self._log = StateLog(path, FORMAT, VERSION, fence)
        self._terms = self.terms_before = terms
        """`terms_before`: how long addresses stay that are in the kernel now, by what is on disk."""
        self._says_terms = False
        self.retimings: tuple[Retiming, ...] = ()
        """Those that were begun since these terms were written."""
        self._found: tuple[Any, ...] = ()
        """What is on disk, until the first `save`."""
        self._registries: list[NumberRegistry] = []

        def registry(kind: str, span: tuple[int, int]) -> NumberRegistry:
            self._registries.append(NumberRegistry(kind, *span))
            return self._registries[-1]

        self.identities = registry("identities", numbers.IDENTITY_RANGE)
        self.cidrs = registry("CIDR identities", numbers.CIDR_IDENTITY_RANGE)
        self.endpoints = registry("endpoints", numbers.ENDPOINT_RANGE)
        self.grants = Grants(
            egress=registry("egress grants", numbers.GRANT_RANGE),
            ingress=registry("ingress grants", numbers.GRANT_RANGE),
        )
        self._described: Mapping[str, Description] | None = None
        """What is on disk; None: what was found there."""
        self._not_written = logs.Seldom(NOT_WRITTEN_S)
        self._read()

    def read_again(self) -> None:
        """What the shim before has written since, as the node's shim that it was. Before any number is given.
        Raises EnvironmentFault."""
        if self._log.has_changed:
            self._read()

    def save(self, descriptions: Mapping[str, Description]) -> None:
        """Write what is new: numbers, and ids. Raises EnvironmentFault where it cannot be written and the
        kernel is not to have it before that."""
        news = self._news(descriptions)
        serves = self._log.is_there and self._has_our_terms
        try:
            if not serves or self._log.is_gone or not news.is_empty:
                self._write(news, descriptions)
        except EnvironmentFault as fault:
            if news.is_needed or not serves:
                raise
            if self._not_written():
                log.failure("ledger not written: nothing new in it is needed", fault)
            return
        self._described, self._found = descriptions, ()

    def note(self, retiming: Retiming) -> None:
        """Write what is about to become of the elements of an earlier run. Its terms are the ones in force
        until `save`. Raises EnvironmentFault."""
        beside = (one.beside(retiming) for one in self.retimings)
        retimings = (*(one for one in beside if one.ends_s), retiming)
        found = (
            *(value for value in self._found if "retiming" not in value),
            *({"numbers": {}, "ids": {}, "retiming": one.to_json()} for one in retimings),
        )
        self._log.rewrite(found)
        self._found, self.retimings = found, retimings

    @property
    def has_grown(self) -> bool:
        """Whether `compact` is worth its time."""
        return self._log.has_grown

    def compact(self) -> None:
        """Write everything anew, without what is used no more. Raises EnvironmentFault."""
        self._rewrite(self._described or {})

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def _read(self) -> None:
        opened = self._log.open()
        if opened.damage:
            log.failure("state damaged", opened.damage)
        told = Terms.of(opened.values)
        self.terms_before, self._says_terms = told or self._terms, told is not None
        self.retimings, self._found = Retiming.all_of(opened.values), opened.values
        known = _latest(opened.values)
        for one in self._registries:
            one.restore(known.get(one.kind, {}))

    @property
    def _has_our_terms(self) -> bool:
        """Whether the file says how long addresses stay, and nothing else of it."""
        return self._says_terms and self.terms_before == self._terms and not self.retimings

    def _news(self, descriptions: Mapping[str, Description]) -> _News:
        numbers = {one.kind: dict(one.unsaved) for one in self._registries if one.unsaved}
        if self._described is None:
            ids, is_needed = self._not_found(descriptions)
        else:
            ids, is_needed = _changes(descriptions, self._described)
        return _News(numbers, ids, bool(numbers) or is_needed)

    def _not_found(self, descriptions: Mapping[str, Description]) -> tuple[Ids, bool]:
        """The ids that were found otherwise, or not at all; whether the kernel must wait for any."""
        found: Ids = {}
        for value in self._found:
            found.update(value["ids"])
        said = {id_: _described(one) for id_, one in descriptions.items()}
        new = {id_: one for id_, one in said.items() if one != found.get(id_)}
        return new, any(not _can_wait(found.get(id_, {}), one) for id_, one in new.items())

    def _write(self, news: _News, descriptions: Mapping[str, Description]) -> None:
        if self._log.must_be_rewritten or not self._has_our_terms:
            self._rewrite(descriptions)
        else:
            self._log.append({"numbers": news.numbers, "ids": news.ids})
        for one in self._registries:
            one.news()

    def _rewrite(self, descriptions: Mapping[str, Description]) -> None:
        known = {one.kind: one.known() for one in self._registries}
        ids = {id_: _described(one) for id_, one in descriptions.items()}
        self._log.rewrite([{"numbers": known, "ids": ids, "terms": self._terms.to_json()}])
        self.terms_before, self.retimings, self._says_terms = self._terms, (), True


def _latest(values: tuple[Any, ...]) -> Numbers:
    """The numbers of all lines; where a number was given again, the last text has it."""
    texts: dict[str, dict[int, str]] = {}
    for value in values:
        for kind, given in value["numbers"].items():
            texts.setdefault(kind, {}).update({number: text for text, number in given.items()})
    return {kind: {text: number for number, text in known.items()} for kind, known in texts.items()}


def _described(description: Description) -> dict[str, Any]:
    """What an id stands for. Whom it serves is left out: that changes with every pod."""
    return {
        "kind": description.kind,
        "text": description.text,
        "origins": [str(origin) for origin in description.origins],
    }


def _changes(now: Mapping[str, Description], before: Mapping[str, Description]) -> tuple[Ids, bool]:
    """The ids that are written otherwise now, or were not there; whether the kernel must wait for any."""
    # `is` first: descriptions are kept, and there are thousands of them.
    changed = {id_: one for id_, one in now.items() if before.get(id_) is not one}
    new = {id_: one for id_, one in changed.items() if not _says(before.get(id_), one)}
    said = {id_: _described(one) for id_, one in new.items()}
    was = {id_: _described(before[id_]) for id_ in new if id_ in before}
    return said, any(not _can_wait(was.get(id_, {}), one) for id_, one in said.items())


def _says(before: Description | None, now: Description) -> bool:
    """Whether the one is written as the other."""
    if before is None:
        return False
    return (before.kind, before.text, before.origins) == (now.kind, now.text, now.origins)


def _can_wait(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the kernel may have this id before it is on disk."""
    return now["kind"] == "chain" or (before.get("kind"), before.get("text")) == (now["kind"], now["text"])
