"""nftables text loaded into a namespace by libnftables, mostly without starting a process.

libnftables waits for the kernel's answer with select(2), and select ends a process whose socket has a number
past 1,023. A lab of hundreds of pods holds more descriptors than that, and so may a test session. There the
text goes to a process of its own, this module, which has few.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Final

from acns.errors import Bug, EnvironmentFault
from lab.kernel import netns

_DONE: Final = "done\n"
_SELECTABLE: Final = 960
"""Less than select's 1,024 by what other threads may open meanwhile."""


def load(namespace: netns.Namespace | int, text: str) -> None:
    """Apply `text` as one transaction. Raises Bug with nft's own message, which shows the place in the
    text.
    """
    # The context is bound to the namespace of the thread that makes it, so it is made there.
    code, error = netns.in_namespace(namespace, lambda: _apply(text))
    if code != 0:
        raise Bug(f"nftables refuses the lab's rules:\n{error.strip()}", hint="invoke lab.doctor")


def listing(namespace: netns.Namespace | int) -> str:
    """The whole ruleset, as `nft list ruleset` prints it."""

    def read() -> str:
        _, output, _ = _context().cmd("list ruleset")
        return str(output)

    return netns.in_namespace(namespace, read)


def _apply(text: str) -> tuple[int, str]:
    """In the calling thread's namespace: exit code, and what nft says of it."""
    if _next_descriptor() < _SELECTABLE:
        code, _, error = _context().cmd(text)
        return int(code), str(error)
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    # Not by its exit code: a lab's holder reaps whatever child ends, and may be first.
    return int(done.stdout != _DONE), done.stderr


def _next_descriptor() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(descriptor)
    return descriptor


def _context() -> Any:
    try:
        from nftables import Nftables

        return Nftables()
    except (ImportError, OSError) as error:
        raise EnvironmentFault(
            f"libnftables cannot be loaded: {error}", hint="apt-get install libnftables1 (or nftables)"
        ) from error


def main() -> int:
    """Apply what comes on stdin, here."""
    code, error = _apply(sys.stdin.read())
    print(error, file=sys.stderr)
    print("" if code else _DONE, end="")
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
