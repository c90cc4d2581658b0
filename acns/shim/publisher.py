"""The newest policy snapshot, and whoever waits for a newer one.

Each policy stream is served from here at its own pace: a slow peer gets the newest snapshot next, never a
backlog of old ones.
"""

from __future__ import annotations

import asyncio
import uuid

from acns.api import fqdndata_pb2 as pb


class Publisher:
    """One value with a version; versions count from 1."""

    def __init__(self) -> None:
        self.version = 0
        self._state = pb.PolicyState()
        self._changed = asyncio.Condition()
        self._closed = False

    async def publish(self, state: pb.PolicyState) -> None:
        """Make `state` the newest, under a new request id, unless it says the same as the one before."""
        state.request_id = self._state.request_id
        if self.version and state == self._state:
            return
        state.request_id = str(uuid.uuid4())
        async with self._changed:
            self._state = state
            self.version += 1
            self._changed.notify_all()

    async def close(self) -> None:
        """There will be no other: nobody is to wait for one."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def newer_than(self, version: int) -> tuple[int, pb.PolicyState] | None:
        """The newest snapshot and its version, as soon as there is one newer than `version`; None when there
        will be none."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self.version > version)
            return None if self._closed else (self.version, self._state)
