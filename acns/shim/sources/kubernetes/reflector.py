"""One resource, listed and then followed, for ever.

What holds: the shelf is replaced only by a whole list, of one moment of the server's history; what happens
afterwards is applied in the order of that history, none of it twice, none left out. When the server does not
have the history any more (410), a new list replaces the old state in one step: nothing is forgotten while it
comes in. A broken connection goes on where it broke.

A watch that stays silent is not believed: the server sends bookmarks, every minute and before the end of a
watch. Silent for too long, it is opened again, and when that one is silent too, the list is read anew: a
server that was set back to an older state (a restored etcd) answers a watch from its future with silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from acns.shim.sources.kubernetes import failures, wire
from acns.shim.sources.kubernetes.api import API
from acns.shim.sources.kubernetes.failures import Asked, Failed, Trouble
from acns.shim.sources.kubernetes.feeds import Feed
from acns.shim.sources.kubernetes.pace import Pace
from acns.shim.sources.kubernetes.resources import Resource
from acns.shim.sources.kubernetes.shelf import Entry, Shelf
from acns.shim.sources.kubernetes.wire import EventType, Key, WatchEvent

WATCH_S: Final = (240, 360)
"""How long a watch lasts, drawn anew for each: agents that began together do not go on so."""

_SHORT_S: Final = 10.0
"""A watch that ends sooner, without a word, was not one: not to be opened again at once."""
_QUIET_ENDS: Final = 2
"""So many watches without a word in a row are not believed."""
_LIST_ANEW: Final = (
    *(Trouble.GONE, Trouble.ABSENT, Trouble.MALFORMED),
    *(Trouble.INVALID, Trouble.REFUSED),
)
"""A server that cannot go on from a version, whatever it calls that, would not the next time either."""


class Reflector:
    """`versions`: the resource as a server may have it, the preferred one first. `changed` is called after
    each change of the shelf that is news. `counted` is told of each event: resource, type."""

    def __init__(
        self,
        versions: Sequence[Resource],
        api: API,
        shelf: Shelf,
        feed: Feed,
        changed: Callable[[], None],
        counted: Callable[[str, str], None] = lambda resource, type: None,
        pace: Pace | None = None,
        watch_s: tuple[int, int] = WATCH_S,
    ) -> None:
        self._versions = tuple(versions)
        self._resource = versions[0]
        self._api = api
        self._shelf = shelf
        self._feed = feed
        self._changed = changed
        self._counted = counted
        self._pace = pace or Pace()
        self._watch_s = watch_s
        self._version = ""
        self._quiet = 0
        """Watches in a row in which nothing came."""
        self._expired = 0
        """Lists in a row whose history was gone before anything came."""

    async def run(self) -> NoReturn:
        """List and follow."""
        while True:
            try:
                await self._list()
                await self._follow()
            except Failed as failure:
                await self._after(failure)

    # --- the list --------------------------------------------------------------------------------------

    async def _list(self) -> None:
        """All pages; then the shelf is what they say. A list whose pages run out of time begins anew."""
        entries: dict[Key, Entry] = {}
        page = await self._api.page(self._resource)
        while True:
            # In a thread: pods by the thousand take seconds, and mappings must not wait for them.
            entries |= await asyncio.to_thread(self._read, page)
            if not page.rest:
                break
            page = await self._api.page(self._resource, page.rest)
        self._quiet = 0
        self._settle(page.version, self._shelf.replace(entries))

    def _read(self, page: wire.Page) -> dict[Key, Entry]:
        try:
            return self._shelf.read(page.items)
        except wire.Malformed as error:
            raise self._malformed("list", error) from error

    def _settle(self, version: str, news: bool) -> None:
        self._version = version
        self._feed.objects = len(self._shelf)
        first = not self._feed.listed
        self._feed.is_listed(version)
        if news or first:
            self._changed()

    # --- the watch -------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Watch after watch, until the list is to be read anew: Failed says why, or nothing was heard."""
        while self._quiet < _QUIET_ENDS:
            began_s = time.monotonic()
            self._quiet += 1
            try:
                await self._watch()
            except Failed as failure:
                if failure.trouble in _LIST_ANEW:
                    raise
                if failure.trouble is not Trouble.SILENT:
                    self._quiet = 0
                await self._after(failure)
                continue
            if not self._quiet or time.monotonic() - began_s >= _SHORT_S:
                self._pace.reset()
            else:
                self._quiet -= 1
                await asyncio.sleep(self._pace.next_s())

    async def _watch(self) -> None:
        """One watch, until the server ends it."""
        timeout_s = random.randint(*self._watch_s)
        async with contextlib.aclosing(self._api.watch(self._resource, self._version, timeout_s)) as lines:
            async for line in lines:
                if not line:
                    self._feed.follows()
                    continue
                self._take(self._event(line))

    def _event(self, line: bytes) -> WatchEvent:
        try:
            event = wire.read_event(line)
        except wire.Malformed as error:
            raise self._malformed("watch", error) from error
        self._counted(self._resource.plural, event.type)
        if event.type is EventType.ERROR:
            raise failures.error_event(Asked("watch", self._resource), event.item)
        return event

    def _take(self, event: WatchEvent) -> None:
        try:
            _, version = wire.name_of(event.item)
            news = self._applied(event)
        except wire.Malformed as error:
            raise self._malformed("watch", error) from error
        self._version = version
        self._quiet = self._expired = 0
        self._pace.reset()
        self._feed.objects = len(self._shelf)
        self._feed.heard(version)
        if news:
            self._changed()

    def _applied(self, event: WatchEvent) -> bool:
        match event.type:
            case EventType.ADDED | EventType.MODIFIED:
                return self._shelf.put(event.item)
            case EventType.DELETED:
                return self._shelf.drop(event.item)
        return False  # a bookmark: only the version moves

    # --- failures --------------------------------------------------------------------------------------

    async def _after(self, failure: Failed) -> None:
        """Say so, and wait for the next try."""
        if failure.trouble is Trouble.ABSENT:
            await self._absent(failure)
        else:
            self._feed.failed(failure)
        if failure.trouble is Trouble.GONE:
            self._expired += 1
            if self._expired == 1:
                return  # at once: history goes with a server's restart, and the state is old already
        await asyncio.sleep(self._pace.next_s(failure.retry_after_s))

    async def _absent(self, failure: Failed) -> None:
        """Nothing of a resource that is not served counts; but the server must say so itself."""
        try:
            served = [each for each in self._versions if await self._api.is_served(each)]
        except (Failed, wire.Malformed) as error:
            return self._feed.failed(error if isinstance(error, Failed) else self._malformed("get", error))
        if served:
            self._resource = served[0]
            return self._feed.failed(failure)
        first = not self._feed.listed
        news = self._shelf.clear()
        self._feed.objects = 0
        self._feed.is_absent()
        if news or first:
            self._changed()
        return None

    def _malformed(self, verb: str, error: wire.Malformed) -> Failed:
        return Failed(
            Trouble.MALFORMED, f"{Asked(verb, self._resource)}: not an answer of an API server: {error}"
        )
