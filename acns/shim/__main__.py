"""`python -m acns.shim --settings FILE.toml`: the Cilium-shim of one node."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from acns import ending, leisure

if TYPE_CHECKING:
    from acns.shim.settings import ShimSettings

DESCRIPTION = "Cilium-shim: compiles Kubernetes policies to nftables and serves FQDNData."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    with ending.at_once():
        from acns import command
        from acns.shim.settings import ShimSettings

        return command.run("shim", DESCRIPTION, ShimSettings, _serve, arguments)


async def _serve(settings: ShimSettings) -> None:
    with leisure.uncollected():
        from acns.shim.daemon import Daemon  # grpc and more: not for --help

    await Daemon(settings).run()


if __name__ == "__main__":
    sys.exit(main())
