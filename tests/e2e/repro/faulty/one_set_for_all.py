"""A shim that opens an address for every selector, whichever name it was learned for."""

from __future__ import annotations

import sys

from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.fqdn.matcher import Matcher
from acns.shim.__main__ import main


def _all(matcher: Matcher, name: Name) -> tuple[FQDNSelector, ...]:
    return tuple(matcher.selectors)


Matcher.matching = _all  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
