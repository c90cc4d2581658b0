"""What is written back about policies, as values: a condition in their status, and events.

The condition is Cilium's own (`Valid`), for which `kubectl get cnp` has a column. It is written only where it
would say something else than it says: what we have written comes back as an event of the watch, and an API
server may drop fields that its schema does not know, so nothing is compared but status, reason and message,
and nothing is written twice about one generation of an object.

An Event has a name that follows from what it says: told again, by this agent or by the next, it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from acns.shim.sources.kubernetes.resources import NETWORK_POLICIES, Resource
from acns.shim.sources.kubernetes.shelf import CONDITION, Entry, Record
from acns.shim.sources.kubernetes.wire import Key

ACCEPTED: Final = "Policy validation succeeded"
"""Cilium's words."""

_NOTE_OCTETS: Final = 1024  # events.k8s.io/v1 says characters; its API server counts octets
_SHOWN: Final = 8
_DEFAULT_NAMESPACE: Final = "default"
"""Where events about objects without a namespace live."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said about a policy: it is taken, or refused and why."""

    resource: Resource
    key: Key
    record: Record
    refused: tuple[str, ...]

    @property
    def message(self) -> str:
        if not self.refused:
            return ACCEPTED
        left = len(self.refused) - _SHOWN
        more = f"\n… and {left} more" if left > 0 else ""
        whole = "\n".join(self.refused[:_SHOWN]) + more
        return whole.encode()[:_NOTE_OCTETS].decode(errors="ignore")

    @property
    def reason(self) -> str:
        return "PolicyRefused" if self.refused else "PolicyAccepted"

    @property
    def has_condition(self) -> bool:
        """A NetworkPolicy has no status: it is told of by an Event."""
        return self.resource != NETWORK_POLICIES

    @property
    def has_event(self) -> bool:
        return bool(self.refused) or not self.has_condition

    @property
    def is_said(self) -> bool:
        """Whether the object's status says so already."""
        said = self.record.condition
        return (
            said.get("status") == self._status
            and said.get("message") == self.message
            and said.get("reason") == self.reason
            # Cilium's own definition has no such field, and its API server drops it.
            and said.get("observedGeneration", self.record.generation) == self.record.generation
        )

    @property
    def identity(self) -> tuple[str, int, str]:
        """This object, in this generation, judged like this."""
        return self.record.uid, self.record.generation, self.message

    def patch(self, now: datetime) -> dict[str, Any]:
        """A merge patch of the status: it replaces the list, so the conditions of others are in it; and it
        holds for the version that was judged, or it fails (409)."""
        before = self.record.condition
        since = str(before.get("lastTransitionTime", "")) if before.get("status") == self._status else ""
        ours = {
            "type": CONDITION,
            "status": self._status,
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": self.record.generation,
            "lastTransitionTime": since or now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        others = [dict(each) for each in self.record.conditions if each.get("type") != CONDITION]
        return {
            "metadata": {"resourceVersion": self.record.version},
            "status": {"conditions": [*others, ours]},
        }

    def event(self, reporter: str, now: datetime) -> tuple[str, dict[str, Any]]:
        """The Event's namespace, and it. `reporter`: which agent says so."""
        namespace, name = self.key
        home = namespace or _DEFAULT_NAMESPACE
        digest = hashlib.sha256(repr(self.identity).encode()).hexdigest()[:12]
        regarding = {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "name": name,
            "uid": self.record.uid,
            "resourceVersion": self.record.version,
        }
        return home, {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name[:200].rstrip('-.')}.{digest}", "namespace": home},
            "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "acns-shim",
            "reportingInstance": reporter[:128],
            "action": "Enforce",
            "reason": self.reason,
            "regarding": regarding | ({"namespace": namespace} if namespace else {}),
            "note": self.message,
            "type": "Warning" if self.refused else "Normal",
        }

    @property
    def _status(self) -> str:
        return "False" if self.refused else "True"


def verdict(resource: Resource, key: Key, entry: Entry) -> Verdict | None:
    """What is to be said of that policy; None where its object is not known well enough."""
    if entry.record is None or not entry.record.uid:
        return None
    errors = (str(problem) for problem in entry.problems if not problem.warning)
    return Verdict(resource, key, entry.record, tuple(errors))


@dataclass(frozen=True, slots=True)
class Agent:
    """A pod of the shims' DaemonSet."""

    name: str
    is_ready: bool


def speaks(me: str, agents: Iterable[Agent]) -> bool:
    """Whether it is for `me` to write: every agent sees the same policies and would write the same. It is the
    first by name of those that are ready; two that think so for a moment write the same words."""
    ready = sorted(agent.name for agent in agents if agent.is_ready)
    return bool(ready) and ready[0] == me
