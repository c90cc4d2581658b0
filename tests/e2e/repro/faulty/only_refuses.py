"""A resolver that says REFUSED whatever it is set to say: musl ends its search there."""

from __future__ import annotations

import sys

from acns.dns import message
from acns.fqdn.gate import DeniedCode
from acns.resolver.__main__ import main

DeniedCode.rcode = property(lambda _: message.RCODE_REFUSED)  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(main())
