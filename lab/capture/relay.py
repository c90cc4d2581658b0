"""Asks a recorder on this side of a wall (in a container): `python3 -m lab.capture.relay SOCKET REQUEST`.

Its answer goes to stdout as it comes, to whoever looks through: `docker exec` has no unix sockets.
"""

from __future__ import annotations

import shutil
import socket
import sys
from typing import Final

_PATIENCE_S: Final = 60.0


def command(control: str, request: str) -> list[str]:
    """The arguments of Python's that ask it there."""
    return ["-m", "lab.capture.relay", control, request]


def main() -> int:
    control, request = sys.argv[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE_S)
            connection.connect(control)
            connection.sendall(request.encode() + b"\n")
            with connection.makefile("rb") as answer:
                shutil.copyfileobj(answer, sys.stdout.buffer)
    except OSError as error:
        print(f"error: {control}: {error.strerror or error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
