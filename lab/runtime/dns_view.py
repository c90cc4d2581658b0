"""What a node's resolver cannot know of a query: which pod asked, and which rule would have let it.

In a lab of namespaces both are read from the manifests that the node's agents go by: the last good text of
each file, from the shim's own memory of them; the files themselves where it has none. They are read again
when they have changed. What is missing can be said only as long as the policy still refuses the name.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

from acns import textfile
from acns.dns import name as names
from acns.errors import AcnsError, InputError
from acns.policy import manifests, verdict
from acns.policy.cluster import Cluster
from acns.policy.model import Enforcement, NodePolicy, identity_key
from acns.policy.objects import Object
from acns.policy.profiles import Profile
from acns.policy.resolve import resolve
from acns.shim.flow_scene import Scene, policy_refs
from acns.shim.settings import ShimSettings
from acns.shim.sources import listing, memory
from acns.telemetry.flows import DNSMessage, DropReason, Flow, L4Protocol, Peer, PolicyRef, Verdict
from lab.runtime.handles import NodeHandle

_PROTOCOLS = {L4Protocol.TCP: 6, L4Protocol.UDP: 17}

Version = Mapping[str, listing.Stamp]
"""Of each manifest."""


class View:
    """One node's, as `scene` has it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def refresh(self) -> None:
        """Go by what is there now, where that can be seen."""

    def who(self, address: str) -> Peer:
        """Who is at an address."""
        try:
            return self._scene.peer(IPv4Address(address))
        except AddressValueError:
            return Peer(address)

    def explained(self, flow: Flow) -> Flow:
        """A query with what refused it, or let it through; other flows as they are."""
        if flow.dns is None or flow.dns.is_answer:
            return flow
        if flow.verdict is Verdict.FORWARDED:
            return replace(flow, policies=self.allowing(flow))
        if flow.reason is not DropReason.POLICY_DENIED:
            return flow
        policies, note = self._missing(flow, flow.dns)
        return replace(flow, policies=policies, notes=(*flow.notes, note))

    def allowing(self, flow: Flow) -> tuple[PolicyRef, ...]:
        """Whose rule opens the name of a query, as the manifests are now."""
        try:
            asker = self._scene.local(IPv4Address(flow.source.address))
            server, name = (
                IPv4Address(flow.destination.address),
                names.from_text(flow.dns.query if flow.dns else ""),
            )
        except ValueError:
            return ()
        if asker is None or flow.l4 is None:
            return ()
        protocol, port = _PROTOCOLS[flow.l4.protocol], flow.l4.destination_port
        found = verdict.name_verdict(asker, self._scene.policy, server, protocol, port, name)
        return policy_refs([found.allow.origin]) if found.allow else ()

    def _missing(self, flow: Flow, dns: DNSMessage) -> tuple[tuple[PolicyRef, ...], str]:
        """Whose rules refuse the name, and in what they lack."""
        try:
            asker = self._scene.local(IPv4Address(flow.source.address))
            server, name = IPv4Address(flow.destination.address), names.from_text(dns.query)
        except ValueError:
            return (), "the name cannot be read"
        if asker is None or flow.l4 is None:
            return (), "no pod of this node has that address now"
        protocol, port = _PROTOCOLS[flow.l4.protocol], flow.l4.destination_port
        found = verdict.name_verdict(asker, self._scene.policy, server, protocol, port, name)
        if found.allow is not None:
            return policy_refs([found.allow.origin]), "the policy has changed since: it allows the name now"
        if not found.redirects:
            return (), "the policy has changed since: it does not look at this server's names now"
        return policy_refs(
            one.origin for one in found.redirects
        ), "no name or pattern of its rules.dns matches"


class DNSView(View):
    """Of a lab of namespaces. `shim_settings`: what the node's shim was started with."""

    def __init__(self, node: NodeHandle, shim_settings: ShimSettings) -> None:
        super().__init__(Scene(Cluster(), NodePolicy(node.name, (), frozenset(), frozenset(), frozenset())))
        self._node = node
        self._settings = shim_settings
        self._memory = Path(shim_settings.state_dir) / memory.FILE
        self._version: Version | listing.Stamp | None = None

    def refresh(self) -> None:
        """Go by what the shim goes by now; where lab or node are gone, as it was."""
        try:
            version = _stamp(self._memory) or listing.stamps(self._node.manifests)
            if version != self._version:
                self._scene, self._version = self._read(), version
        except OSError:
            return

    def _read(self) -> Scene:
        objects: list[Object] = []
        for name, text in (self._in_force() or self._written()).items():
            path = str(self._node.manifests / name)
            objects += manifests.parse(text, path, Profile(self._settings.profile)).objects
        cluster = Cluster.of(objects)
        policy = resolve(cluster, self._node.name, enforcement=Enforcement(self._settings.enforcement))
        said = cache(self._said)
        return Scene(
            cluster,
            policy,
            identities=lambda: _identities(policy, said()),
            endpoints=lambda: {key: one.get("id", 0) for key, one in said().items()},
        )

    def _in_force(self) -> Mapping[str, str]:
        """What the shim goes by, by file name; none where that cannot be read."""
        try:
            return memory.texts(self._memory)
        except AcnsError:
            return {}

    def _written(self) -> Mapping[str, str]:
        found = {}
        for name in listing.stamps(self._node.manifests):
            with contextlib.suppress(InputError):  # the shim says what is wrong with it
                found[name] = textfile.read(self._node.manifests / name)
        return found

    def _said(self) -> Mapping[str, Any]:
        """What the shim says of its endpoints, by their keys."""
        try:
            return dict(self._node.shim.http_get("/readyz").json().get("endpoints", {}))
        except (OSError, ValueError, http.client.HTTPException):
            return {}


def _identities(policy: NodePolicy, said: Mapping[str, Any]) -> Mapping[str, int]:
    """Identity key → number, for this node's pods, as the shim has given them out."""
    return {
        identity_key(one.endpoint.labels): said[one.endpoint.key]["identity"]
        for one in policy.endpoints
        if one.endpoint.key in said
    }


def _stamp(path: Path) -> listing.Stamp | None:
    """Which version of a file is there; None where there is none."""
    try:
        return listing.Stamp.of(path.stat())
    except OSError:
        return None
