"""Telling the cluster what became of its policies, slowly, and by one agent only.

Nobody waits for it and nothing depends on it: a right that is missing is said once and tried again later, a
conflict means that the object has changed, whose new state is looked at the next time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from acns.shim.sources.kubernetes import reporting
from acns.shim.sources.kubernetes.api import API
from acns.shim.sources.kubernetes.failures import Failed, Trouble
from acns.shim.sources.kubernetes.reporting import Agent, Verdict
from acns.shim.sources.kubernetes.resources import EVENTS
from acns.shim.sources.kubernetes.shelf import Shelf
from acns.telemetry import log as logs

log = logs.named(__name__)

LOOK_S: Final = 2.0
"""Between looks at all policies: comparing two thousand takes milliseconds."""

WRITE_S: Final = 0.2
"""Between writes: five a second, whatever happens to the policies."""

DENIED_S: Final = 300.0
"""How long that is left alone for which a right is missing: one kind of write, in one namespace."""


class Fleet:
    """The pods of our DaemonSet, as the watch of all pods shows them: those with our own pod's labels."""

    _OWN_TO_A_REVISION = frozenset({"controller-revision-hash", "pod-template-generation"})

    def __init__(self, me: str) -> None:
        """`me`: namespace/name of the pod that we are."""
        self.namespace, _, self.name = me.partition("/")
        self._pods: dict[str, tuple[frozenset[tuple[str, str]], bool]] = {}

    def see(self, value: dict[str, Any]) -> None:
        """A pod, as it is now."""
        metadata = value["metadata"]
        if metadata.get("namespace") != self.namespace:
            return
        conditions = (value.get("status") or {}).get("conditions") or ()
        ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
        labels = {
            (k, v) for k, v in (metadata.get("labels") or {}).items() if k not in self._OWN_TO_A_REVISION
        }
        self._pods[metadata["name"]] = frozenset(labels), ready and not metadata.get("deletionTimestamp")

    def agents(self, present: Callable[[str], bool]) -> Iterator[Agent]:
        """The pods that have our labels; `present`: whether a pod of our namespace is still there."""
        ours = self._pods.get(self.name)
        # In a copy: a list is read by a thread. What is not there may be in a list that is still being read.
        for name, (labels, ready) in list(self._pods.items()):
            if ours is not None and labels == ours[0] and present(name):
                yield Agent(name, ready)


class Reporter:
    """`policies`: the shelves whose entries are told of. `wrote` counts."""

    def __init__(
        self, api: API, fleet: Fleet, policies: Sequence[Shelf], pods: Shelf, wrote: Callable[[str], None]
    ) -> None:
        self._api = api
        self._fleet = fleet
        self._policies = policies
        self._pods = pods
        self._wrote = wrote
        self._told: dict[tuple[str, str], tuple[str, int, str]] = {}
        """(what, uid) → what was last said of it."""
        self._denied: dict[tuple[str, str, str], float] = {}
        """(what, resource, namespace) → when to try that again."""

    async def run(self) -> NoReturn:
        """Look and write, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """One look at all policies, and what is to be written of them, where it is for us to write."""
        if reporting.speaks(self._fleet.name, self._fleet.agents(self._is_present)):
            await self._round()

    def _is_present(self, name: str) -> bool:
        return (self._fleet.namespace, name) in self._pods.entries

    async def _round(self) -> None:
        verdicts = [one for one in self._verdicts() if one]
        known = {one.record.uid for one in verdicts}
        self._told = {key: said for key, said in self._told.items() if key[1] in known}
        now_s = time.monotonic()
        self._denied = {scope: until_s for scope, until_s in self._denied.items() if now_s < until_s}
        for one in verdicts:
            if one.has_condition and not one.is_said and self._is_news("condition", one):
                await self._write("condition", one)
            if one.has_event and self._is_news("event", one):
                await self._write("event", one)

    def _verdicts(self) -> Iterator[Verdict | None]:
        for shelf in self._policies:
            for key, entry in shelf.entries.items():
                yield reporting.verdict(shelf.resource, key, entry)

    def _is_news(self, what: str, one: Verdict) -> bool:
        if time.monotonic() < self._denied.get(_scope(what, one), 0.0):
            return False
        return self._told.get((what, one.record.uid)) != one.identity

    async def _write(self, what: str, one: Verdict) -> None:
        await asyncio.sleep(WRITE_S)
        now = datetime.now(UTC)
        try:
            if what == "condition":
                await self._api.patch_status(one.resource, one.key, one.patch(now))
            else:
                me = f"{self._fleet.namespace}/{self._fleet.name}"
                await self._api.create(EVENTS, *one.event(me, now))
        except Failed as failure:
            # An event that is there has been told; a condition that conflicts is judged anew.
            if failure.trouble is Trouble.CONFLICT:
                if what == "event":
                    self._told[what, one.record.uid] = one.identity
                return
            log.failure(f"{what} about a policy not written", failure, policy="/".join(one.key))
            if failure.trouble is Trouble.INVALID:
                self._told[what, one.record.uid] = one.identity  # as far as it can be
            elif failure.trouble is Trouble.FORBIDDEN:
                self._denied[_scope(what, one)] = time.monotonic() + DENIED_S
            else:
                await asyncio.sleep(LOOK_S)
            return
        self._told[what, one.record.uid] = one.identity
        self._wrote(what)


def _scope(what: str, one: Verdict) -> tuple[str, str, str]:
    """Rights are given for that much."""
    return what, one.resource.plural, one.key[0]
