"""A lab of namespaces as one that is recorded: one recorder for all its places, on a unix socket."""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lab.backends.network import INTERNET, node_place
from lab.backends.programs import RECORDER
from lab.capture import decisions as deciding
from lab.capture import subject
from lab.capture.decisions import Decisions
from lab.capture.subject import Link, Subject
from lab.errors import HolderGone, InputError
from lab.runtime.growing import GrowingFile
from lab.runtime.lab import Lab
from lab.runtime.observe import sources_of
from lab.spec.topology import AGENTS


class OfNamespaces:
    """`lab.capture.subject.Recordable`, of a running lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def name(self) -> str:
        return self._lab.name

    @property
    def kept_file(self) -> Path:
        return self._lab.folder.path / "stopped-capture"

    def asked(self, request: Mapping[str, Any]) -> BinaryIO:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with connection:
            connection.settimeout(60.0)
            try:
                connection.connect(str(self._lab.folder.recorder_socket))
            except OSError as error:
                raise HolderGone(
                    f"the recorder of lab {self.name} does not answer: {error.strerror}",
                    hint=f"invoke lab.logs {RECORDER} --name {self.name}; a lab made by older code has none",
                ) from error
            connection.sendall(json.dumps(request).encode() + b"\n")
            return connection.makefile("rb")

    def everywhere(self) -> list[Link]:
        return [(place, "") for place in (INTERNET, *(node_place(node.name) for node in self._lab.nodes))]

    def link(self, word: str) -> Link:
        """`frontend`, `frontend/eth0`, `kube-system/kube-dns`, `node1/lo`, `internet`."""
        owner, interface = subject.owner(word)
        if owner == INTERNET:
            return INTERNET, interface
        if owner in (node.name for node in self._lab.nodes):
            return node_place(owner), interface
        pod = self._lab.pod(owner)
        if interface != "eth0":
            raise InputError(f"nothing of {word} is recorded: it stays in the pod", hint=f"{owner}/eth0")
        return node_place(pod.node), pod.node_iface

    def followed(self, word: str) -> str:
        owner, _ = subject.owner(word)
        others = (INTERNET, *(node.name for node in self._lab.nodes))
        return "" if owner in others else self._lab.pod(owner).plan.key

    def subject(self) -> Subject:
        lab = self._lab
        pods = lab.addressing.pods
        return Subject(
            title=f"lab {lab.name} (topology {lab.topology.name}, order {lab.order.digest[:12]})",
            links={
                (node_place(one.node), one.node_interface): subject.pod_link(one.namespace, one.name)
                for one in pods
            },
            names=self._names(),
            services=frozenset(str(one.cluster_ip) for one in lab.topology.services),
        )

    def decisions(self) -> Decisions:
        return deciding.gather(self._journals(), sources_of(self._lab))

    def _names(self) -> dict[str, list[str]]:
        """Pods, nodes and Services; then what the Internet has."""
        lab = self._lab
        named: dict[str, list[str]] = defaultdict(list)
        for pod in lab.addressing.pods:
            for address in (pod.address, pod.address_v6):
                named[str(address)].append(subject.pod_name(pod.namespace, pod.name))
        for node in lab.addressing.nodes:
            for address in (node.address, node.address_v6):
                named[str(address)].append(node.name)
        for service in lab.topology.services:
            named[str(service.cluster_ip)].append(f"{service.name}.{service.namespace}.svc")
        for address_, names in subject.internet_names(lab.topology).items():
            named[address_] += names
        return named

    def _journals(self) -> Iterator[tuple[str, bytes]]:
        for node in self._lab.nodes:
            for agent in reversed(AGENTS):
                file = GrowingFile(self._lab.folder.node(node.name) / f"{agent}-journal.jsonl")
                yield from ((node.name, line) for line in file.new_lines())
                file.close()
