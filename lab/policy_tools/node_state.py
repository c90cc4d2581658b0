"""A node of a running lab as its agents have it: the manifests that count, learned addresses, ids, counters.

The manifests are the last good text of each file, from the shim's own memory of them, so that an explanation
is about what is enforced and not about what somebody is just writing. Learned addresses come from the shim;
where it does not run, from the kernel's set, which then no longer says for which name.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from acns import settings, statelog
from acns.api import ledger_file
from acns.datapath import conntrack
from acns.datapath.conntrack import Connection
from acns.datapath.elements import Elements, NoSuchSet
from acns.datapath.inventory import read_counters
from acns.datapath.nfnetlink import NetfilterSocket
from acns.datapath.selectors import selector_id
from acns.dns import name as names
from acns.dns.pattern import FQDNSelector
from acns.errors import EnvironmentFault, InputError, PeerError
from acns.policy.learnings import Learning, Learnings
from acns.shim import views
from acns.shim.settings import ShimSettings
from acns.shim.sources import memory
from lab.kernel import netns
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an id in the kernel stands for, as the shim wrote it down. `origins`: places of rules."""

    kind: str
    text: str
    origins: tuple[str, ...]


class NodeState:
    """One node; everything is read when it is asked for."""

    def __init__(self, lab: Lab, node: NodeHandle) -> None:
        self.node = node
        file = lab.folder.node(node.name) / "shim.toml"
        if not file.exists():
            raise InputError(
                f"no shim of ours runs on {node.name}: nobody knows what became of its manifests",
                hint="ask the manifests alone, with --topology or --manifests",
            )
        self.settings = settings.load(ShimSettings, file)

    @property
    def folder(self) -> Path:
        """Where the manifests lie."""
        return Path(self.settings.manifests)

    def texts(self) -> dict[str, str]:
        """The last good text of every manifest, by file name. Raises EnvironmentFault without any."""
        try:
            texts = memory.texts(Path(self.settings.state_dir) / memory.FILE)
        except PeerError as error:
            raise EnvironmentFault(error.message, hint=error.hint) from error
        if not texts:
            raise EnvironmentFault(
                f"the shim of {self.node.name} has not read its manifests yet",
                hint=f"invoke lab.logs {self.node.name}/shim",
            )
        return texts

    def cache(self) -> Mapping[str, Any] | None:
        """What the shim shows of its memory (`shim.views.cache`); None where it cannot be asked."""
        try:
            return dict(self.node.shim.http_get(views.CACHE).json())
        except (OSError, http.client.HTTPException):
            return None

    def learnings(self, selectors: Iterable[FQDNSelector]) -> Learnings:
        """What names are known to resolve to; `selectors`: those of the node."""
        view = self.cache()
        if view is None:
            return Learnings(tuple(self._from_kernel(selectors)))
        return Learnings(tuple(map(learning, view["addresses"])))

    def opened(self, selectors: Iterable[FQDNSelector]) -> dict[FQDNSelector, frozenset[IPv4Address]]:
        """What these selectors have opened in the kernel."""
        with netns.keeping(self.node.place.open()) as inside:
            return netns.in_namespace(inside.net, lambda: _opened(selectors))

    def connections(self) -> list[Connection]:
        """The live connections that an egress rule has opened."""
        with netns.keeping(self.node.place.open()) as inside:
            return netns.in_namespace(inside.net, conntrack.live_connections)

    def meanings(self) -> Mapping[str, Meaning]:
        """What the ids of the kernel's rules, sets and chains stand for."""
        return meanings(
            self._log("ledger.log", ledger_file.FORMAT, ledger_file.VERSION), below=f"{self.folder}/"
        )

    def counters(self) -> Mapping[str, tuple[int, int]]:
        """Id → packets and bytes."""
        with netns.keeping(self.node.place.open()) as inside:
            return netns.in_namespace(inside.net, _counters)

    def _from_kernel(self, selectors: Iterable[FQDNSelector]) -> list[Learning]:
        return [
            Learning(None, address, (selector,), expires_at=0.0, of_kernel=True)
            for selector, addresses in self.opened(selectors).items()
            for address in addresses
        ]

    def _log(self, file: str, form: str, version: int) -> tuple[Any, ...]:
        try:
            return statelog.read(Path(self.settings.state_dir) / file, form, version)
        except PeerError as error:
            raise EnvironmentFault(error.message, hint=error.hint) from error


def meanings(ledger: Iterable[Any], below: str) -> dict[str, Meaning]:
    """What a ledger's lines say, with the folder that places of rules are `below` left out."""
    found: dict[str, Meaning] = {}
    for value in ledger:
        for id_, one in value["ids"].items():
            origins = tuple(origin.replace(below, "") for origin in one["origins"])
            found[id_] = Meaning(one["kind"], one["text"], origins)
    return found


def learning(entry: Mapping[str, Any]) -> Learning:
    """One of the addresses that `cache` lists."""
    return Learning(
        names.from_text(entry["name"]) if entry["name"] else None,
        IPv4Address(entry["address"]),
        tuple(map(_selector, entry["opens"])),
        entry["expires_at"],
        entry["learned_at"],
        entry["asked_by"],
    )


def _selector(key: str) -> FQDNSelector:
    kind, _, text = key.partition(":")
    return FQDNSelector("name" if kind == "name" else "pattern", text)


def _opened(selectors: Iterable[FQDNSelector]) -> dict[FQDNSelector, frozenset[IPv4Address]]:
    elements = Elements(refresh_by_re_adding=True)  # nothing is written
    try:
        found = elements.read()
    except NoSuchSet:
        return {}
    finally:
        elements.close()
    return {one: frozenset(map(IPv4Address, found.get(selector_id(one), ()))) for one in selectors}


def _counters() -> dict[str, tuple[int, int]]:
    socket = NetfilterSocket()
    try:
        return read_counters(socket)
    finally:
        socket.close()
