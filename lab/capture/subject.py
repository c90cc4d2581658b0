"""What a capture is taken of: a lab, whatever it is made of, as one whose links are recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from lab.capture.decisions import Decisions
from lab.spec.topology import Topology

Link = tuple[str, str]
"""Place, and name of the link there; "" means all of its links."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a lab stands in the file. `links`: what those of pods are called there, which are heard at
    their node's end; `names`: address → names; `services`: addresses that are translated on the way."""

    title: str
    links: Mapping[Link, str]
    names: Mapping[str, Sequence[str]]
    services: frozenset[str]


class Recordable(Protocol):
    """A lab that is recorded. `kept_file`: the capture that was stopped last."""

    @property
    def name(self) -> str: ...
    @property
    def kept_file(self) -> Path: ...

    def asked(self, request: Mapping[str, Any]) -> BinaryIO:
        """What the recorder answers (`lab.capture.recorder`): a JSON line, then blocks."""
        ...

    def everywhere(self) -> list[Link]: ...

    def link(self, word: str) -> Link:
        """The one that is meant: of a pod, a node, or the Internet. Raises LabNotFound, InputError."""
        ...

    def followed(self, word: str) -> str:
        """The pod whose link is meant, where a capture goes with it when it is made anew; "" means none."""
        ...

    def subject(self) -> Subject: ...

    def decisions(self) -> Decisions:
        """What the agents wrote down. Raises InputError where they write nothing down."""
        ...


def owner(word: str) -> tuple[str, str]:
    """Of `frontend`, `frontend/eth0`, `kube-system/kube-dns/eth0`, `node1/lo`: whose link, and which."""
    found, _, interface = word.rpartition("/")
    return (found, interface) if interface in ("eth0", "lo") else (word, "eth0")


def pod_link(namespace: str, name: str) -> str:
    """As a pod's link is called in the file."""
    return f"{name if namespace == 'default' else f'{namespace}/{name}'}/eth0"


def pod_name(namespace: str, name: str) -> str:
    """As a pod's address is called in the file."""
    return name if namespace == "default" else f"{name}.{namespace}"


def internet_names(topology: Topology) -> dict[str, list[str]]:
    """Address → names, of what the lab's Internet has."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, records in topology.internet.names.items():
        for address in (*records.a, *records.aaaa):
            found[str(address)].append(name.removesuffix("."))
    return found
