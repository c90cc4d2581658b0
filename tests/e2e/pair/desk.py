"""Where a test edits policies: manifests written, removed, and at the end as they were before."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from acns.datapath.nfnetlink import NetfilterSocket
from lab.kernel import netns
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab

from .wire import until

_COUNTED = re.compile(r"packets \d+ bytes \d+")
_ELEMENTS = re.compile(r"elements = \{[^}]*\}")


def policy(name: str, *, asks: Iterable[str] = (), connects: Iterable[str] = ()) -> str:
    """A CiliumNetworkPolicy for `batch`: names it may ask the cluster's DNS for, and connect to on 443."""
    egress: list[dict[str, Any]] = []
    if names := [{"matchName": one} for one in asks]:
        labels = {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}
        ports = [{"port": "53", "protocol": "ANY"}]
        egress.append(
            {"toEndpoints": [{"matchLabels": labels}], "toPorts": [{"ports": ports, "rules": {"dns": names}}]}
        )
    if names := [{"matchName": one} for one in connects]:
        egress.append({"toFQDNs": names, "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]})
    manifest = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "batch"}}, "egress": egress},
    }
    return yaml.safe_dump(manifest, sort_keys=False)


class Desk:
    """The manifests of a lab's one node, and the kernel that they end up in."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node: NodeHandle = lab.nodes[0]
        namespace = self.node.netns_fd()
        try:
            self._netfilter = netns.in_namespace(namespace, NetfilterSocket)
        finally:
            os.close(namespace)

    @classmethod
    @contextmanager
    def of(cls, lab: Lab) -> Iterator[Desk]:
        """A desk that is tidied up at the end: the kernel has the rules it had before."""
        desk = cls(lab)
        before = desk.shape()
        try:
            yield desk
        finally:
            desk.restore()
            until(lambda: desk.shape() == before and not desk.problems(), "the policies are as they were")
            desk._netfilter.close()

    def write(self, filename: str, text: str) -> None:
        self.lab.write_manifest(filename, text)

    def remove(self, filename: str) -> None:
        self.lab.remove_manifest(filename)

    def path(self, filename: str) -> Path:
        return self.node.manifests / filename

    def original(self, filename: str) -> str:
        """A file's text as the topology has it."""
        return self.lab.order.manifests[filename]

    def restore(self) -> None:
        for path in self.node.manifests.iterdir():
            if path.name not in self.lab.order.manifests:
                self.remove(path.name)
        for filename, text in self.lab.order.manifests.items():
            self.write(filename, text)

    def problems(self) -> list[str]:
        """What the shim finds wrong (not only doubtful) with the files, in its own words."""
        found = self.node.shim.http_get("/readyz").json()["problems"]
        return [problem for problem in found if " warning: " not in problem]

    def in_kernel(self, name: str) -> bool:
        """Whether any rule of the kernel opens what that name resolves to."""
        return f" fqdn:name:{name}. " in self.node.ruleset()

    def wait_in_kernel(self, name: str) -> None:
        until(lambda: self.in_kernel(name), f"{name} is in the kernel")

    def wait_gone(self, name: str) -> None:
        until(lambda: not self.in_kernel(name), f"{name} is gone from the kernel")

    def commits(self) -> int:
        """The ruleset's generation: it grows with every change of anything in it."""
        return self._netfilter.generation()

    def shape(self) -> list[str]:
        """The rules without counts, and without what comes and goes with answers."""
        text = _ELEMENTS.sub("", _COUNTED.sub("", self.node.ruleset()))
        return sorted(line.strip() for line in text.splitlines() if line.strip())
