"""nftables text loaded into a namespace by libnftables, without starting a process."""

from __future__ import annotations

from typing import Any

from acns.errors import Bug, EnvironmentFault
from lab.kernel import netns


def load(namespace: netns.Namespace | int, text: str) -> None:
    """Apply `text` as one transaction. Raises Bug with nft's own message, which shows the place in the
    text.
    """

    def apply() -> tuple[int, str]:
        context = _context()
        code, _, error = context.cmd(text)
        return code, error

    # The context is bound to the namespace of the thread that makes it, so it is made there.
    code, error = netns.in_namespace(namespace, apply)
    if code != 0:
        raise Bug(f"nftables refuses the lab's rules:\n{error.strip()}", hint="invoke lab.doctor")


def listing(namespace: netns.Namespace | int) -> str:
    """The whole ruleset, as `nft list ruleset` prints it."""

    def read() -> str:
        _, output, _ = _context().cmd("list ruleset")
        return str(output)

    return netns.in_namespace(namespace, read)


def _context() -> Any:
    try:
        from nftables import Nftables

        return Nftables()
    except (ImportError, OSError) as error:
        raise EnvironmentFault(
            f"libnftables cannot be loaded: {error}", hint="apt-get install libnftables1 (or nftables)"
        ) from error
