"""Topologies on a kind cluster, by the words in which a lab of namespaces is asked: one cluster for all,
changed in place from one to the next."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest

from lab.backends.kind import objects, store
from lab.backends.kind.kind_lab import KindLab
from lab.spec.expect import Row
from lab.spec.status import Status
from lab.spec.topology import Topology


@dataclass
class OnKind:
    """One topology on the cluster. `left_out`: the statements that were not tried there, with reasons."""

    lab: KindLab
    left_out: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.lab.name

    @property
    def topology(self) -> Topology:
        return self.lab.topology

    def check(self) -> list[Row]:
        rows, self.left_out = self.lab.check()
        return rows

    def status(self) -> Status:
        return self.lab.status()

    def restarts(self, agent: str) -> int:
        """How often its containers have been started again, on all nodes."""
        pods = self.lab.tools.get("pods", "-n", objects.AGENTS)
        mine = (one for one in pods if one["metadata"]["name"].startswith(f"acns-{agent}-"))
        return sum(one["status"]["containerStatuses"][0]["restartCount"] for one in mine)


class Cluster:
    """Made when the first topology needs it; ends with the session, unless ACNS_KEEP_CLUSTER is set."""

    def __init__(self, name: str) -> None:
        self.store = store.of(name)
        self.version = os.environ.get("ACNS_K8S_VERSION", "")
        self.lab: KindLab | None = None

    def up(self, topology: Topology) -> OnKind:
        if reasons := objects.unsupported(topology):
            pytest.skip(f"not on kind: {'; '.join(reasons)}")
        self.lab = KindLab(self.store, topology)
        self.lab.up(print, version=self.version)
        return OnKind(self.lab)

    def end(self) -> None:
        if self.lab and not os.environ.get("ACNS_KEEP_CLUSTER"):
            self.lab.down()
