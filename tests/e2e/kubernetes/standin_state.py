"""What the stand-in API server knows: objects by resource, and the history of their changes.

Versions count up by one for each change of anything, as etcd's revisions do. History before
`horizon` is gone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Value = dict[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Served:
    """A resource as it stands in paths."""

    base: str
    plural: str
    kind: str
    api_version: str
    custom: bool = False


def _builtin(base: str, plural: str, kind: str, api_version: str) -> Served:
    return Served(base, plural, kind, api_version)


BUILTIN = (
    _builtin("/api/v1", "namespaces", "Namespace", "v1"),
    _builtin("/api/v1", "nodes", "Node", "v1"),
    _builtin("/api/v1", "pods", "Pod", "v1"),
    _builtin("/api/v1", "services", "Service", "v1"),
    _builtin("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice", "discovery.k8s.io/v1"),
    _builtin("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", "networking.k8s.io/v1"),
    _builtin("/apis/events.k8s.io/v1", "events", "Event", "events.k8s.io/v1"),
)
_CILIUM = "/apis/cilium.io/v2"
CUSTOM = (
    Served(_CILIUM, "ciliumnetworkpolicies", "CiliumNetworkPolicy", "cilium.io/v2", custom=True),
    Served(
        _CILIUM,
        "ciliumclusterwidenetworkpolicies",
        "CiliumClusterwideNetworkPolicy",
        "cilium.io/v2",
        custom=True,
    ),
    Served(_CILIUM, "ciliumcidrgroups", "CiliumCIDRGroup", "cilium.io/v2", custom=True),
)


@dataclass(frozen=True, slots=True)
class Change:
    """`before` is the object as it was (None: it was not)."""

    version: int
    plural: str
    type: str
    value: Value
    before: Value | None


@dataclass(slots=True)
class State:
    """`current` is the newest version."""

    current: int = 1000
    horizon: int = 0
    served: dict[str, Served] = field(default_factory=lambda: {one.plural: one for one in BUILTIN + CUSTOM})
    objects: dict[str, dict[Key, Value]] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)

    def of(self, plural: str) -> dict[Key, Value]:
        return self.objects.setdefault(plural, {})

    def put(self, plural: str, value: Mapping[str, Any], *, version: int | None = None) -> Change:
        """Create or replace; `version` keeps a recorded one."""
        made, key = copy.deepcopy(dict(value)), key_of(value)
        before = self.of(plural).get(key)
        self.current = version if version is not None else self.current + 1
        metadata = made.setdefault("metadata", {})
        metadata["resourceVersion"] = str(self.current)
        if version is None:
            metadata.setdefault("uid", before["metadata"]["uid"] if before else f"uid-{self.current}")
            metadata["generation"] = _generation(made, before)
        self.of(plural)[key] = made
        return self._record(plural, "MODIFIED" if before else "ADDED", made, before)

    def remove(self, plural: str, key: Key, *, version: int | None = None) -> Change:
        before = self.of(plural).pop(key)
        self.current = version if version is not None else self.current + 1
        last = copy.deepcopy(before)
        last["metadata"]["resourceVersion"] = str(self.current)
        return self._record(plural, "DELETED", last, before)

    def changes(self, plural: str, after: int) -> Iterator[Change]:
        return (one for one in self.history if one.plural == plural and one.version > after)

    def listed(self, plural: str) -> list[Value]:
        """In etcd's order."""
        return [value for _, value in sorted(self.of(plural).items())]

    def load(self, plural: str, values: Iterable[Value], version: int) -> None:
        """Objects that have been there all along, with their recorded versions."""
        for value in values:
            self.of(plural)[key_of(value)] = copy.deepcopy(value)
        self.current = max(self.current, version)
        self.horizon = max(self.horizon, version)

    def _record(self, plural: str, type: str, value: Value, before: Value | None) -> Change:
        change = Change(self.current, plural, type, value, before)
        self.history.append(change)
        return change


def key_of(value: Mapping[str, Any]) -> Key:
    metadata = value["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _generation(value: Value, before: Value | None) -> int:
    """Counts what the spec says; neither status nor metadata."""
    if before is None:
        return 1
    old = before["metadata"].get("generation", 1)
    same = all(value.get(part) == before.get(part) for part in ("spec", "specs"))
    return int(old) if same else int(old) + 1


@dataclass(frozen=True, slots=True)
class Filter:
    """Which objects a request is about: a namespace, labels that are equal, a node, a name."""

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    node: str = ""
    name: str = ""

    @classmethod
    def of(cls, namespace: str, query: Mapping[str, str]) -> Filter:
        labels = tuple(
            (name, value)
            for part in query.get("labelSelector", "").split(",")
            if part
            for name, value in [part.split("=", 1)]
        )
        field, _, wanted = query.get("fieldSelector", "").partition("=")
        fields = {field: wanted}
        return cls(namespace, labels, fields.get("spec.nodeName", ""), fields.get("metadata.name", ""))

    def takes(self, value: Value | None) -> bool:
        if value is None:
            return False
        metadata = value["metadata"]
        labels = metadata.get("labels") or {}
        return (
            self.namespace in ("", metadata.get("namespace"))
            and all(labels.get(name) == wanted for name, wanted in self.labels)
            and self.name in ("", metadata.get("name"))
            and self.node in ("", (value.get("spec") or {}).get("nodeName"))
        )

    def seen(self, change: Change) -> tuple[str, Value] | None:
        """The event that a watch with this filter gets: who leaves it is deleted to it, as it last was."""
        were, are = self.takes(change.before), change.type != "DELETED" and self.takes(change.value)
        if are:
            return ("MODIFIED" if were else "ADDED"), change.value
        if not were or change.before is None:
            return None
        if change.type == "DELETED":
            return "DELETED", change.value
        metadata = {**change.before["metadata"], "resourceVersion": str(change.version)}
        return "DELETED", {**change.before, "metadata": metadata}
