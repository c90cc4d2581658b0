"""The numbers and ids that the kernel and the peers carry for us, kept on disk.

`ct mark`s, identities and endpoint ids outlive the shim in the kernel and in the resolver, so the registries
are saved before a ruleset that uses them is committed. Beside them lies what each short id in `nft list
ruleset` and in a drop's log prefix stands for: selector, policy, rule and file:line.

The file is also what the resolver goes by when it commits addresses in this process's stead
(`acns.api.ledger_file`): which set is which selector's, and how long its elements stay.

Only what is new is written, as one line of a log; a crash after that and before the commit leaves numbers
that nobody uses, which is no harm. Nothing is synced before a commit: what a power loss takes from the disk
it takes from the kernel too. Ids that are used no more stay readable until the log is rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from acns.api.ledger_file import FORMAT, VERSION, Terms
from acns.datapath.grants import Grants
from acns.datapath.model import Description
from acns.policy import numbers
from acns.policy.numbers import NumberRegistry
from acns.shim.retiming import Retiming
from acns.statelog import StateLog
from acns.telemetry import log as logs

log = logs.named(__name__)

Numbers = dict[str, dict[str, int]]
"""Kind of registry → text → number."""


class Ledger:
    """Registries for identities, CIDR identities, endpoints and grants, and the table of ids."""

    def __init__(self, path: Path, terms: Terms, fence: Callable[[], object] = lambda: None) -> None:
        """`fence`: as a `StateLog`'s."""
        self._log = StateLog(path, FORMAT, VERSION, fence)
        self._terms = terms
        opened = self._log.open()
        if opened.damage:
            log.failure("state damaged", opened.damage)
        self.terms_before = Terms.of(opened.values) or terms
        """How long addresses stay that are in the kernel now, by what is on disk."""
        self.retimings = Retiming.all_of(opened.values)
        """Those that were begun since these terms were written."""
        self._found = opened.values
        """Until it is written anew."""
        known = _latest(opened.values)
        self._registries: list[NumberRegistry] = []

        def registry(kind: str, span: tuple[int, int]) -> NumberRegistry:
            self._registries.append(NumberRegistry(kind, *span, known.get(kind)))
            return self._registries[-1]

        self.identities = registry("identities", numbers.IDENTITY_RANGE)
        self.cidrs = registry("CIDR identities", numbers.CIDR_IDENTITY_RANGE)
        self.endpoints = registry("endpoints", numbers.ENDPOINT_RANGE)
        self.grants = Grants(
            egress=registry("egress grants", numbers.GRANT_RANGE),
            ingress=registry("ingress grants", numbers.GRANT_RANGE),
        )
        self._described: Mapping[str, Description] | None = None

    def save(self, descriptions: Mapping[str, Description]) -> None:
        """Write what is new: numbers, and ids. Everything, the first time after a start, when only the
        numbers are known. Raises EnvironmentFault."""
        if self._described is None or self._log.must_be_rewritten:
            self._rewrite(descriptions)
        else:
            self._append(descriptions, self._described)
        self._described = descriptions

    def note(self, retiming: Retiming) -> None:
        """Write what is about to become of the elements of an earlier run. Its terms are the ones in force
        until `save`. Raises EnvironmentFault."""
        found = (*self._found, {"numbers": {}, "ids": {}, "retiming": retiming.to_json()})
        self._log.rewrite(found)
        self._found = found
        self.retimings = (*self.retimings, retiming)

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

    def _append(self, descriptions: Mapping[str, Description], before: Mapping[str, Description]) -> None:
        given = {one.kind: news for one in self._registries if (news := one.news())}
        # `is` first: descriptions are kept, and there are thousands of them.
        changed = {id_: one for id_, one in descriptions.items() if before.get(id_) is not one}
        new = {id_: _described(one) for id_, one in changed.items() if not _says(before.get(id_), one)}
        if given or new:
            self._log.append({"numbers": given, "ids": new})

    def _rewrite(self, descriptions: Mapping[str, Description]) -> None:
        known = {one.kind: one.known() for one in self._registries}
        ids = {id_: _described(one) for id_, one in descriptions.items()}
        self._log.rewrite([{"numbers": known, "ids": ids, "terms": self._terms.to_json()}])
        self.terms_before, self.retimings, self._found = self._terms, (), ()
        for one in self._registries:
            one.news()


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


def _says(before: Description | None, now: Description) -> bool:
    """Whether the one is written as the other."""
    if before is None:
        return False
    return (before.kind, before.text, before.origins) == (now.kind, now.text, now.origins)
