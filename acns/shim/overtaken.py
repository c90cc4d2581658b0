"""What a shim does when another has taken its place: nothing any more.

Whoever is behind the link that resolvers know (`telemetry.sockets.Generation`) is the node's shim. One that
hung when it was replaced, or that somebody left running, holds an older view of the policy and of what is
learned: the first thing that it wrote would undo what the other has done. So each write looks at the link
first, and within a second the shim stops serving and stands by. It does not end: whoever supervises it would
start it again, and it would take the place back. When the other is gone it ends after all, to be started
anew.

A link that is gone tells the same: another may have come, changed things and left, and in any case nobody
finds this shim any more. There is nobody to stand by for then: it ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from acns.errors import EnvironmentFault
from acns.telemetry import log as logs
from acns.telemetry.sockets import Generation

log = logs.named(__name__)

LOOK_S = 1.0


def check(generation: Generation) -> None:
    """Raises EnvironmentFault when this process is the node's shim no more."""
    if generation.is_overtaken:
        raise EnvironmentFault(
            "nothing is written: another shim has taken this one's place, or has had it",
            hint="end one of the two",
        )


async def until(
    generation: Generation, stop: asyncio.Event, is_lost: Callable[[], bool] = lambda: False
) -> None:
    """Returns when told to stop, or when another has taken this one's place. `is_lost`: whether something
    else by which this one is found is gone, so that only a start brings it back."""
    while not stop.is_set() and not generation.is_overtaken and not is_lost():
        await _some_time(stop)


async def stand_by(generation: Generation, stop: asyncio.Event) -> None:
    """Where another has taken its place: until told to stop. Raises EnvironmentFault when nobody is there."""
    if stop.is_set():
        return
    if generation.is_served():
        log.warning("standing by: another shim has taken this one's place", link=str(generation.link))
    while not stop.is_set():
        if not generation.is_served():
            raise EnvironmentFault(
                "this shim is not found any more, and one that had taken its place is gone",
                hint="start this one again: it serves then",
            )
        await _some_time(stop)


async def _some_time(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), LOOK_S)
