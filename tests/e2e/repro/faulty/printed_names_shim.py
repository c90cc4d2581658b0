"""A shim that compares names as they print: a dot inside a label is like one between two."""

from __future__ import annotations

import sys

from acns.dns.name import Name
from acns.fqdn.matcher import Matcher
from acns.shim.__main__ import main

_matching = Matcher.matching


def _printed(name: Name) -> Name:
    return tuple(b".".join(name).split(b"."))


Matcher.matching = lambda matcher, name: _matching(matcher, _printed(name))  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
