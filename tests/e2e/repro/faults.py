"""The known faults of FQDN filtering: which agent is wrong in each, and the right one's place in it.

Each fault is a module that runs in an agent's stead, here, in the tests: the product has no switch for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lab.backends.order import Agents

STORIES: Final = Path(__file__).parent / "stories"
_HERE: Final = "tests.e2e.repro.faulty"


def _resolver(module: str, shim: str = "acns.shim") -> Agents:
    return Agents(shim, f"{_HERE}.{module}")


def _shim(module: str) -> Agents:
    return Agents(shim=f"{_HERE}.{module}")


FAULTS: Final[dict[str, Agents]] = {
    "released-early": _resolver("released_early"),
    "address-reuse": _shim("first_holder_ends"),
    "past-the-limit": _shim("evicts_live"),
    "alias-to-denied": _resolver("no_aliases"),
    "truncated-then-tcp": _resolver("deaf_to_tcp"),
    "mixed-case": _resolver("lower_case"),
    "two-from-one-socket": _resolver("one_per_socket"),
    "late-forgery": _resolver("believes_late"),
    "resolver-restart": _shim("forgets_with_stream"),
    "shared-with-denied": _shim("one_set_for_all"),
    "dot-in-a-label": _resolver("printed_names", f"{_HERE}.printed_names_shim"),
    "https-hint": _resolver("learns_hints"),
    "policy-removed": _shim("keeps_grants"),
    "search-walk": _resolver("only_refuses"),
}
