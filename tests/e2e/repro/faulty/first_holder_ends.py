"""A shim that takes an address away with the first of the names that have it."""

from __future__ import annotations

import sys

from acns.dns.pattern import FQDNSelector
from acns.fqdn.elements import ElementTable
from acns.shim.__main__ import main

_release = ElementTable.release


def _release_all(table: ElementTable, selector: FQDNSelector, address: bytes) -> None:
    if address in table._selectors[selector]:
        table._selectors[selector][address].holders = 1
        _release(table, selector, address)


ElementTable.release = _release_all  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
