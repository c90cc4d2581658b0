"""`python -m acns.telemetry.probe SOCKET /readyz`: exit code 0 where an agent answers 200 at its unix socket.

For the probes of a kubelet, which knows no unix sockets. Only the standard library, for it runs often.
"""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Sequence
from typing import Final

WITHIN_S: Final = 3.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WITHIN_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WITHIN_S)
        self.sock.connect(self._path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 well, 1 not well or not there, 2 usage. What the agent says goes to stdout."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        print("usage: python -m acns.telemetry.probe SOCKET PATH", file=sys.stderr)
        return 2
    try:
        connection = _UnixConnection(given[0])
        connection.request("GET", given[1])
        response = connection.getresponse()
        print(response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"{given[0]}: {error}", file=sys.stderr)
        return 1
    return 0 if response.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
