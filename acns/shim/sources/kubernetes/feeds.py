"""How each resource is doing: followed or not, since when, why not. For `/readyz`, metrics and the log.

One line in the log when something breaks or is well again, and one a while as long as it is broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from acns.shim.sources.kubernetes.failures import Failed, Trouble
from acns.shim.sources.kubernetes.resources import Resource
from acns.telemetry import log as logs

log = logs.named(__name__)

REMIND_S = 300.0


class State(StrEnum):
    """What a feed is at."""

    LISTING = "listing"
    FOLLOWED = "followed"
    ABSENT = "absent"
    BROKEN = "broken"


class Feed:
    """The state of one resource's list and watch. `counted` is told of each failure: resource, trouble."""

    def __init__(
        self,
        resource: Resource,
        counted: Callable[[str, str], None] = lambda resource, trouble: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.resource = resource
        self.state = State.LISTING
        self.listed = False
        """Whether there has been a whole list (or the word that there is none), ever."""
        self.version = ""
        self.why = ""
        self.objects = 0
        self._counted = counted
        self._clock = clock
        self.since_s = self.heard_s = clock()
        self._remind = logs.Seldom(REMIND_S)

    def heard(self, version: str) -> None:
        """Something came; this is what the server's history is at now."""
        self.version = version
        self.heard_s = self._clock()

    def is_listed(self, version: str) -> None:
        """There is a whole list, of that version."""
        self.listed = True
        self.heard(version)

    def follows(self) -> None:
        """The server agrees to be watched."""
        self.heard_s = self._clock()
        if self.state is not State.FOLLOWED:
            log.info("followed", resource=self.resource.plural, objects=self.objects, was=self.state)
        self._become(State.FOLLOWED, "")

    def is_absent(self) -> None:
        """The server knows the resource not at all: that is a list, too."""
        if self.state is not State.ABSENT:
            log.warning("not served: waiting for its CustomResourceDefinition", resource=self.resource.plural)
        self._become(State.ABSENT, f"no CustomResourceDefinition of {self.resource.kind}; waiting for it")
        self.is_listed("")

    def failed(self, failure: Failed) -> None:
        """It is tried again; until then the last state stays in force."""
        self._counted(self.resource.plural, failure.trouble)
        if failure.trouble is Trouble.GONE and self.state is not State.BROKEN:
            log.info("history gone, listing anew", resource=self.resource.plural, version=self.version)
            return self._become(State.LISTING, failure.message)
        if self.state is not State.BROKEN or self.why != str(failure) or self._remind():
            what = "the last state is enforced" if self.listed else "nothing is known yet"
            log.failure(f"not followed: {what}", failure, resource=self.resource.plural)
            self._remind()
        return self._become(State.BROKEN, str(failure))

    def described(self) -> dict[str, object]:
        """For people."""
        said = {"why": self.why} if self.why else {}
        return {
            "state": str(self.state),
            "since": self.since_s,
            "heard": self.heard_s,
            "version": self.version,
            "objects": self.objects,
            **said,
        }

    def _become(self, state: State, why: str) -> None:
        if state is not self.state:
            self.state, self.since_s = state, self._clock()
        self.why = why
