"""What the shim's ledger on disk says to others: which selectors rules name, how long their elements stay.

The contract names DNS rules, not the `toFQDNs` selectors that open addresses; a resolver that commits in the
shim's stead reads those here. The file is the shim's alone to write; each line is checksummed, and that a
selector is rightly read shows in its id, which is a digest of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from acns import statelog
from acns.datapath.selectors import octets_of, selector_id
from acns.dns.pattern import FQDNSelector
from acns.errors import PeerError

FORMAT: Final = "acns-ledger"
VERSION: Final = 2
_KINDS: Final = ("selector", "set")
"""What a selector is called there; the second by shims that had a set for each."""


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
class KnownSelectors:
    """Selector → the octets of its id (`acns.writer.wire`): all since the shim last tidied up, so some may be
    gone. `damage`: a torn last line, which names none that the kernel's rules name."""

    octets: dict[FQDNSelector, bytes]
    terms: Terms
    damage: PeerError | None = None


def read(path: Path) -> KnownSelectors:
    """Raises PeerError when it is no ledger or lacks something, EnvironmentFault when it cannot be read."""
    ledger = statelog.look(path, FORMAT, VERSION)
    try:
        terms, octets = Terms.of(ledger.values), _octets(ledger.values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PeerError(f"{path} is not as a shim writes it: {error!r}", hint="restart the shim") from error
    if terms is None:
        raise PeerError(f"{path} does not say how long addresses stay", hint="written by an older shim?")
    return KnownSelectors(octets, terms, ledger.damage)


def _octets(values: Iterable[Any]) -> dict[FQDNSelector, bytes]:
    found = (_selector(id_, one) for value in values for id_, one in value["ids"].items())
    return {one: octets_of(selector_id(one)) for one in found if one is not None}


def _selector(id_: str, described: Any) -> FQDNSelector | None:
    """The selector with that id; None for whatever else has one. Its text is `FQDN.key`."""
    what, _, key = described["text"].partition(":")
    kind, _, text = key.partition(":")
    if described["kind"] not in _KINDS or what != "fqdn" or kind not in ("name", "pattern"):
        return None
    selector = FQDNSelector(kind, text)
    return selector if selector_id(selector) == id_ else None
