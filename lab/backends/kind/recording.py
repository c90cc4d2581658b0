"""A lab on kind as one that is recorded: a recorder for each node and for the Internet, asked as one.

What pods are called in the file, and which of a node's links is whose, is the cluster's and the nodes' word:
of a node's routes those to one pod, and the API server's pods by their addresses.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

from acns.policy.cluster import Cluster
from acns.policy.objects import Pod
from lab.backends.kind import cluster, explaining, observing, recorders
from lab.backends.kind.kind_lab import KindLab
from lab.backends.network import INTERNET, node_place
from lab.capture import decisions as deciding
from lab.capture import subject
from lab.capture.decisions import Decisions
from lab.capture.subject import Link, Subject
from lab.errors import InputError, LabNotFound

_LISTS: Final = ("tapes", "counts")
Reply = tuple[dict[str, Any], bytes]
"""What a recorder said, and the blocks."""


class OnKind:
    """`lab.capture.subject.Recordable`, of a cluster that runs."""

    def __init__(self, lab: KindLab) -> None:
        self._lab = lab

    @property
    def name(self) -> str:
        return self._lab.name

    @property
    def kept_file(self) -> Path:
        return self._lab.store.path / "stopped-capture"

    def asked(self, request: Mapping[str, Any]) -> BinaryIO:
        """Of all recorders; where one refuses, its refusal."""
        replies: list[Reply] = []
        parts = dict(self._parts(request))
        for place, part in parts.items():
            replies.append(reply := self._ask(place, part))
            if reply[0].get("error"):
                self._take_back(request, list(parts)[: len(replies) - 1])
                return io.BytesIO(_line(reply[0]))
        return io.BytesIO(
            _line(_joined(said for said, _ in replies)) + b"".join(octets for _, octets in replies)
        )

    def everywhere(self) -> list[Link]:
        return [(place, "") for place in recorders.places(self._lab)]

    def link(self, word: str) -> Link:
        """`frontend`, `kube-system/coredns-abc12`, `node1` or as the cluster calls it, `internet`."""
        owner, interface = subject.owner(word)
        placed = cluster.placing(self._lab.topology, self.name, None)
        nodes = cluster.node_names(self.name, self._lab.store.nodes())
        if owner == INTERNET:
            return INTERNET, interface
        if placed.get(owner, owner) in nodes:
            return node_place(placed.get(owner, owner)), interface
        if interface != "eth0":
            raise InputError(f"nothing of {word} is recorded: it stays in the pod", hint=f"{owner}/eth0")
        return self._link_of(self.pod(owner))

    def followed(self, word: str) -> str:
        """A pod of a cluster that is made anew is another one."""
        return ""

    def pod(self, where: str) -> Pod:
        """Of the lab's, or of the cluster's by namespace and name."""
        known = {pod.key: pod for pod in self._cluster.pods if pod.is_endpoint}
        if where in known:
            return known[where]
        key = "/".join(self._lab.pod(where))
        if key not in known:
            raise LabNotFound(f"pod {key} has no address yet", hint="invoke lab.status")
        return known[key]

    def subject(self) -> Subject:
        return Subject(
            title=f"lab {self.name} on kind (topology {self._lab.topology.name})",
            links={
                link: subject.pod_link(pod.namespace, pod.name)
                for pod in self._cluster.pods
                if (link := self._links.get(str(pod.pod_ip))) and pod.is_endpoint
            },
            names=self._names(),
            services=frozenset(str(ip) for one in self._cluster.services for ip in one.cluster_ips),
        )

    def decisions(self) -> Decisions:
        sources = observing.sources(self._lab, self._cluster)
        return deciding.gather(observing.journals(self._lab), sources)

    # --- recorders ------------------------------------------------------------------------------------------

    def _parts(self, request: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Which recorder is to be asked what."""
        where = list(recorders.places(self._lab))
        if request["op"] == "start":
            links = request["links"]
            for place in where:
                if own := [link for link in links if link["place"] == place]:
                    size = request["size_bytes"] // len(links) * len(own)
                    yield place, {**request, "links": own, "size_bytes": size}
            return
        if request["op"] == "stop" or request.get("which") == "started":
            where = self._started() or where  # where nobody captures, each of them says so
        yield from ((place, request) for place in where)

    def _started(self) -> list[str]:
        return [
            place
            for place in recorders.places(self._lab)
            if self._ask(place, {"op": "status"})[0].get("started")
        ]

    def _take_back(self, request: Mapping[str, Any], asked: Iterable[str]) -> None:
        if request["op"] == "start":
            for place in asked:
                self._ask(place, {"op": "stop"})

    def _ask(self, place: str, request: Mapping[str, Any]) -> Reply:
        line, _, octets = recorders.ask(self._lab, place, request).partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said, octets

    # --- what the cluster says ------------------------------------------------------------------------------

    @cached_property
    def _cluster(self) -> Cluster:
        return explaining.given(self._lab).overview.cluster

    @cached_property
    def _links(self) -> dict[str, Link]:
        """A pod's address → its node's end of its link."""
        found: dict[str, Link] = {}
        for node in cluster.node_names(self.name, self._lab.store.nodes()):
            routes = json.loads(self._lab.tools.docker("exec", node, "ip", "-j", "route").out or "[]")
            found |= {
                one["dst"]: (node_place(node), one["dev"])
                for one in routes
                if "/" not in one["dst"] and "gateway" not in one
            }
        return found

    def _link_of(self, pod: Pod) -> Link:
        try:
            return self._links[str(pod.pod_ip)]
        except KeyError:
            raise LabNotFound(
                f"no node has a route to {pod.key} ({pod.pod_ip})",
                hint="lab.fault link ok POD, if it is down",
            ) from None

    def _names(self) -> dict[str, list[str]]:
        """Pods, nodes and Services; then what the Internet has."""
        named: dict[str, list[str]] = defaultdict(list)
        for pod in self._cluster.pods:
            if pod.is_endpoint:
                named[str(pod.pod_ip)].append(subject.pod_name(pod.namespace, pod.name))
        for node in self._cluster.nodes:
            for address in node.addresses:
                named[str(address)].append(node.name)
        for service in self._cluster.services:
            for address in service.cluster_ips:
                named[str(address)].append(f"{service.name}.{service.namespace}.svc")
        for called, names in subject.internet_names(self._lab.topology).items():
            named[called] += names
        return named


def _joined(said: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """As one recorder would say it: its places' tapes and counts, and of the rest what the first says that
    says anything; the last time of reading."""
    found: dict[str, Any] = {}
    for one in said:
        for key, value in one.items():
            if key in _LISTS:
                found[key] = [*found.get(key, []), *value]
            elif key == "read_at_ns":
                found[key] = max(found.get(key, 0), value)
            else:
                found[key] = found.get(key) or value
    return found


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"
