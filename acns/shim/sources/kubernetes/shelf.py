"""The objects of one resource as policy sees them: each read when it comes, and nothing else of it kept.

The unit is the object. One that cannot be read counts as it last was when it could; of policies that last
good text is kept on disk too (`memory`), so that a restart beside a broken policy opens nothing. An object
that comes again and means the same stays the same value (`is`): most changes of a pod change nothing here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from acns.errors import Problem
from acns.policy import manifests, served
from acns.policy.changes import Edition
from acns.policy.objects import Object, Pod
from acns.policy.profiles import Profile
from acns.shim.sources.kubernetes import kept_once, wire
from acns.shim.sources.kubernetes.arranged import Arranged
from acns.shim.sources.kubernetes.resources import POLICIES, Resource
from acns.shim.sources.kubernetes.wire import Key
from acns.shim.sources.memory import Memory

CONDITION: Final = "Valid"
"""The type of Cilium's own condition on policies, which `kubectl get cnp` shows."""

NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """What is written back about a policy goes by this: which object it is, and what its status says now."""

    uid: str
    generation: int
    version: str
    conditions: tuple[Mapping[str, Any], ...]

    @property
    def condition(self) -> Mapping[str, Any]:
        """Ours; empty where there is none."""
        return next((each for each in self.conditions if each.get("type") == CONDITION), NOTHING)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: the value that counts (None: none ever did), and what is wrong with the newest text."""

    value: Object | None
    problems: tuple[Problem, ...] = ()
    record: Record | None = None


class Shelf:
    """For one thread at a time, but for `read`, which changes nothing."""

    def __init__(
        self,
        resource: Resource,
        profile: Profile,
        memory: Memory,
        see: Callable[[dict[str, Any]], None] = lambda value: None,
    ) -> None:
        """`see` is shown every object as it comes."""
        self._see = see
        self.resource = resource
        self.entries: dict[Key, Entry] = {}
        self._wrong: dict[Key, tuple[Problem, ...]] = {}
        self._arranged = Arranged()
        self._profile = profile
        self._memory = memory if resource in POLICIES else None
        self._coming: set[Key] = set()
        """Remembered, and not among the entries yet: a list is being read."""

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, items: Iterable[bytes]) -> dict[Key, Entry]:
        """Entries for these objects. Raises Malformed."""
        return dict(map(self._entry, items))

    def replace(self, entries: dict[Key, Entry]) -> bool:
        """This is all there is now; whether that is news."""
        gone = [self._set(key, None) for key in self.entries.keys() - entries.keys()]
        come = [self._set(key, entry) for key, entry in entries.items()]
        self._coming.clear()  # also what a list that came to no end has left
        return any(gone) or any(come)

    def put(self, item: bytes) -> bool:
        """An object has come or changed; whether that is news."""
        return self._set(*self._entry(item))

    def drop(self, item: bytes) -> bool:
        """An object is gone."""
        key, _ = wire.name_of(item)
        return self._set(key, None)

    def clear(self) -> bool:
        """The resource is not there."""
        return self.replace({})

    def values(self) -> Edition[Object]:
        """Those that count, by namespace and name; the same tuple until there is news."""
        return self._arranged.edition()

    def problems(self) -> Iterator[Problem]:
        return itertools.chain.from_iterable(self._wrong.values())

    def remembered(self) -> set[str]:
        """The titles of those whose last good text counts: also of a list that is being read, in another
        thread, hence the copy."""
        return {self.title(key) for key in (*self.entries, *self._coming.copy())}

    def _set(self, key: Key, entry: Entry | None) -> bool:
        """That is there now; whether it is news."""
        self._coming.discard(key)
        before = self.entries.get(key)
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry
        if entry and entry.problems:
            self._wrong[key] = entry.problems
        else:
            self._wrong.pop(key, None)
        self._arranged.put(key, before.value if before else None, entry.value if entry else None)
        if before is None or entry is None:
            return before is not entry
        return _differ(entry, before)

    def title(self, key: Key) -> str:
        """How `Memory` and people name an object."""
        return served.title(self.resource.kind, *key)

    def _entry(self, item: bytes) -> tuple[Key, Entry]:
        text = wire.read_object(item)
        value = {**text, "kind": self.resource.kind, "apiVersion": self.resource.api_version}
        metadata = value.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise wire.Malformed(f"a {self.resource.kind} without a name")
        key = (kept_once.text(metadata.get("namespace") or ""), kept_once.text(metadata["name"]))
        self._see(value)
        parsed = manifests.parse_served(_lean(value), self._profile)
        before = self.entries.get(key)
        served = parsed if parsed.ok else self._anyway(value)
        if served is not None:
            found: Object | None = _settled(served.objects[0], before)
            self._remember(key, value)
        else:
            found = before.value if before is not None and before.value is not None else self._recalled(key)
        return key, Entry(found, parsed.problems, _record(value) if self._memory else None)

    def _anyway(self, value: dict[str, Any]) -> manifests.Parsed | None:
        """A Pod that the profile refuses is there nevertheless, and what selects it is to hold: by its IPv4
        address, as profile cilium has it. None where even that cannot be read."""
        if self.resource.kind != "Pod":
            return None
        parsed = manifests.parse_served(_lean(value), Profile.CILIUM)
        return parsed if parsed.ok else None

    def _remember(self, key: Key, value: Mapping[str, Any]) -> None:
        if self._memory is not None:
            self._coming.add(key)  # first: whoever saves meanwhile must not take it for gone
            kept = {name: value[name] for name in ("kind", "apiVersion", "spec", "specs") if name in value}
            names = {"name": key[1]} | ({"namespace": key[0]} if key[0] else {})
            self._memory.set(self.title(key), wire.write({**kept, "metadata": names}).decode())

    def _recalled(self, key: Key) -> Object | None:
        """As an earlier run last could read it."""
        text = self._memory.get(self.title(key)) if self._memory is not None else None
        if text is None:
            return None
        parsed = manifests.parse_served(wire.read_object(text.encode()), self._profile)
        return parsed.objects[0] if parsed.ok and parsed.objects else None


def _differ(entry: Entry, before: Entry) -> bool:
    return entry.value is not before.value or entry.problems != before.problems


def _settled(value: Object, before: Entry | None) -> Object:
    """The value of before where it means the same."""
    if before is not None and before.value == value:
        return before.value
    return kept_once.pod(value) if isinstance(value, Pod) else value


def _lean(value: dict[str, Any]) -> dict[str, Any]:
    """Without what decides nothing and is long."""
    metadata = {name: each for name, each in value["metadata"].items() if name != "managedFields"}
    return {**value, "metadata": metadata}


def _record(value: Mapping[str, Any]) -> Record:
    metadata, status = value["metadata"], value.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return Record(
        str(metadata.get("uid", "")),
        int(metadata.get("generation") or 0),
        str(metadata.get("resourceVersion", "")),
        tuple(each for each in conditions or () if isinstance(each, dict)),
    )
