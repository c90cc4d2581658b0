"""What the shim's ledger on disk says to others: which learned set is which selector's, and how long its
elements stay.

The contract names DNS rules, not the `toFQDNs` selectors that open addresses; a resolver that commits in the
shim's stead reads those here. The file is the shim's alone to write; each line is checksummed, and that a
selector is rightly read shows in its set's id, which is a digest of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from acns import statelog
from acns.datapath.sets import fqdn_set_id, fqdn_set_name
from acns.dns.pattern import FQDNSelector
from acns.errors import PeerError

FORMAT: Final = "acns-ledger"
VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a learned address stays in the kernel: its TTL, `min_ttl_s` at least, and `margin_s` more."""

    min_ttl_s: int
    margin_s: float

    def to_json(self) -> dict[str, float]:
        return {"min_ttl_s": self.min_ttl_s, "margin_s": self.margin_s}

    @staticmethod
    def of(values: Iterable[Any]) -> Terms | None:
        """What the latest of a ledger's lines says; None where none does."""
        told = [value["terms"] for value in values if "terms" in value]
        return Terms(int(told[-1]["min_ttl_s"]), float(told[-1]["margin_s"])) if told else None


@dataclass(frozen=True, slots=True)
class LearnedSets:
    """Selector → the id of its set (`acns.writer.wire`): all that the shim has made since it last tidied up,
    so some may be gone. `damage`: a torn last line, which names no set that the kernel has."""

    ids: dict[FQDNSelector, bytes]
    terms: Terms
    damage: PeerError | None = None


def read(path: Path) -> LearnedSets:
    """Raises PeerError when it is no ledger or lacks something, EnvironmentFault when it cannot be read."""
    ledger = statelog.look(path, FORMAT, VERSION)
    try:
        terms, ids = Terms.of(ledger.values), _ids(ledger.values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PeerError(f"{path} is not as a shim writes it: {error!r}", hint="restart the shim") from error
    if terms is None:
        raise PeerError(f"{path} does not say how long addresses stay", hint="written by an older shim?")
    return LearnedSets(ids, terms, ledger.damage)


def _ids(values: Iterable[Any]) -> dict[FQDNSelector, bytes]:
    found = (_selector(id_, one) for value in values for id_, one in value["ids"].items())
    return {selector: fqdn_set_id(selector) for selector in found if selector is not None}


def _selector(id_: str, described: Any) -> FQDNSelector | None:
    """The selector of a learned set; None for whatever else has an id. Its text is `FQDN.key`."""
    what, _, key = described["text"].partition(":")
    kind, _, text = key.partition(":")
    if described["kind"] != "set" or what != "fqdn" or kind not in ("name", "pattern"):
        return None
    selector = FQDNSelector(kind, text)
    return selector if fqdn_set_name(selector) == id_ else None
