"""One query of a pod's, to be looked for where it went: `python3 -m lab.world.one_query NAME`.

It goes to the pod's DNS server, over UDP. Prints JSON: the server, and the port that it was asked from.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from typing import Final

from lab.world import dnsquery, probe

ANSWER_S: Final = 2.0
"""What becomes of the answer is nobody's question here; its query has left by then."""


def main() -> None:
    server = probe.nameserver()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((server, dnsquery.PORT))
        asking.settimeout(ANSWER_S)
        asking.send(dnsquery.query(sys.argv[1], "A")[0])
        with contextlib.suppress(OSError):
            asking.recv(65_535)
        print(json.dumps({"server": server, "port": asking.getsockname()[1]}))


if __name__ == "__main__":
    main()
