"""`python -m acns.resolver --settings FILE.toml`: the security resolver of one node."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from acns import ending, leisure

if TYPE_CHECKING:
    from acns.resolver.settings import ResolverSettings

FLAGS = {"takeover": "take over from the resolver that runs: its sockets, and its pods' TCP connections"}
DESCRIPTION = "Security resolver: answers redirected DNS queries of pods as their policy allows."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    with ending.at_once():
        from acns import command
        from acns.resolver.settings import ResolverSettings

        return command.run("resolver", DESCRIPTION, ResolverSettings, _serve, arguments, flags=FLAGS)


async def _serve(settings: ResolverSettings, *, takeover: bool) -> None:
    with leisure.uncollected():
        import asyncio

        from acns.resolver import privileged, retired
        from acns.resolver.service import Service  # grpc and more: not for --help

    service = Service(settings, privileged.then_give_up(settings), succeeds=takeover)
    told_to_end = asyncio.Event()

    def end() -> None:
        told_to_end.set()
        service.stop()

    ending.heard_by(end)
    await service.run()
    if settings.outlive_handover and not told_to_end.is_set():
        await retired.until_needed(settings, told_to_end)


if __name__ == "__main__":
    sys.exit(main())
